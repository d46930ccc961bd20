"""Checkpoint folders that appear whole or not at all: filled beside their place, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auricle.errors import CheckpointError

MARKER = "config.json"  # only a folder that holds it is taken for a checkpoint and replaced


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
