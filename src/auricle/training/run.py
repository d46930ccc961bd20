"""The run folder: everything a training leaves behind, and all it needs to go on after a kill.

    recipe.yaml     resolved: every key with its value
    versions.json   what each start ran on, and the seed
    metrics.jsonl   a line for every logged step and every validation
    plots/          loss.png, wer.png, lr.png
    checkpoints/    step-00001000/: weights, optimiser, averages, place in the data; the last two
    best/           step-00001000-wer-0.0512/: the best by WER, in Auricle's format
    model/          the best of them: what `auricle.load(run_folder)` loads
    nan/            the batch that made a loss no number

Whatever is written appears whole or not at all. Only one process at a time holds the folder; in a
training of several ranks it is the first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import yaml
from torch import Tensor

from auricle.checkpoints import Checkpoint
from auricle.training.items import Item

RECIPE = "recipe.yaml"
VERSIONS = "versions.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
BEST = "best"
MODEL = "model"
FACTS = "state.json"  # written last; only a folder that holds it is a checkpoint

# What may differ when a run goes on: how long, how often, and where it is told.
MAY_CHANGE = (
    "train.steps",
    "train.epochs",
    "train.minutes",
    "train.validate_every",
    "train.save_every",
    "train.keep_best",
    "train.patience",
    "data.workers",
    "log",
)

log = logging.getLogger("auricle")


class TrainState(TypedDict):
    """A training at a step, but for the step itself; `facts` are anything that JSON can hold."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    ema: dict[str, Tensor] | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Best:
    """A kept model: its WER as a fraction, to four digits."""

    step: int
    wer: float
    path: Path


class RunFolder:
    """A run folder that this process holds; made by `RunFolder.open`.

    Attributes:
        path: Where it lies.
        resumed: Whether it held a run before.
    """

    def __init__(self, path: Path, recipe_yaml: str, *, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._recipe_yaml = recipe_yaml
        self._recipe: Mapping[str, Any] = yaml.safe_load(recipe_yaml)

    @classmethod
    @contextmanager
    def open(cls, path: Path, recipe_yaml: str, *, resume: bool) -> Iterator[Self]:
        """Hold the folder for as long as the block lasts.

        With `resume` a run that is there goes on; where there is none, one begins. The folder
        counts as a run from `write_start` on.

        Raises:
            ConfigError: It holds a run and `resume` is off, or a run of another recipe, or
                another process holds it.
            OSError: The disk is full, or the place is read-only.
        """
        raise NotImplementedError
        yield

    def write_start(self, facts: Mapping[str, Any]) -> None:
        """Write the recipe, the versions of what runs it, and `facts` beside them."""
        raise NotImplementedError

    def log(
        self,
        step: int,
        kind: Literal["train", "validation"],
        values: Mapping[str, float | int | str],
    ) -> None:
        """Append a line of metrics; what is no finite number becomes null."""
        raise NotImplementedError

    def save(self, step: int, state: TrainState) -> Path:
        """Write a checkpoint, then remove those older than the one before it.

        Raises:
            OSError: The disk is full; the checkpoints before stay as they are.
        """
        raise NotImplementedError

    def last(self) -> tuple[int, TrainState] | None:
        """The newest whole checkpoint; the metrics of later steps are forgotten.

        Tensors are on the CPU. None where there is none: the metrics are then emptied.
        """
        raise NotImplementedError

    def keep_best(self, step: int, wer: float, checkpoint: Checkpoint) -> bool:
        """Keep a model if it is among the recipe's `keep_best`; whether it is the best of all.

        Of equal WERs the newest is the better. `model/` is the best at any time.
        """
        raise NotImplementedError

    def best(self) -> list[Best]:
        """The kept models, the best first."""
        raise NotImplementedError

    def write_model(self, checkpoint: Checkpoint) -> Path:
        """Make `model/` this one: the last of a run without validation, or a mean of the best."""
        raise NotImplementedError

    def plots(self) -> list[Path]:
        """Draw `plots/*.png` from the metrics."""
        raise NotImplementedError

    def dump_batch(self, step: int, items: Sequence[Item], tensors: Mapping[str, Tensor]) -> Path:
        """Save a batch for a look at it: nan/step-X/items.json and features.safetensors."""
        raise NotImplementedError


def last_state(path: Path) -> tuple[int, TrainState] | None:
    """The newest whole checkpoint of a run folder, read only: for ranks that do not hold it."""
    raise NotImplementedError
