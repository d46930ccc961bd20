"""Figures of a training for TensorBoard, Weights & Biases and MLflow, behind one Protocol.

`metrics.jsonl` in the run folder is the record; a tracker is a view of it, and one that fails while
the training goes on (a network, a full disk) is left alone for a while, and the training goes on.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from auricle.errors import ConfigError, MissingExtra, first_line
from auricle.files import write_atomic
from auricle.training.recipe import Recipe
from auricle.training.run import RunFolder

Values = Mapping[str, float | int | str]
Kind = TypeVar("Kind")

IDS = "trackers.json"  # so that a run that goes on is the same one there
PAUSE = 300.0  # seconds; each try may wait for a network as long as its library likes
_PARAMETERS = 100  # as many as MLflow takes at once
_LONG = 500  # characters of a parameter, which is MLflow's limit of old

log = logging.getLogger("auricle")


class Tracker(Protocol):
    """Shows figures over steps."""

    def log(self, step: int, values: Values) -> None:
        """Show `values`, named `train/loss` and so on; what is no finite number is left out."""

    def close(self) -> None:
        """Everything is told."""


class Trackers:
    """Tells all of `trackers`; what one of them raises is said once, and then it rests."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._rests: dict[str, float] = {}

    def log(self, step: int, values: Values) -> None:
        """Tell those that are well."""
        now = time.monotonic()
        for name, tracker in self._trackers.items():
            if name not in self._rests or now - self._rests[name] >= PAUSE:
                self._try(name, partial(tracker.log, step, values))

    def close(self) -> None:
        """Close all."""
        for name, tracker in self._trackers.items():
            self._try(name, tracker.close)

    def _try(self, name: str, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as error:
            if name not in self._rests:
                log.warning(
                    "%s is not told everything (%s); the training goes on, and metrics.jsonl has "
                    "all of it",
                    name,
                    first_line(error),
                )
            self._rests[name] = time.monotonic()


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise _missing("tensorboard", "train") from None
        self._make, self._folder = SummaryWriter, folder
        self._writer: SummaryWriter | None = None

    def log(self, step: int, values: Values) -> None:
        """Add a point; what a killed run had shown from the first one's step on is hidden."""
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=step)
        for name, value in _numbers(values).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A run of Weights & Biases; `known` is the one to go on with."""

    def __init__(self, recipe: Recipe, folder: Path, known: str | None) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        self._run = wandb.init(
            project=recipe.log.project,
            name=recipe.name,
            dir=str(folder),
            config=asdict(recipe),
            id=known,
            resume="allow",
            settings=wandb.Settings(console="off"),
        )
        self.id: str = self._run.id

    def log(self, step: int, values: Values) -> None:
        """Add a point; steps that were shown before the kill are not shown again."""
        self._run.log(_numbers(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class MLflow:
    """A run on the server that $MLFLOW_TRACKING_URI names; `known` is the one to go on with."""

    def __init__(self, recipe: Recipe, known: str | None) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param
        except ImportError:
            raise _missing("mlflow", "mlflow") from None
        self._metric = Metric
        self._client = MlflowClient()
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(recipe.log.project)
        place = (
            self._client.create_experiment(recipe.log.project)
            if experiment is None
            else experiment.experiment_id
        )
        self.id = self._client.create_run(place, run_name=recipe.name).info.run_id
        parameters = [Param(key, str(value)[:_LONG]) for key, value in _flat(asdict(recipe))]
        for i in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self.id, params=parameters[i : i + _PARAMETERS])

    def log(self, step: int, values: Values) -> None:
        """Add a point."""
        now = round(1000 * time.time())
        points = [self._metric(key, value, now, step) for key, value in _numbers(values).items()]
        self._client.log_batch(self.id, metrics=points)

    def close(self) -> None:
        """Say that the run is over."""
        self._client.set_terminated(self.id)


def open_trackers(recipe: Recipe, run: RunFolder | None) -> Tracker:
    """The recipe's trackers; none on the ranks that hold no run folder.

    Raises:
        MissingExtra: A tracker's package is not installed.
        ConfigError: A tracker does not start: not logged in, or no server.
    """
    if run is None:
        return Trackers({})
    path = run.path / IDS
    goes_on = run.resumed and path.exists()
    ids = json.loads(path.read_text(encoding="utf-8")) if goes_on else {}
    opened: dict[str, Tracker] = {}
    for name in dict.fromkeys(recipe.log.trackers):
        if name == "tensorboard":
            opened[name] = TensorBoard(run.path / name)
        elif name == "wandb":
            cure = "log in by `wandb login`, or set WANDB_MODE=offline"
            wandb = _started(name, cure, lambda: WandB(recipe, run.path, ids.get("wandb")))
            opened[name], ids[name] = wandb, wandb.id
        else:
            cure = "set MLFLOW_TRACKING_URI to your server's address"
            mlflow = _started(name, cure, lambda: MLflow(recipe, ids.get("mlflow")))
            opened[name], ids[name] = mlflow, mlflow.id
    if ids:
        write_atomic(path, json.dumps(ids) + "\n")
    return Trackers(opened)


def _started(name: str, cure: str, start: Callable[[], Kind]) -> Kind:
    try:
        return start()
    except MissingExtra:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} does not start ({first_line(error)}): {cure}, or leave it out of log.trackers"
        ) from None


def _missing(package: str, extra: str) -> MissingExtra:
    return MissingExtra(
        f"log.trackers has {package}, which is not installed: pip install 'auricle[{extra}]'"
    )


def _numbers(values: Values) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and sequences, with their dotted names."""
    if isinstance(value, Mapping) and value:
        inner: Any = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        inner = enumerate(value)
    else:
        yield name, value
        return
    for key, child in inner:
        yield from _flat(child, f"{name}.{key}" if name else str(key))
