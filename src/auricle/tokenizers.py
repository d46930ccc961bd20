"""Text to token ids and back, one class per kind of vocabulary.

`decode` gives what the reference's own detokeniser gives for the same ids, `<unk>` included.
A tokenizer never counts the blank: `len(pieces)` is the vocabulary size, and the blank is the id
after it. Knows nothing of models or folders; `spec` and `files()` are all that must be stored.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any, Protocol

from auricle.config import Within, fitted, shown
from auricle.errors import AuricleError, CheckpointError, ConfigError, first_line

_Size = Annotated[int, Within(0, 2**22)]
_UNREADABLE = "tokenizer.json cannot be read; take it from the original checkpoint again"
SPACE = "\u2581"  # how sentencepiece spells the space before a word


class Tokenizer(Protocol):
    """Every kind of vocabulary, seen from outside."""

    @property
    def pieces(self) -> tuple[str, ...]:
        """Each id's piece as the vocabulary spells it; the blank is not among them."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of an aggregate vocabulary in the order of their ids, else empty."""

    @property
    def spec(self) -> dict[str, Any]:
        """Plain JSON that, with `files()`, rebuilds this tokenizer by `from_files`."""

    def files(self) -> dict[str, bytes]:
        """File name to content of all that must be stored beside a model."""

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text`; an aggregate vocabulary needs `language`."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; blanks must have been taken out before."""

    def starts_word(self, id: int) -> bool:
        """Whether a new word begins with this token (for characters: right after this space)."""

    def language_of(self, ids: Sequence[int]) -> str | None:
        """The language that most of `ids` belong to; None without an aggregate vocabulary."""


class SentencePieceTokenizer:
    """A sentencepiece model, BPE or unigram, from the bytes of its `tokenizer.model`."""

    languages: tuple[str, ...] = ()

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = model
        self._processor: Any = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            ids = list(range(self._processor.GetPieceSize()))
            self.pieces: tuple[str, ...] = tuple(self._processor.IdToPiece(ids))
        except (RuntimeError, ValueError) as error:  # also a piece that is not UTF-8
            raise CheckpointError(
                "the sentencepiece model cannot be read; take tokenizer.model from the original "
                f"checkpoint again ({first_line(error)})"
            ) from None

    @property
    def spec(self) -> dict[str, Any]:
        """Plain JSON that, with `files()`, rebuilds this tokenizer."""
        return {"kind": "sentencepiece"}

    @property
    def model(self) -> bytes:
        """The serialised model."""
        return self._model

    def scores(self) -> list[float]:
        """The score of each piece, as `tokenizer.vocab` lists it."""
        return list(self._processor.GetScore(list(range(len(self.pieces)))))

    def files(self) -> dict[str, bytes]:
        """`tokenizer.model`."""
        return {"tokenizer.model": self._model}

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text`; the language has no meaning here."""
        return list(self._processor.EncodeAsIds(text))

    def decode(self, ids: Sequence[int]) -> str:
        """By pieces and not by ids: so `<unk>` becomes the sign sentencepiece prints for it."""
        return str(self._processor.DecodePieces([self.pieces[i] for i in ids]))

    def starts_word(self, id: int) -> bool:
        """A piece that carries the space before it."""
        return self.pieces[id].startswith(SPACE)

    def language_of(self, ids: Sequence[int]) -> str | None:
        """None: one vocabulary, no languages."""
        return None


class CharTokenizer:
    """One label per id: mostly single characters, a few longer labels are whole words."""

    languages: tuple[str, ...] = ()

    def __init__(self, labels: Sequence[str]) -> None:
        self.pieces = tuple(labels)
        self._ids = {label: i for i, label in enumerate(self.pieces)}

    @property
    def spec(self) -> dict[str, Any]:
        """Plain JSON that, with `files()`, rebuilds this tokenizer."""
        return {"kind": "char"}

    def files(self) -> dict[str, bytes]:
        """`labels.json`."""
        return {"labels.json": _json(list(self.pieces))}

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text`; characters that are no labels, not even in lower case, are left out."""
        ids: list[int | None] = []
        for number, word in enumerate(text.strip().split(" ")):
            if number:
                ids.append(self._ids.get(" "))
            if len(word) > 1 and word in self._ids:
                ids.append(self._ids[word])
            else:
                ids += [self._ids.get(c, self._ids.get(c.lower())) for c in word]
        return [i for i in ids if i is not None]

    def decode(self, ids: Sequence[int]) -> str:
        """The labels, joined."""
        return "".join([self.pieces[i] for i in ids])

    def starts_word(self, id: int) -> bool:
        """The space, which opens the next word."""
        return self.pieces[id] == " "

    def language_of(self, ids: Sequence[int]) -> str | None:
        """None: one vocabulary, no languages."""
        return None


class WordPieceTokenizer:
    """BERT's word pieces: `##` marks a piece that continues a word.

    Args:
        vocabulary: The pieces in the order of their ids, as in `vocab.txt`.
    """

    languages: tuple[str, ...] = ()

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.pieces = tuple(vocabulary)

    @cached_property
    def _tokenizer(self) -> Any:
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers

        vocabulary = {piece: i for i, piece in enumerate(self.pieces)}
        built = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        built.normalizer = normalizers.BertNormalizer(lowercase=False)
        built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return built

    @property
    def spec(self) -> dict[str, Any]:
        """Plain JSON that, with `files()`, rebuilds this tokenizer."""
        return {"kind": "wordpiece"}

    def files(self) -> dict[str, bytes]:
        """`vocab.txt`."""
        return {"vocab.txt": "".join(f"{piece}\n" for piece in self.pieces).encode()}

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text`; the language has no meaning here."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Pieces joined by spaces, continuations glued on."""
        return " ".join([self.pieces[i] for i in ids]).replace(" ##", "").strip()

    def starts_word(self, id: int) -> bool:
        """Any piece that does not continue one."""
        return not self.pieces[id].startswith("##")

    def language_of(self, ids: Sequence[int]) -> str | None:
        """None: one vocabulary, no languages."""
        return None


class HFTokenizer:
    """A Hugging Face `tokenizer.json`.

    Args:
        content: The file's bytes.
        size: Number of pieces the model emits, blank not counted.
        blank: The blank's id in the file, where the model's folder puts it before other pieces;
            ids of our models always end with the blank, so those behind it move down by one.
    """

    languages: tuple[str, ...] = ()

    def __init__(self, content: bytes, *, size: int, blank: int | None = None) -> None:
        import tokenizers

        self._content = content
        self._size = size
        self._blank = size if blank is None else blank
        with panics_refused(_UNREADABLE):
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(content.decode())

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Each id's piece; ids that the file does not name are spelled `<|ID|>`."""
        names = [self._tokenizer.id_to_token(self._theirs(i)) for i in range(self._size)]
        return tuple(f"<|{i}|>" if name is None else name for i, name in enumerate(names))

    @property
    def spec(self) -> dict[str, Any]:
        """Plain JSON that, with `files()`, rebuilds this tokenizer."""
        return {"kind": "huggingface", "size": self._size, "blank": self._blank}

    def files(self) -> dict[str, bytes]:
        """`tokenizer.json`."""
        return {"tokenizer.json": self._content}

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text`; the language has no meaning here."""
        with panics_refused(_UNREADABLE):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [i if i < self._blank else i - 1 for i in ids if i != self._blank]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; special tokens are left out."""
        theirs = [self._theirs(i) for i in ids]
        with panics_refused(_UNREADABLE):
            return str(self._tokenizer.decode(theirs, skip_special_tokens=True))

    def starts_word(self, id: int) -> bool:
        """By the mark that this vocabulary uses for a space, or by `##`."""
        return self._starts_word(self.pieces[id])

    def language_of(self, ids: Sequence[int]) -> str | None:
        """None: one vocabulary, no languages."""
        return None

    @cached_property
    def _starts_word(self) -> Callable[[str], bool]:
        with panics_refused(_UNREADABLE):
            kind = json.loads(self._content)["model"].get("type")
        if kind == "WordPiece":
            return lambda piece: not piece.startswith("##")
        return lambda piece: piece.startswith((SPACE, "\u0120"))

    def _theirs(self, id: int) -> int:
        return id if id < self._blank else id + 1


class AggregateTokenizer:
    """Several vocabularies behind one another, one per language.

    The ids of each are shifted by the sizes of those before it.
    """

    def __init__(self, parts: Mapping[str, Tokenizer]) -> None:
        self._parts = dict(parts)
        self.languages = tuple(self._parts)
        self.pieces = tuple(p for part in self._parts.values() for p in part.pieces)
        self._owners = [name for name, part in self._parts.items() for _ in part.pieces]
        self._offsets: dict[str, int] = {}
        offset = 0
        for name, part in self._parts.items():
            self._offsets[name] = offset
            offset += len(part.pieces)

    @property
    def parts(self) -> dict[str, Tokenizer]:
        """Language to its own tokenizer, in order."""
        return dict(self._parts)

    @property
    def spec(self) -> dict[str, Any]:
        """Plain JSON that, with `files()`, rebuilds this tokenizer."""
        parts = [{"language": name, **part.spec} for name, part in self._parts.items()]
        return {"kind": "aggregate", "parts": parts}

    def files(self) -> dict[str, bytes]:
        """The files of all parts, each name with the part's number in front."""
        return {
            f"{number}.{name}": content
            for number, part in enumerate(self._parts.values())
            for name, content in part.files().items()
        }

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text` in the vocabulary of `language`."""
        if language not in self._parts:
            known = ", ".join(self._parts)
            raise ConfigError(f"language {language!r} has no vocabulary here; choose from {known}")
        offset = self._offsets[language]
        return [i + offset for i in self._parts[language].encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Pieces joined, the space mark made a space, nothing stripped: the reference's rule."""
        return "".join([self.pieces[i] for i in ids]).replace(SPACE, " ")

    def starts_word(self, id: int) -> bool:
        """By the rule of the part that owns the id."""
        name = self._owners[id]
        return self._parts[name].starts_word(id - self._offsets[name])

    def language_of(self, ids: Sequence[int]) -> str | None:
        """The language with the most tokens; of equals, the one heard first."""
        counts = Counter(self._owners[i] for i in ids)
        return counts.most_common(1)[0][0] if counts else None


def from_files(spec: Mapping[str, Any], files: Mapping[str, bytes]) -> Tokenizer:
    """The tokenizer that gave `spec` and `files()`.

    Raises:
        CheckpointError: A file is missing, or the kind is unknown.
    """
    kind = spec.get("kind")
    if kind == "sentencepiece":
        return SentencePieceTokenizer(_file(files, "tokenizer.model"))
    if kind == "char":
        return CharTokenizer(_labels(_file(files, "labels.json")))
    if kind == "wordpiece":
        return WordPieceTokenizer(read_vocabulary(_file(files, "vocab.txt")))
    if kind == "huggingface":
        content = _file(files, "tokenizer.json")
        size = fitted(spec.get("size"), _Size, "tokenizer.size")
        blank = fitted(spec.get("blank"), _Size | None, "tokenizer.blank")
        return HFTokenizer(content, size=size, blank=blank)
    if kind == "aggregate":
        parts: dict[str, Tokenizer] = {}
        listed = fitted(spec.get("parts"), tuple[Mapping[str, Any], ...], "tokenizer.parts")
        for number, part in enumerate(listed):
            prefix = f"{number}."
            own = {n.removeprefix(prefix): c for n, c in files.items() if n.startswith(prefix)}
            language = fitted(part.get("language"), str, f"tokenizer.parts.{number}.language")
            if part.get("kind") == "aggregate":
                raise CheckpointError("an aggregate tokenizer holds another one; fetch it again")
            parts[language] = from_files(part, own)
        return AggregateTokenizer(parts)
    raise CheckpointError(
        f"tokenizer kind {shown(kind)} is unknown; "
        "it is one of sentencepiece, char, wordpiece, huggingface, aggregate"
    )


def read_vocabulary(content: bytes) -> list[str]:
    """The pieces of a `vocab.txt`, one per line.

    Raises:
        CheckpointError: It is not UTF-8.
    """
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"the vocabulary is not UTF-8 ({first_line(error)}); fetch the checkpoint again"
        ) from None
    return [line.rstrip("\r") for line in lines if line.strip("\r")]


def _labels(content: bytes) -> list[str]:
    try:
        return list(fitted(json.loads(content), tuple[str, ...], "labels.json"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"labels.json is no list of texts ({first_line(error)})") from None


@contextmanager
def panics_refused(what: str) -> Iterator[None]:
    """Make an error of what the tokenizers library does with malformed files.

    It raises bare Exception, and where its Rust code gives up pyo3's PanicException, which is a
    BaseException, so that it would end the program.

    Raises:
        CheckpointError: For either; `what` says what is wrong then, and what to do.
    """
    try:
        yield
    except AuricleError:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if not panic and not isinstance(error, Exception):
            raise
        raise CheckpointError(f"{what} ({first_line(error)})") from None


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise CheckpointError(f"the tokenizer's file {name} is missing; put it beside the weights")
    return files[name]


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
