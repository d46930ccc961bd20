"""The plain files of checkpoint folders, read with care: bytes, JSON, safetensors, pickles."""

from __future__ import annotations

import json
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from auricle.config import shown_name
from auricle.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from torch import Tensor

MAX_JSON = 32 * 2**20  # bytes


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        CheckpointError: It is missing.
    """
    if not path.exists():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    if not path.is_file():  # a folder, or a pipe that nobody may ever write to
        raise CheckpointError(f"{path} is no file; fetch the checkpoint again")
    return path.read_bytes()


def read_json(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    """A JSON object; an empty one where the file may be missing and is.

    Raises:
        CheckpointError: Missing, too large, not JSON, or no object.
    """
    if missing_ok and not path.exists():
        return {}
    if path.is_file() and path.stat().st_size > MAX_JSON:
        raise CheckpointError(f"{path} is too large for what it is; do not use it")
    content = read_bytes(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is no JSON; fetch it again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch it again")
    return value


def shards(index: Path) -> list[str]:
    """The files that a map of weights names, all of them beside it.

    Raises:
        CheckpointError: The map is damaged, or names files elsewhere.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise CheckpointError(
            f"{index}: weight_map is no mapping of names to files; fetch it again"
        )
    for shard in places.values():
        if Path(shard).name != shard:
            raise CheckpointError(f"{index} points elsewhere ({shown_name(shard)}); do not use it")
    return sorted(set(places.values()))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors as views of the mapped file.

    Raises:
        CheckpointError: Missing, truncated, or not of the format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:  # unknown dtypes too
        raise CheckpointError(
            f"{path} is truncated or damaged; fetch it again ({first_line(error)})"
        ) from None


def check_zip(file: BinaryIO, size: int) -> bool:
    """Refuse a pickle's zip that would swell while it is read.

    Tells whether its numbers are in this machine's order of bytes.

    Raises:
        ValueError, zipfile.BadZipFile, KeyError: It would, or is damaged.
    """
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("records are compressed, or larger than the file")
        orders = [e for e in entries if e.filename.endswith("/byteorder")]
        return all(archive.read(e) == sys.byteorder.encode() for e in orders)


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, read without running any of it.

    Raises:
        CheckpointError: Missing, damaged, or more than tensors and plain values.
    """
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                check_zip(file, path.stat().st_size)
            file.seek(0)
            with warnings.catch_warnings():  # pickles that torch.save never wrote
                warnings.simplefilter("ignore")
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile pickle may raise
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, nothing of it was run; use a file of "
            f"safetensors ({wish(error)})"
        ) from None


def wish(error: Exception) -> str:
    """What a pickle wanted to call, where torch says it; else the error's first line."""
    found = re.search(r"unsupported [^\n]*", str(error), re.IGNORECASE)
    return found[0][:200].rstrip(".") if found else first_line(error)
