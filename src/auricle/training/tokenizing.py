"""Tokenizers from the text that is learnt from, by sentencepiece; the same text, the same bytes.

What is made holds no path and no time. Sounds are not read here.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auricle import manifests
from auricle.checkpoints.sentencepiece_model import tokenizer_folder
from auricle.errors import CheckpointError, ConfigError, ManifestError, first_line
from auricle.files import write_atomic
from auricle.tokenizers import (
    SentencePieceTokenizer,
    Tokenizer,
    from_files,
)
from auricle.training.recipe import TokenizerRecipe

MODEL = "tokenizer.model"
SPEC = "auricle_tokenizer.json"  # of kinds whose files alone do not tell what they are
_LARGEST = 2**31 - 1  # pieces that sentencepiece counts
_LONGEST_PIECE = 512  # what sentencepiece's trainer takes
_KINDS = {MODEL: "sentencepiece", "vocab.txt": "wordpiece", "labels.json": "char"}

_LONGEST = 1 << 20  # bytes of a text; sentencepiece's own bound of 4192 drops longer ones silently
_ALL_CHARACTERS = 1 << 20
_TOO_LARGE = re.compile(r"Please set it to a value <= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_COMPLAINT = re.compile(r"^\w+: \S+\(\d+\) \[.*?\] ")


@dataclass(frozen=True)
class BuildOptions:
    """What a recipe has no key for.

    `fold_case` puts lower-casing into the tokenizer itself, as NeMo's script does. `control` pieces
    stand for nothing in a text, unlike the recipe's `special` ones. `sample` texts are drawn by a
    fixed seed where there are more.
    """

    fold_case: bool = False
    control: tuple[str, ...] = ()
    bos: bool = False
    eos: bool = False
    pad: bool = False
    byte_fallback: bool = False
    split_digits: bool = False
    max_piece_length: int | None = None
    sample: int | None = None


def build(
    texts: Iterable[str], recipe: TokenizerRecipe, options: BuildOptions = BuildOptions()
) -> Tokenizer:
    """The tokenizer of a recipe: the one at its `path`, else one made of `texts`.

    `size` counts all pieces, special ones too, and is met exactly; for `char` it is an upper bound.

    Raises:
        ConfigError: The size does not fit the text; it says which sizes do. Or a bad option.
        ManifestError: There is no text.
        CheckpointError: The tokenizer at `path` cannot be read.
    """
    if recipe.path is not None:
        return open_tokenizer(Path(recipe.path).expanduser())
    _check(recipe, options)
    lines = _drawn(_usable(texts), options.sample)
    if not lines:
        raise ManifestError(
            "there is no text to build a tokenizer from; give manifests whose rows have text"
        )
    made = SentencePieceTokenizer(_trained(lines, recipe, options))
    if len(made.pieces) > recipe.size:
        raise _too_small(recipe, len(made.pieces))
    return made


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `.model` file, of a folder that `save` or NeMo wrote, or of a checkpoint.

    Raises:
        ConfigError: There is no such file or folder.
        CheckpointError: It holds no tokenizer, or a damaged one.
    """
    if not path.exists():
        raise ConfigError(f"there is no tokenizer at {path}: no such file or folder")
    if path.is_file() and path.suffix == ".model":
        return SentencePieceTokenizer(path.read_bytes())
    if path.is_file() or (path / "config.json").exists() or (path / "model_config.yaml").exists():
        from auricle import checkpoints

        return checkpoints.load(path).tokenizer
    if (path / SPEC).exists():
        return _described(path)
    for name, kind in _KINDS.items():
        if (path / name).exists():
            try:
                return from_files({"kind": kind}, {name: (path / name).read_bytes()})
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise CheckpointError(f"{path / name} is damaged: {error}") from None
    raise CheckpointError(f"{path} holds no {MODEL}; `auricle tokenizer build` makes one")


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write any tokenizer's files; a sentencepiece model's folder is also NeMo's `tokenizer.dir`.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    files = tokenizer.files()
    last = MODEL  # where it is, all is
    if isinstance(tokenizer, SentencePieceTokenizer):
        files = tokenizer_folder(tokenizer.model)
    elif tokenizer.spec["kind"] not in _KINDS.values():
        last = SPEC
        files = {**files, SPEC: (json.dumps(tokenizer.spec, ensure_ascii=False) + "\n").encode()}
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == last):
        write_atomic(folder / name, files[name])


def _described(path: Path) -> Tokenizer:
    """That of a folder with its `spec`, whose files may have any name."""
    try:
        spec = json.loads((path / SPEC).read_text(encoding="utf-8"))
        found = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
        return from_files(spec, found)
    except (UnicodeDecodeError, json.JSONDecodeError, ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / SPEC} is damaged: {first_line(error)}") from None


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a manifest's rows that have one, or the lines of a text file; gzip by suffix.

    Raises:
        ManifestError: It cannot be read; the message names the file and the line.
    """
    if manifests.is_manifest(path):
        yield from (row.text for row in manifests.read(path) if row.text)
        return
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}, line {number}: not UTF-8; save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ManifestError(f"{path}, line {number + 1}: damaged gzip: {error}") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from None


def _trained(lines: list[str], recipe: TokenizerRecipe, options: BuildOptions) -> bytes:
    """A sentencepiece model. The iterator and the writer keep paths out of it."""
    import sentencepiece

    ids = iter(range(1, 4))
    settings: dict[str, Any] = {
        "model_type": recipe.kind,
        "vocab_size": _ALL_CHARACTERS if recipe.kind == "char" else recipe.size,
        "use_all_vocab": recipe.kind == "char",
        "character_coverage": recipe.character_coverage,
        "user_defined_symbols": list(recipe.special),
        "control_symbols": list(options.control),
        "bos_id": next(ids) if options.bos else -1,
        "eos_id": next(ids) if options.eos else -1,
        "pad_id": next(ids) if options.pad else -1,
        "byte_fallback": options.byte_fallback,
        "split_digits": options.split_digits,
        "normalization_rule_name": "nmt_nfkc_cf" if options.fold_case else "nmt_nfkc",
        "max_sentence_length": _LONGEST,
        "minloglevel": 2,  # errors only: they come as exceptions
    }
    if options.max_piece_length is not None:
        settings["max_sentencepiece_length"] = options.max_piece_length
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, **settings
        )
    except RuntimeError as error:
        raise _refusal(str(error), recipe) from None
    return model.getvalue()


def _refusal(complaint: str, recipe: TokenizerRecipe) -> ConfigError:
    """What sentencepiece complains about, in our words."""
    if found := _TOO_LARGE.search(complaint):
        return ConfigError(
            f"a {recipe.kind} tokenizer of size {recipe.size} is too large for this text, which "
            f"gives {found[1]} pieces at most: take that size or less, or more text"
        )
    if found := _TOO_SMALL.search(complaint):
        return _too_small(recipe, int(found[1]))
    return ConfigError(f"the tokenizer cannot be built: {_COMPLAINT.sub('', complaint).strip()}")


def _too_small(recipe: TokenizerRecipe, needed: int) -> ConfigError:
    return ConfigError(
        f"a {recipe.kind} tokenizer of size {recipe.size} is too small for the characters of this "
        f"text, which take {needed} pieces: take that size or more, or lower character_coverage"
    )


def _usable(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if not text.strip():
            continue
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ManifestError(
                f"the text {text[:60]!a} holds half a character (a surrogate); mend that row"
            ) from None
        yield text


def _drawn(texts: Iterator[str], count: int | None) -> list[str]:
    """`count` of them in their order, each as likely as the other; all for None."""
    if count is None:
        return list(texts)
    rng, kept = random.Random(0), dict[int, tuple[int, str]]()
    for number, text in enumerate(texts):
        place = number if number < count else rng.randrange(number + 1)
        if place < count:
            kept[place] = number, text
    return [text for _, text in sorted(kept.values())]


def _check(recipe: TokenizerRecipe, options: BuildOptions) -> None:
    if recipe.size < 2:
        raise ConfigError(f"a tokenizer's size must be 2 or more, got {recipe.size}")
    if recipe.size > _LARGEST:
        raise ConfigError(f"a tokenizer's size must be {_LARGEST} or less, got {recipe.size}")
    if not 0.98 <= recipe.character_coverage <= 1:
        raise ConfigError(
            f"character_coverage must be from 0.98 to 1, got {recipe.character_coverage}"
        )
    if options.sample is not None and options.sample < 1:
        raise ConfigError(f"the sample must be 1 text or more, got {options.sample}")
    longest = options.max_piece_length
    if longest is not None and not 1 <= longest <= _LONGEST_PIECE:
        bound = "1 character or more" if longest < 1 else f"{_LONGEST_PIECE} characters or less"
        raise ConfigError(f"the length of a piece must be {bound}, got {longest}")
    names = (*recipe.special, *options.control)
    for name in names:
        if not name or re.search(r"\s|\u2581", name):
            raise ConfigError(f"the special piece {name!r} is empty or holds a space")
        if names.count(name) > 1 or name in ("<unk>", "<s>", "</s>", "<pad>"):
            raise ConfigError(
                f"the special piece {name} is there already; leave it out (<s>, </s> and <pad> "
                "have options of their own)"
            )
