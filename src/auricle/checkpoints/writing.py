"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from auricle.errors import CheckpointError

MARKER = "config.json"  # only a folder that holds it is taken for a checkpoint and replaced


@contextmanager
def file_beside(path: Path) -> Iterator[BinaryIO]:
    """A file to write; at the end of the block it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp's own mode would shut other users out
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A folder to fill; at the end of the block it takes the place of `path`.

    Raises:
        CheckpointError: `path` is there already and is no checkpoint folder.
    """
    if path.exists() and not (path.is_dir() and _replaceable(path)):
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
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    return (folder / MARKER).exists() or not any(folder.iterdir())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
