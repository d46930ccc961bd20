"""A training at rest: one folder for one step, whole or not at all.

Knows nothing of recipes or of the loop; what `facts` mean is the loop's business.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from auricle.checkpoints.reading import read_json, read_pickle, read_safetensors
from auricle.checkpoints.sections import Section
from auricle.checkpoints.writing import folder_beside, write_json, write_safetensors
from auricle.errors import CheckpointError

WEIGHTS = "weights.safetensors"
EMA = "ema.safetensors"
OPTIMIZER = "optimizer.pt"
FACTS = "state.json"  # written last, with the others' sizes
_NAME = re.compile(r"step-(\d{8,})")

log = logging.getLogger("auricle")


class TrainState(TypedDict):
    """A training at a step, but for the step itself; `facts` are anything that JSON can hold."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    ema: dict[str, Tensor] | None
    facts: dict[str, Any]


def step_name(step: int) -> str:
    """What everything of a step is called; names sort as the steps do."""
    return f"step-{step:08d}"


def write_state(folder: Path, step: int, state: TrainState) -> Path:
    """Write the folder of a step into `folder`, and wait until the disk has it.

    Raises:
        OSError: The disk is full; nothing of it stays.
    """
    path = folder / step_name(step)
    if path.exists() and not (path / FACTS).exists():
        remove(path)  # damaged: nothing that can be read
    with folder_beside(path, marker=FACTS) as fresh:
        write_safetensors(fresh / WEIGHTS, state["weights"])
        if state["ema"] is not None:
            write_safetensors(fresh / EMA, state["ema"])
        with _honest_errors(), (fresh / OPTIMIZER).open("wb") as stream:
            torch.save(state["optimizer"], stream)
        sizes = {file.name: file.stat().st_size for file in sorted(fresh.iterdir())}
        write_json(fresh / FACTS, {"step": step, "files": sizes, "facts": state["facts"]})
        for file in fresh.iterdir():
            _to_disk(file)
        _to_disk(fresh)
    _to_disk(folder)
    return path


def states(folder: Path) -> list[tuple[int, Path]]:
    """The steps that lie in `folder`, the newest first; they may be damaged."""
    if not folder.is_dir():
        return []
    found = [(m, path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
    return sorted(((int(m[1]), path) for m, path in found), reverse=True)


def read_state(path: Path) -> TrainState:
    """Read the folder of a step; tensors are on the CPU, and may be views of mapped files.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    facts = Section(read_json(path / FACTS), "", str(path / FACTS))
    for name, size in facts.take("files", {}, Mapping[str, int]).items():
        found = (path / name).stat().st_size if (path / name).is_file() else "no"
        if found != size:
            raise CheckpointError(f"{path / name} has {found} bytes where {size} were written")
    return {
        "weights": read_safetensors(path / WEIGHTS),
        "optimizer": read_pickle(path / OPTIMIZER),
        "ema": read_safetensors(path / EMA) if (path / EMA).exists() else None,
        "facts": dict(facts.take("facts", kind=Mapping[str, Any])),
    }


def newest_state(folder: Path) -> tuple[int, TrainState] | None:
    """The newest of the steps in `folder` that can be read; those before it are said aloud."""
    for step, path in states(folder):
        try:
            return step, read_state(path)
        except CheckpointError as error:
            log.warning("%s is left out: %s", path, str(error).partition(";")[0])
    return None


def remove(path: Path) -> None:
    """Remove a folder; a kill in the midst of it leaves no half under its name."""
    gone = path.with_name(f".{path.name}.part")
    shutil.rmtree(gone, ignore_errors=True)
    path.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _honest_errors() -> Iterator[None]:
    """PyTorch hides a full disk behind an error of its own."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _to_disk(path: Path) -> None:
    """Wait until a file or folder would outlive a power cut."""
    if os.name == "nt" and path.is_dir():
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
