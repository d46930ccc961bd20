"""The plain files of checkpoint folders, read with care: bytes, JSON, safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from torch import Tensor

MAX_JSON = 32 * 2**20  # bytes


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        CheckpointError: It is missing.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
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


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors as views of the mapped file.

    Raises:
        CheckpointError: Missing, truncated, or not of the format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or damaged; fetch it again ({first_line(error)})"
        ) from None
