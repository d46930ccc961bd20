"""The figures of a run, gathered from its folder in one pass over rows and one over metrics.

What is kept in memory grows with the number of rows by two floats each. Knows no HTML.
"""

from __future__ import annotations

import heapq
import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from auricle.curation.items import ID
from auricle.curation.metrics import METRICS, read_metrics
from auricle.errors import ConfigError

Fate = Literal["kept", "filtered", "quarantined"]
Row = Mapping[str, Any]

# Quality classes by WER: up to and with so much.
CLASSES = (("excellent", 0.10), ("good", 0.25), ("fair", 0.50), ("poor", math.inf))
WORST_KEPT, WORST_FILTERED = 10, 6
TROUBLES = ("death", "retry")  # events
LISTED = 100  # quarantined items and events that are shown
_IN_BRANCH = re.compile(r"[\d.]+\.[^\d.-]")  # 4.fast.1-transcribe, but not 3.1-transcribe
_MOST = 1e12
_TIMES = 240  # points of time that memory is shown at


@dataclass
class Values:
    """Numbers of one kind, of kept items and of those that were filtered."""

    kept: array[float] = field(default_factory=lambda: array("d"))
    filtered: array[float] = field(default_factory=lambda: array("d"))

    def add(self, value: float, fate: Fate) -> None:
        """One more."""
        (self.kept if fate == "kept" else self.filtered).append(value)

    @property
    def all(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Both kinds, kept first."""
        return np.concatenate([np.frombuffer(self.kept), np.frombuffer(self.filtered)])

    def __len__(self) -> int:
        return len(self.kept) + len(self.filtered)


@dataclass(frozen=True)
class Spread:
    """What is said of many numbers."""

    count: int
    mean: float
    median: float
    deviation: float
    ninety: float  # nine of ten are at most this

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray[Any, Any]) -> Spread | None:
        """None of no values."""
        found = np.asarray(values, np.float64)
        if not len(found):
            return None
        median, ninety = np.quantile(found, [0.5, 0.9])
        deviation = found.std(ddof=1) if len(found) > 1 else 0.0
        return cls(len(found), float(found.mean()), float(median), float(deviation), float(ninety))


@dataclass
class Work:
    """What was worked on, by a step or by a model; `seconds` are those of all workers together."""

    items: int = 0
    audio: float = 0.0
    seconds: float = 0.0
    devices: set[str] = field(default_factory=set)

    @property
    def rtfx(self) -> float | None:
        """Seconds of audio a second, of one worker."""
        return self.audio / self.seconds if self.audio and self.seconds else None

    @property
    def pace(self) -> float | None:
        """Items a second, of one worker."""
        return self.items / self.seconds if self.items and self.seconds else None


@dataclass(frozen=True)
class Judging:
    """The keys of a `wer` step: of the rate, and of both texts."""

    wer: str = "wer"
    reference: str = "text"
    hypothesis: str = "pred_text"


@dataclass(frozen=True)
class Judged:
    """An item among the worst, and what became of it."""

    wer: float
    row: Row
    fate: Fate


@dataclass(frozen=True)
class Memory:
    """MB over time: a line for each host's workers together, and for each GPU."""

    hours: Sequence[float]
    hosts: Mapping[str, Sequence[float | None]]
    gpus: Mapping[str, Sequence[float | None]]


@dataclass
class Figures:
    """All that a report says.

    Args:
        summary: `summary.json`.
        curation: `curation.json`.
        judging: By which keys WERs and texts are found.
        wer: Fractions.
        unjudged: Rows with a WER that is no number, as they have no reference.
        worst: The highest WERs first.
        tiers: Items kept or filtered, by the cascade's tier that their text is from.
        tier_steps: The step of each tier.
        elapsed: Seconds between the first and the last sign of each run, all runs together.
    """

    summary: dict[str, Any]
    curation: dict[str, Any]
    wer: Values = field(default_factory=Values)
    judging: Judging = field(default_factory=Judging)
    unjudged: int = 0
    durations: Values = field(default_factory=Values)
    worst: list[Judged] = field(default_factory=list)
    languages: dict[str, Work] = field(default_factory=dict)
    tiers: Counter[str] = field(default_factory=Counter)
    tier_steps: dict[str, str] = field(default_factory=dict)
    quarantined: list[Row] = field(default_factory=list)
    steps: dict[str, Work] = field(default_factory=dict)
    models: dict[str, Work] = field(default_factory=dict)
    model_of: dict[str, str] = field(default_factory=dict)
    memory: Memory | None = None
    events: Counter[str] = field(default_factory=Counter)
    deaths: list[Row] = field(default_factory=list)
    workers: int = 0
    busy: float = 0.0
    elapsed: float = 0.0
    ended: float | None = None

    @property
    def trunk(self) -> list[Row]:
        """The steps of the summary, less those in branches, whose drops the branches' end tells."""
        steps = self.summary.get("steps", ())
        return [step for step in steps if not _IN_BRANCH.match(str(step["step"]))]

    @property
    def classes(self) -> dict[str, tuple[int, int]]:
        """How many kept and how many filtered items are of each class of quality."""
        edges = [limit for _, limit in CLASSES]
        counts = [
            np.bincount(np.searchsorted(edges, np.frombuffer(values)), minlength=len(edges))
            for values in (self.wer.kept, self.wer.filtered)
        ]
        return {name: (int(counts[0][i]), int(counts[1][i])) for i, (name, _) in enumerate(CLASSES)}


def gather(folder: Path) -> Figures:
    """Read what a run left in its folder.

    Raises:
        ConfigError: There is no finished run in it.
    """
    path = folder / "summary.json"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no finished run: there is no summary.json in it")
    figures = Figures(_read_json(path), _read_json(folder / "curation.json"))
    _read_steps(figures)
    _read_rows(folder, figures)
    _read_metrics(folder / METRICS, figures)
    return figures


def number(value: Any) -> float | None:
    """A number that may be a figure of a run, else None: rows hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -_MOST < value < _MOST else None  # not for NaN


def _read_json(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        yield row


def _read_steps(figures: Figures) -> None:
    """What the report must know of the pipeline: the last `wer` step, and a cascade's tiers."""
    pipeline = figures.curation.get("pipeline")
    steps = pipeline.get("steps") if isinstance(pipeline, Mapping) else ()
    for step in steps if isinstance(steps, list) else ():
        options = step.get("options") if isinstance(step, Mapping) else None
        if not isinstance(options, Mapping):
            continue
        label = str(step.get("step"))
        if label.endswith("-wer"):
            figures.judging = Judging(
                f"{options.get('prefix', '')}wer",
                str(options.get("reference", "text")),
                str(options.get("hypothesis", "pred_text")),
            )
        if (tier := options.get("tier")) is not None:
            figures.tier_steps[str(tier)] = label


def _read_rows(folder: Path, figures: Figures) -> None:
    """One pass over kept, filtered and quarantined rows."""
    worst_kept, worst_filtered = _Worst(WORST_KEPT), _Worst(WORST_FILTERED)
    for row in _rows(folder / "manifest.jsonl"):
        _count_row(row, "kept", figures, worst_kept)
    for row in _rows(folder / "filtered.jsonl"):
        _count_row(row, "filtered", figures, worst_filtered)
    for row in _rows(folder / "quarantined.jsonl"):
        if len(figures.quarantined) == LISTED:
            break
        figures.quarantined.append(row)
    found = [*worst_kept.found("kept"), *worst_filtered.found("filtered")]
    figures.worst = sorted(found, key=lambda judged: -judged.wer)


def _count_row(row: Row, fate: Fate, figures: Figures, worst: _Worst) -> None:
    duration = number(row.get("duration"))
    if duration is not None and duration >= 0:
        figures.durations.add(duration, fate)
    if isinstance(tier := row.get("tier"), str | int):
        figures.tiers[str(tier)] += 1
    if fate == "kept" and isinstance(language := row.get("lang"), str):
        work = figures.languages.setdefault(language, Work())
        work.items += 1
        work.audio += duration or 0.0
    if figures.judging.wer not in row:
        return
    wer = number(row[figures.judging.wer])
    if wer is None or wer < 0:
        figures.unjudged += 1
        return
    figures.wer.add(wer, fate)
    worst.add(wer, row)


class _Worst:
    """Keeps the rows with the highest WERs, the earlier one of equals."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, Row]] = []
        self._order = count()

    def add(self, wer: float, row: Row) -> None:
        if wer > 0:
            entry = (wer, -next(self._order), row)
            push: Callable[..., Any] = (
                heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
            )
            push(self._heap, entry)

    def found(self, fate: Fate) -> Iterator[Judged]:
        for wer, _, row in self._heap:
            yield Judged(wer, row, fate)


def _read_metrics(path: Path, figures: Figures) -> None:
    """One pass over what batches took and what happened."""
    points: list[tuple[float, str, str, float | None, str, float | None]] = []
    workers: set[str] = set()
    spans: list[list[float]] = []
    for record in read_metrics(path):
        time = number(record.get("time"))
        event = record.get("event")
        if time is not None:
            if event == "start" or not spans:
                spans.append([])
            spans[-1].append(time)
            figures.ended = time
        if event is not None:
            figures.events[str(event)] += 1
            if event in TROUBLES and len(figures.deaths) < LISTED:
                figures.deaths.append(record)
            continue
        worker = f"{record.get('host', '')}/{record.get('worker', '')}"
        workers.add(worker)
        figures.busy += number(record.get("seconds")) or 0.0
        _count_steps(record, figures)
        if time is not None:
            host, device = str(record.get("host", "")), str(record.get("device", ""))
            rss, gpu = number(record.get("rss_mb")), number(record.get("gpu_mb"))
            points.append((time, host, worker, rss, f"{host} {device}".strip(), gpu))
    figures.workers = len(workers)
    # A clock that was set back makes a span short, never negative.
    figures.elapsed = sum(max(span) - min(span) for span in spans)
    figures.memory = _memory(points)


def _count_steps(record: Mapping[str, Any], figures: Figures) -> None:
    steps = record.get("steps")
    for name, took in steps.items() if isinstance(steps, Mapping) else ():
        if not isinstance(took, Mapping):
            continue
        works = [figures.steps.setdefault(str(name), Work())]
        if (model := took.get("model")) is not None:
            works.append(figures.models.setdefault(str(model), Work()))
            figures.model_of[str(name)] = str(model)
        for work in works:
            work.items += int(number(took.get("items")) or 0)
            work.audio += number(took.get("audio_seconds")) or 0.0
            work.seconds += number(took.get("seconds")) or 0.0
            work.devices.add(str(record.get("device", "cpu")))


def _memory(
    points: Sequence[tuple[float, str, str, float | None, str, float | None]],
) -> Memory | None:
    """The most within each of some spans of time; workers of a host are added up."""
    if not points:
        return None
    first, last = min(p[0] for p in points), max(p[0] for p in points)
    length = max(last - first, 1.0)
    size = min(_TIMES, len(points))
    workers: dict[tuple[str, str], dict[int, float]] = {}
    gpus: dict[str, dict[int, float]] = {}
    for time, host, worker, rss, device, gpu in points:
        at = min(int((time - first) / length * size), size - 1)
        for value, series in (
            (rss, workers.setdefault((host, worker), {})),
            (gpu, gpus.setdefault(device, {}) if gpu is not None else {}),
        ):
            if value is not None:
                series[at] = max(series.get(at, 0.0), value)
    hosts: dict[str, list[float | None]] = {}
    for (host, _), series in sorted(workers.items()):
        total = hosts.setdefault(host or "host", [None] * size)
        for i, value in enumerate(_carried(series, size)):
            if value is not None:
                total[i] = (total[i] or 0.0) + value
    return Memory(
        hours=[(i + 0.5) * length / size / 3600 for i in range(size)],
        hosts=hosts,
        gpus={name: _carried(series, size) for name, series in sorted(gpus.items())},
    )


def _carried(series: Mapping[int, float], size: int) -> list[float | None]:
    """Between two signs of a worker its memory is taken to be that of the earlier one."""
    found: list[float | None] = [None] * size
    if series:
        value = None
        for i in range(min(series), max(series) + 1):
            value = series.get(i, value)
            found[i] = value
    return found


def named(row: Row) -> str:
    """What people call an item: its file, and where in it."""
    name = row.get("audio_filepath") or row.get(ID) or "?"
    offset = number(row.get("offset"))
    return f"{name} at {offset:.1f} s" if offset else str(name)
