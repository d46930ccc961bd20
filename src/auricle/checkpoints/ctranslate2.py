"""CTranslate2's `model.bin` (format version 6) read and written without CTranslate2.

Variables are named arrays; an alias is a second name for one. Arrays are views of the mapped file,
so a model is never in memory twice. bfloat16, which numpy lacks, is kept as opaque two-byte items
(`BFLOAT16`). Knows nothing of what a variable means; that is `whisper`'s table.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from auricle.config import shown_name
from auricle.errors import CheckpointError, ConfigError

Array = NDArray[Any]

BINARY_VERSION = 6
MOST_DIMENSIONS = 8  # of an array
BFLOAT16 = np.dtype("V2")
_DTYPES = tuple(np.dtype(d) for d in ("<f4", "i1", "<i2", "<i4", "<f2", BFLOAT16))
_INT8_SCALE = 127.0
_INT16_SCALE = 1024.0

# quantization -> (weights that have a scale, every other floating-point variable)
_TARGETS: dict[str, tuple[str, str | None]] = {
    "int8": ("int8", None),
    "int8_float32": ("int8", "float32"),
    "int8_float16": ("int8", "float16"),
    "int8_bfloat16": ("int8", "bfloat16"),
    "int16": ("int16", "float32"),
    "float32": ("float32", "float32"),
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
}
QUANTIZATIONS = tuple(_TARGETS)


@dataclass(frozen=True)
class Binary:
    """The content of a `model.bin`; `aliases` maps a name to the variable it stands for."""

    spec: str
    revision: int
    variables: Mapping[str, Array]
    aliases: Mapping[str, str]


def read(path: Path) -> Binary:
    """Map a `model.bin`.

    Raises:
        CheckpointError: Truncated, or written in another version of the format.
    """
    cursor = _Cursor(path)
    version = cursor.number("<I")
    if version != BINARY_VERSION:
        raise CheckpointError(
            f"{path} has CTranslate2 format version {version}, not {BINARY_VERSION}; "
            "convert the original model anew"
        )
    spec, revision = cursor.text(), cursor.number("<I")
    variables = dict(cursor.variable() for _ in range(cursor.number("<I")))
    aliases = {cursor.text(): cursor.text() for _ in range(cursor.number("<I"))}
    return Binary(spec, revision, variables, aliases)


def write(
    path: Path,
    spec: str,
    revision: int,
    variables: Iterable[tuple[str, Array]],
    aliases: Mapping[str, str],
) -> None:
    """Write a `model.bin`; `variables`, sorted by name, are drawn one at a time."""
    with path.open("wb") as file:
        file.write(struct.pack("<I", BINARY_VERSION))
        _write_text(file, spec)
        file.write(struct.pack("<I", revision))
        count_at, count = file.tell(), 0
        file.write(struct.pack("<I", count))
        for name, array in variables:
            _write_text(file, name)
            file.write(struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape))
            file.write(struct.pack("<BI", _DTYPES.index(array.dtype), array.nbytes))
            file.write(array.tobytes())
            count += 1
        file.write(struct.pack("<I", len(aliases)))
        for alias in sorted(aliases):
            _write_text(file, alias)
            _write_text(file, aliases[alias])
        file.seek(count_at)
        file.write(struct.pack("<I", count))


def quantize(name: str, array: Array, quantization: str | None) -> Iterable[tuple[str, Array]]:
    """A floating-point variable as it is stored: itself, or a weight followed by its scale.

    Weights of linear layers, convolutions and embeddings become whole numbers, one scale a row
    for int8 and one in all for int16; the rest follows the second half of the quantization's name.

    Raises:
        ConfigError: Not one of `QUANTIZATIONS`.
    """
    if quantization is None or array.ndim == 0:
        return [(name, array)]
    if quantization not in _TARGETS:
        raise ConfigError(
            f"unknown quantization {quantization!r}; use one of {', '.join(QUANTIZATIONS)}"
        )
    weights, others = _TARGETS[quantization]
    if not name.endswith("/weight"):
        return [(name, cast(array, others) if others else array)]
    if weights == "int8":
        rows = cast(array, "float32").reshape(len(array), -1)  # [rows, *] -> [rows, columns]
        peak = np.abs(rows).max(axis=1)
        scale = np.float32(_INT8_SCALE) / np.where(peak == 0, np.float32(_INT8_SCALE), peak)
        whole = np.rint(rows * scale[:, None]).astype(np.int8).reshape(array.shape)
        return [(name, whole), (name + "_scale", scale)]
    if weights == "int16":
        single = cast(array, "float32")
        one_scale = np.asarray(_INT16_SCALE / np.abs(single).max(), dtype=np.float32)
        return [
            (name, np.rint(single * one_scale).astype(np.int16)),
            (name + "_scale", one_scale),
        ]
    return [(name, cast(array, weights))]


def dequantize(name: str, variables: Mapping[str, Array]) -> Array:
    """A variable as floating point, its scale undone: float32 if it had one."""
    array = variables[name]
    scale = variables.get(name + "_scale")
    if scale is None:
        return array
    return array.astype(np.float32) / scale.reshape(-1, *(1,) * (array.ndim - 1))


def cast(array: Array, dtype: str) -> Array:
    """Change a floating-point array's type; bfloat16 is rounded to nearest, ties to even."""
    if array.dtype == BFLOAT16:
        wide = array.view(np.uint16).astype(np.uint32) << 16
        array = wide.view(np.float32)
    if dtype != "bfloat16":
        return array.astype(dtype)
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16).view(BFLOAT16)


class _Cursor:
    """A reading position in the mapped file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file() or not path.stat().st_size:
            raise CheckpointError(f"{path} is empty or no file; copy or convert the model anew")
        self._bytes = np.memmap(path, np.uint8, mode="r")
        self._at = 0

    def _take(self, size: int) -> Array:
        taken = self._bytes[self._at : self._at + size]
        if len(taken) < size:
            raise CheckpointError(f"{self._path} is truncated; copy or convert the model anew")
        self._at += size
        return taken

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self._take(struct.calcsize(layout)).tobytes())[0])

    def text(self) -> str:
        raw = self._take(self.number("<H")).tobytes()
        return raw.rstrip(b"\0").decode("utf-8", errors="replace")

    def variable(self) -> tuple[str, Array]:
        name = self.text()
        shape = tuple(self.number("<I") for _ in range(self.number("<B")))
        kind, size = self.number("<B"), self.number("<I")
        if (
            len(shape) > MOST_DIMENSIONS
            or kind >= len(_DTYPES)
            or size != _DTYPES[kind].itemsize * math.prod(shape)
        ):
            raise CheckpointError(
                f"{self._path}: variable {shown_name(name)} is damaged; copy or convert the model "
                "anew"
            )
        return name, self._take(size).view(_DTYPES[kind]).reshape(shape)


def _write_text(file: BinaryIO, text: str) -> None:
    raw = text.encode("utf-8") + b"\0"
    file.write(struct.pack("<H", len(raw)) + raw)
