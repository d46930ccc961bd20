"""The run folder: everything a training leaves behind, and all it needs to go on after a kill.

    recipe.yaml     resolved: every key with its value
    versions.json   what each start ran on, the newest last
    metrics.jsonl   a line for every logged step and every validation
    plots/          loss.png, wer.png, lr.png
    checkpoints/    step-00001000/: weights, optimiser, averages, place in the data; the last two
    best/           step-00001000-wer-0.0512/: the best by WER, in Auricle's format
    model/          the best of them: what `auricle.load(run_folder)` loads
    adapter/        of a training of adapters, that of the best model, in PEFT's layout
    heard/          before.jsonl, best.jsonl: what was heard in the held-out speech
    report.md       what a fine-tuning has changed
    nan/            step-00001000/batch-0/: what made a loss no number

What is written appears whole or not at all. One process at a time holds the folder; of a training
on several ranks it is the first.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import torch
import yaml
from torch import Tensor

from auricle import __version__, checkpoints
from auricle.checkpoints import Checkpoint
from auricle.checkpoints.adapters import CONFIG as ADAPTER_MARKER
from auricle.checkpoints.adapters import RUN_ADAPTER, Adapter, save_adapter, write_adapter
from auricle.checkpoints.writing import (
    MARKER,
    RUN_MODEL,
    folder_beside,
    write_json,
    write_safetensors,
)
from auricle.errors import ConfigError, MissingExtra
from auricle.files import write_atomic
from auricle.training import plots
from auricle.training.items import Item
from auricle.training.saving import (
    TrainState,
    newest_state,
    remove,
    states,
    step_name,
    write_state,
)
from auricle.training.trainee import AnyCheckpoint

RECIPE = "recipe.yaml"
VERSIONS = "versions.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
BEST = "best"
HEARD = "heard"
KEPT_SAVES = 2  # the newest could be damaged
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
_BEST = re.compile(r"step-(\d{8,})-(?:wer|cer)-(\d+\.\d{4}|inf)")
_PACKAGES = ("torch", "accelerate", "peft", "numpy", "safetensors", "sentencepiece", "av")


@dataclass(frozen=True)
class Best:
    """A kept model: its WER (or the rate that is monitored) as a fraction, to four digits."""

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
        train = yaml.safe_load(recipe_yaml).get("train", {})
        self._keep, self._monitor = max(1, train.get("keep_best", 3)), train.get("monitor", "wer")

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
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file: choose a folder for the run")
        there = holds_run(path)
        if there and not resume:
            raise ConfigError(
                f"{path} holds a run: go on with it by --resume, or choose another folder"
            )
        if not there and (taken := _in_the_way(path)):
            raise ConfigError(f"{path} holds {taken}, but no run: choose another folder")
        with _held(path):
            if there:
                _check_same(path, recipe_yaml)
            run = cls(path, recipe_yaml, resumed=there)
            run._tidy()
            yield run

    def write_start(self, facts: Mapping[str, Any]) -> None:
        """Write the recipe, the versions of what runs it, and `facts` beside them."""
        known = self.path / VERSIONS
        starts = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
        starts.append({**_versions(), **facts})
        write_atomic(known, json.dumps(starts, ensure_ascii=False, indent=2) + "\n")
        write_atomic(self.path / RECIPE, self._recipe_yaml)

    def log(
        self,
        step: int,
        kind: Literal["train", "validation"],
        values: Mapping[str, float | int | str],
    ) -> None:
        """Append a line of metrics; what is no finite number becomes null."""
        line = json.dumps({"step": step, "kind": kind, **_plain(values)}, ensure_ascii=False)
        path = self.path / METRICS
        try:
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line + "\n")
        except OSError as error:
            error.filename = error.filename or str(path)
            raise

    def save(self, step: int, state: TrainState) -> Path:
        """Write a checkpoint, then remove those older than the one before it.

        Raises:
            OSError: The disk is full; the checkpoints before stay as they are.
        """
        folder = self.path / CHECKPOINTS
        path = write_state(folder, step, state)
        for number, (_, old) in enumerate(states(folder)):
            if number >= KEPT_SAVES:
                remove(old)
        return path

    def last(self) -> tuple[int, TrainState] | None:
        """The newest whole checkpoint; what came after it is forgotten.

        Tensors are on the CPU. None where there is none: the metrics are then emptied.
        """
        found = last_state(self.path)
        step = found[0] if found else 0
        for later, path in states(self.path / CHECKPOINTS):
            if later > step:
                remove(path)  # damaged
        self._forget_metrics(after=step)
        return found

    def keep_best(
        self, step: int, wer: float, checkpoint: AnyCheckpoint, adapter: Adapter | None = None
    ) -> bool:
        """Keep a model if it is among the recipe's `keep_best`; whether it is the best of all.

        WERs, or the rates that the recipe monitors, are compared to four digits, and of equal ones
        the newest is the better. `model/` is the best at any time, and `adapter/` its adapter, if
        it has one.
        """
        wer = float("inf") if math.isnan(wer) else round(wer, 4)
        path = self.path / BEST / f"{step_name(step)}-{self._monitor}-{wer:.4f}"
        kept = [best for best in self.best() if best.path != path]
        ranked = sorted([*kept, Best(step, wer, path)], key=_rank)
        chosen = {best.path for best in ranked[: self._keep]}
        if path in chosen:
            _write(checkpoint, adapter, path)
        for best in self.best():
            if best.path not in chosen:
                remove(best.path)
        if ranked[0].path == path:
            self._link_model(path)
        return ranked[0].path == path

    def best(self) -> list[Best]:
        """The kept models, the best first."""
        folder = self.path / BEST
        paths = folder.iterdir() if folder.is_dir() else ()
        found = [(m, path) for path in paths if (m := _BEST.fullmatch(path.name))]
        return sorted((Best(int(m[1]), float(m[2]), path) for m, path in found), key=_rank)

    def write_model(self, checkpoint: AnyCheckpoint, adapter: Adapter | None = None) -> Path:
        """Make `model/` this one: the last of a run without validation, or a mean of the best."""
        path = self.path / RUN_MODEL
        checkpoints.save(checkpoint, path)
        if adapter is not None:
            _write_adapter(checkpoint, adapter, self.path / RUN_ADAPTER)
        return path

    def write_heard(self, name: str, heard: Sequence[Mapping[str, object]]) -> None:
        """Keep what was heard, a row for each clip, under `name`."""
        rows = (json.dumps(dict(row), ensure_ascii=False) + "\n" for row in heard)
        (self.path / HEARD).mkdir(exist_ok=True)
        write_atomic(self.path / HEARD / f"{name}.jsonl", "".join(rows))

    def plots(self) -> list[Path]:
        """Draw `plots/*.png` from the metrics."""
        return plots.draw(self.path / METRICS, self.path / "plots")

    def dump_batch(
        self, step: int, number: int, items: Sequence[Item], tensors: Mapping[str, Tensor]
    ) -> Path:
        """Save the batch `number` of a step for a look at it: items.json, features.safetensors."""
        path = self.path / "nan" / step_name(step) / f"batch-{number}"
        rows = [
            {"name": i.name, "duration": i.duration, "text": i.text, "language": i.language}
            for i in items
        ]
        with folder_beside(path, marker="items.json") as fresh:
            write_json(fresh / "items.json", {"items": rows})
            write_safetensors(fresh / "features.safetensors", tensors)
        return path

    def _forget_metrics(self, *, after: int) -> None:
        """Drop the lines of later steps, and one that a kill has cut."""
        path = self.path / METRICS
        if path.exists():
            rows = [row for row in plots.read_metrics(path) if row["step"] <= after]
            write_atomic(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))

    def _link_model(self, path: Path) -> None:
        _link(path, self.path / RUN_MODEL, MARKER)
        if (path / RUN_ADAPTER).is_dir():
            _link(path / RUN_ADAPTER, self.path / RUN_ADAPTER, ADAPTER_MARKER)

    def _tidy(self) -> None:
        """Remove what a kill has left half done, and finish a change of `model/`."""
        for place in (self.path, self.path / CHECKPOINTS, self.path / BEST, self.path / "plots"):
            for left in [*place.glob(".*.part"), *place.glob(".auricle-*.tmp")]:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
        for best in self.best()[:1]:
            pairs = [(best.path / MARKER, self.path / RUN_MODEL / MARKER)]
            adapter = best.path / RUN_ADAPTER / ADAPTER_MARKER
            if adapter.exists():
                pairs += [(adapter, self.path / RUN_ADAPTER / ADAPTER_MARKER)]
            if any(not to.exists() or to.stat().st_mtime < of.stat().st_mtime for of, to in pairs):
                self._link_model(best.path)


def _write(checkpoint: AnyCheckpoint, adapter: Adapter | None, path: Path) -> None:
    """A model's folder, its adapter in it; whole or not at all."""
    with folder_beside(path) as fresh:
        checkpoints.save(checkpoint, fresh)
        if adapter is not None:
            _write_adapter(checkpoint, adapter, fresh / RUN_ADAPTER)


def _write_adapter(checkpoint: AnyCheckpoint, adapter: Adapter, path: Path) -> None:
    if isinstance(checkpoint, Checkpoint):
        blank = checkpoint.tokenizer.spec.get("blank")
        save_adapter(adapter, path, checkpoint.config, blank=blank)
    else:
        write_adapter(adapter, path)


def _link(path: Path, to: Path, marker: str) -> None:
    """Make `to` a folder of the same files as `path`."""
    with folder_beside(to, marker=marker) as fresh:
        for file in path.iterdir():
            if file.is_dir():
                continue
            try:
                (fresh / file.name).hardlink_to(file)
            except OSError:  # a disk without links
                shutil.copy2(file, fresh / file.name)


def last_state(path: Path) -> tuple[int, TrainState] | None:
    """The newest whole checkpoint of a run folder, for ranks that do not hold it."""
    return newest_state(path / CHECKPOINTS)


def holds_run(path: Path) -> bool:
    """Whether a training was begun in this folder."""
    return (path / RECIPE).exists()


def _in_the_way(path: Path) -> str | None:
    """Something that a run would write over or be mistaken for."""
    for name in (METRICS, CHECKPOINTS, BEST, RUN_MODEL, RUN_ADAPTER, HEARD, "plots", "nan", MARKER):
        if (path / name).exists():
            return name
    return None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A lock of the operating system, which goes with the process however it ends."""
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise MissingExtra("training needs an extra: pip install 'auricle[train]'") from None
    new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another process is training in {path}: wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
        if not holds_run(path):  # it failed before it began
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
                if new:
                    path.rmdir()


def _check_same(path: Path, recipe_yaml: str) -> None:
    """Refuse to go on by another recipe.

    Raises:
        ConfigError: The first key that differs, of those that may not.
    """
    begun = yaml.safe_load((path / RECIPE).read_text(encoding="utf-8"))
    old, new = dict(_leaves(begun)), dict(_leaves(yaml.safe_load(recipe_yaml)))
    for leaves in (old, new):  # runs that began before there was a choice
        leaves.setdefault("train.monitor", "wer")
    for key in [*old, *(key for key in new if key not in old)]:
        free = any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)
        if not free and (key in old, old.get(key)) != (key in new, new.get(key)):
            was, now = (d.get(key, "nothing") for d in (old, new))
            raise ConfigError(
                f"the run in {path} was begun with {key}={was}, and the recipe now says {now}: "
                "give it back its value, or choose another folder"
            )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists, with its dotted key."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inner:
        dotted = f"{name}.{key}" if name else str(key)
        if isinstance(child, dict | list) and child:
            yield from _leaves(child, dotted)
        else:
            yield dotted, child


def _rank(best: Best) -> tuple[float, int]:
    return best.wer, -best.step


def _plain(values: Mapping[str, float | int | str]) -> dict[str, float | int | str | None]:
    """JSON has no word for what is no number."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def _versions() -> dict[str, Any]:
    """What this process runs on."""
    found: dict[str, Any] = {"auricle": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        **found,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "gpus": gpus,
    }


def _cpu() -> str:
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        known = ""
    named = re.search(r"^model name\s*: (.+)$", known, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()
