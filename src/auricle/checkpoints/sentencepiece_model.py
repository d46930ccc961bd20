"""A sentencepiece model file taken apart and put together.

The file is a protocol buffer of a handful of fields; reading and writing them here saves the
package that would generate code for the rest. Fields are numbered as in sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from auricle.errors import CheckpointError
from auricle.tokenizers import SPACE

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """`kind` is one of the constants above."""

    text: str
    score: float
    kind: int = NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """What of the file decides how text becomes ids.

    `charsmap` is the compiled normaliser, opaque; tokenizers' `Precompiled` takes the same bytes.
    """

    pieces: tuple[Piece, ...]
    algorithm: int = BPE
    byte_fallback: bool = False
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True


def parse(content: bytes) -> SentencePieceModel:
    """Read a `tokenizer.model`.

    Raises:
        CheckpointError: The bytes are no such model.
    """
    try:
        return _parse(content)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise CheckpointError(
            f"the sentencepiece model cannot be read; fetch it again ({error})"
        ) from None


def serialise(model: SentencePieceModel) -> bytes:
    """Write a `tokenizer.model` that sentencepiece loads."""
    unknown = next((i for i, p in enumerate(model.pieces) if p.kind == UNKNOWN), None)
    if unknown is None:
        raise CheckpointError("sentencepiece needs an <unk> piece, and the vocabulary has none")
    out = b"".join(_bytes(1, _piece(piece)) for piece in model.pieces)
    trainer = (
        _int(3, model.algorithm)
        + _int(4, len(model.pieces))
        + _int(35, model.byte_fallback)
        + _int(40, unknown)
        + b"".join(_int(field, -1) for field in (41, 42, 43))  # no bos, eos, pad
    )
    normaliser = (
        _bytes(1, b"nmt_nfkc" if model.charsmap else b"identity")
        + _bytes(2, model.charsmap)
        + _int(3, model.add_dummy_prefix)
        + _int(4, model.remove_extra_whitespaces)
        + _int(5, True)
    )
    return out + _bytes(2, trainer) + _bytes(3, normaliser)


def tokenizer_folder(content: bytes) -> dict[str, bytes]:
    """The files of a folder that NeMo takes as `tokenizer.dir`, from a `tokenizer.model`.

    `vocab.txt` is in WordPiece's spelling, without the special pieces: NeMo wants it to be there
    and reads the model.
    """
    pieces = parse(content).pieces
    words = [_as_wordpiece(p.text) for p in pieces if p.kind in (NORMAL, UNUSED, BYTE)]
    return {
        "tokenizer.model": content,
        "vocab.txt": "".join(f"{word}\n" for word in words).encode(),
        "tokenizer.vocab": "".join(f"{p.text}\t{p.score:g}\n" for p in pieces).encode(),
    }


def _as_wordpiece(piece: str) -> str:
    return (piece[1:] or SPACE) if piece.startswith(SPACE) else f"##{piece}"


def _parse(content: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normaliser: dict[int, int | bytes] = {}
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            row = dict(_fields(value))
            text, score, kind = row.get(1, b""), row.get(2, b"\0\0\0\0"), row.get(3, NORMAL)
            assert isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int)
            pieces.append(Piece(text.decode(), struct.unpack("<f", score)[0], kind))
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == 3 and isinstance(value, bytes):
            normaliser = dict(_fields(value))
    charsmap = normaliser.get(2, b"")
    algorithm = trainer.get(3, UNIGRAM)
    return SentencePieceModel(
        pieces=tuple(pieces),
        algorithm=algorithm if isinstance(algorithm, int) else UNIGRAM,
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
        add_dummy_prefix=bool(normaliser.get(3, 1)),
        remove_extra_whitespaces=bool(normaliser.get(4, 1)),
    )


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and value of each field; fixed-width values stay bytes."""
    position = 0
    while position < len(content):
        key, position = _read_varint(content, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _read_varint(content, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _read_varint(content, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise IndexError(f"field type {wire}")
        if position + size > len(content):
            raise IndexError("it ends too early")
        yield number, content[position : position + size]
        position += size


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _piece(piece: Piece) -> bytes:
    score = bytes([2 << 3 | _FIXED32]) + struct.pack("<f", piece.score)
    return _bytes(1, piece.text.encode()) + score + _int(3, piece.kind)


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value & (1 << 64) - 1)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
