"""`auricle tokenizer`: build one from transcripts, and look at one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auricle.cli.options import BARE, Overwrite, Quiet
from auricle.cli.outputs import refuse_file_name
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.tokenizers import Tokenizer

app = typer.Typer(help="Build and show tokenizers.", rich_markup_mode=None, **BARE)

_MODEL = "tokenizer.model"
_SHOWN = 40  # pieces
_UNKNOWN = frozenset(("<unk>", "[UNK]"))


class Kind(StrEnum):
    """How text is cut into pieces."""

    UNIGRAM = "unigram"
    BPE = "bpe"
    CHAR = "char"


class Text(StrEnum):
    """How text is written before it is learnt from; as `data.text` of a recipe."""

    LOWER = "lower"
    AS_IS = "as_is"
    UPPER = "upper"
    PLAIN = "plain"


@app.command("build")
def build(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCES...",
            help="Manifests (.json, .jsonl), else text files by lines; .gz too.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Where to write: a folder for the tokenizer's files."),
    ],
    *,
    size: Annotated[int, typer.Option(help="Pieces, special ones too; of char at most.")] = 1024,
    kind: Annotated[Kind, typer.Option(help="The way of cutting.")] = Kind.UNIGRAM,
    text: Annotated[
        Text,
        typer.Option(
            help="Write it so first. The tokenizer itself lower-cases after lower and plain "
            "(which drops punctuation too), as NeMo's do."
        ),
    ] = Text.LOWER,
    coverage: Annotated[
        float, typer.Option(help="Share of the characters; below 1 for Chinese or Japanese.")
    ] = 1.0,
    special: Annotated[
        list[str] | None, typer.Option(help="A piece that is never cut; may be repeated.")
    ] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="A piece that no text has; may be repeated.")
    ] = None,
    bos: Annotated[bool, typer.Option("--bos", help="Add <s>.")] = False,
    eos: Annotated[bool, typer.Option("--eos", help="Add </s>.")] = False,
    pad: Annotated[bool, typer.Option("--pad", help="Add <pad>.")] = False,
    byte_fallback: Annotated[
        bool, typer.Option("--byte-fallback", help="Unknown characters as bytes.")
    ] = False,
    split_digits: Annotated[
        bool, typer.Option("--split-digits", help="Each digit a piece.")
    ] = False,
    max_piece_length: Annotated[
        int | None, typer.Option(help="Characters of a piece at most; else 16.")
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Learn from so many texts only.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Build a tokenizer from the transcripts of manifests, or from text files.

    The folder holds tokenizer.model, tokenizer.vocab and vocab.txt: a recipe takes it as
    tokenizer.path, and NeMo as tokenizer.dir. The same text gives the same files.
    """
    refuse_file_name(output, "a tokenizer")
    if (output / _MODEL).exists() and not overwrite:
        raise ConfigError(f"{output} holds a tokenizer already: --overwrite replaces it")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file: give another name for the folder")
    from auricle.training import tokenizing
    from auricle.training.recipe import TokenizerRecipe
    from auricle.training.texts import normalise

    recipe = TokenizerRecipe(
        kind=kind.value, size=size, character_coverage=coverage, special=tuple(special or ())
    )
    for piece in recipe.special:
        if (written := normalise(piece, text.value)) != piece:
            raise ConfigError(
                f"--special {piece} is never met: --text {text.value} writes it {written!r}"
            )
    options = tokenizing.BuildOptions(
        fold_case=text in (Text.LOWER, Text.PLAIN),
        control=tuple(control or ()),
        bos=bos,
        eos=eos,
        pad=pad,
        byte_fallback=byte_fallback,
        split_digits=split_digits,
        max_piece_length=max_piece_length,
        sample=sample,
    )
    count = 0

    def texts() -> Iterator[str]:
        nonlocal count
        for line in chain.from_iterable(map(tokenizing.read_texts, sources)):
            count += 1
            yield normalise(line, text.value)
        if not quiet:
            typer.echo(f"auricle: building from {count} texts", err=True)

    built = tokenizing.build(texts(), recipe, options)
    tokenizing.save(built, output)
    typer.echo(f"{output}\t{kind.value}\t{len(built.pieces)} pieces")


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(help="A tokenizer's folder or .model file; or a model's folder or name."),
    ],
    text: Annotated[str | None, typer.Argument(help="Text to cut into pieces.")] = None,
    language: Annotated[
        str | None, typer.Option(help="The language: of the text, for a tokenizer of several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show a tokenizer, and what it makes of a text."""
    from auricle.recognizer import locate
    from auricle.training.tokenizing import open_tokenizer

    path = Path(name).expanduser()
    tokenizer = open_tokenizer(path if path.exists() else locate(name))
    facts = _facts(tokenizer) if text is None else _cut(tokenizer, text, language)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        if value not in ([], ""):
            typer.echo(f"{key:<{width}}  {_line(value)}")


def _facts(tokenizer: Tokenizer) -> dict[str, Any]:
    from auricle.tokenizers import SPACE

    kind, special, bytes_ = _kind(tokenizer)
    ordinary = [piece for piece in tokenizer.pieces if piece not in {*special, *bytes_}]
    characters = sorted(set("".join(ordinary)) - {SPACE})
    return {
        "kind": kind,
        "size": len(tokenizer.pieces),
        "languages": list(tokenizer.languages),
        "special": special,
        "byte_fallback": bool(bytes_),
        "characters": characters,
        "longest": max(ordinary, key=len, default=""),
        "pieces": ordinary[:_SHOWN],
    }


def _cut(tokenizer: Tokenizer, text: str, language: str | None) -> dict[str, Any]:
    """What becomes of a text; `round_trip` is False where it does not come back as it was."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError("the text is not UTF-8; give it in UTF-8")
    ids = tokenizer.encode(text, language)
    back = tokenizer.decode(ids)
    plain = text
    for piece in _kind(tokenizer)[1]:
        plain = plain.replace(piece, "")

    def is_unknown(character: str) -> bool:
        own = [tokenizer.pieces[i] for i in tokenizer.encode(character, language)]
        return not own or not _UNKNOWN.isdisjoint(own)

    return {
        "text": text,
        "pieces": [tokenizer.pieces[i] for i in ids],
        "ids": ids,
        "unknown": [c for c in dict.fromkeys(plain) if not c.isspace() and is_unknown(c)],
        "decoded": back,
        "round_trip": back == text,
    }


def _kind(tokenizer: Tokenizer) -> tuple[str, list[str], list[str]]:
    """Its kind, its special pieces, and those that stand for bytes."""
    from auricle.checkpoints import sentencepiece_model as spm
    from auricle.tokenizers import SentencePieceTokenizer

    if not isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer.spec["kind"], [], []
    model = spm.parse(tokenizer.model)
    names = {spm.UNIGRAM: "unigram", spm.BPE: "bpe", spm.WORD: "word", spm.CHAR: "char"}
    special = (spm.UNKNOWN, spm.CONTROL, spm.USER_DEFINED)
    return (
        names.get(model.algorithm, "sentencepiece"),
        [piece.text for piece in model.pieces if piece.kind in special],
        [piece.text for piece in model.pieces if piece.kind == spm.BYTE],
    )


def _line(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
