"""Checkpoint folders: filled beside their place, so that they appear whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MARKER = "config.json"
RUN_MODEL = "model"  # where a training's folder has the best model so far


@contextmanager
def folder_beside(path: Path, *, marker: str = MARKER) -> Iterator[Path]:
    """A folder to fill; at the end of the block it takes the place of `path`.

    Args:
        path: Where it shall lie.
        marker: Only a folder that holds this file is taken for a checkpoint and replaced.

    Raises:
        CheckpointError: `path` is there already and is no checkpoint folder.
        OSError: The disk is full, or the place is read-only; it names `path`.
    """
    if path.exists() and not (path.is_dir() and _replaceable(path, marker)):
        raise CheckpointError(
            f"{path} is there already and is no checkpoint folder; choose another name"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        fresh = room / "new"
        fresh.mkdir()
        yield fresh
        if path.exists():
            path.replace(room / "old")
        fresh.replace(path)
    except OSError as error:
        # A failed write knows no file name, a failed open knows one that is about to go.
        if error.filename is None or Path(str(error.filename)).is_relative_to(room):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON, in the order of the keys."""
    path.write_bytes((json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Tensors that share memory are written apart: the format has no aliases.

    Raises:
        OSError: The disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    seen: set[int] = set()
    apart = {}
    for key, value in tensors.items():
        shared = value.data_ptr() in seen
        seen.add(value.data_ptr())
        apart[key] = value.clone() if shared else value.contiguous()
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(apart, path, metadata=dict(metadata) if metadata else None)
        path.chmod(mode)  # the library's files are their owner's alone
    except SafetensorError as error:  # the library hides the system's error in its text
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        raise


def _replaceable(folder: Path, marker: str) -> bool:
    return (folder / marker).exists() or not any(folder.iterdir())
