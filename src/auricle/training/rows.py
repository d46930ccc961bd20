"""Rows of any kind of source on their way to items: filtered, measured, written in one style."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from auricle import manifests
from auricle.errors import AudioError, ManifestError, one_line
from auricle.training.items import Item
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sounds import MeasuredSound
from auricle.training.texts import normalise

_FIELDS = frozenset({"audio_filepath", "duration", "offset", "text", "lang"})
_NOTHING: Mapping[str, Any] = {}  # a proxy could not be sent to a worker
_EXAMPLES = 3
_AHEAD, _THREADS = 256, 8  # rows that are measured together
NO_SOUND = "sound that is not there"
UNSURE = "sound or text whose other half is unsure"
UNREADABLE = "sound that cannot be read"


@dataclass(frozen=True, slots=True)
class Found:
    """A row as a source holds it; `data` is all of it, and what filters look at.

    The `text` and `duration` of some kinds of source are whatever stands there.
    `problem` says why it cannot be used, where that is known from the start; it counts as `reason`.
    """

    name: str
    sound: MeasuredSound
    text: str
    duration: float | None = None
    language: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    reason: str = NO_SOUND


class Dropped(Counter[str]):
    """How many rows gave no item, by reason, and the first of those that have a problem."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: list[str] = []

    @property
    def faulty(self) -> int:
        """Those that have a problem, and were not taken out by the recipe."""
        return sum(self[reason] for reason in (NO_SOUND, UNSURE, UNREADABLE))

    def add(self, reason: str, problem: str) -> None:
        """Count a row with a problem."""
        self[reason] += 1
        if self[reason] <= _EXAMPLES:
            self.examples.append(problem)


class Sieve:
    """Rows in, items out: those that a recipe keeps; `dropped` counts the others by reason.

    Of `held_out` speech, what is too long to learn from is judged too, as far as a batch holds it.
    """

    def __init__(self, source: SourceRecipe, data: DataRecipe, *, held_out: bool = False) -> None:
        self._source, self._data = source, data
        self._ahead = 1 if source.streaming else _AHEAD  # streamed rows hold their sound
        longer = held_out and data.batch_seconds > data.max_seconds
        self._longest = "batch_seconds" if longer else "max_seconds"
        self.dropped = Dropped()

    def items(self, rows: Iterable[Found]) -> Iterator[Item]:
        """The items of the rows that are kept.

        Raises:
            AudioError: A row without duration cannot be measured, and the recipe refuses that.
            ManifestError: A row has no sound, likewise; or a text or duration that cannot be.
        """
        left = iter(rows)
        with ThreadPoolExecutor(_THREADS) as threads:
            while some := list(islice(left, self._ahead)):
                for row, known in [
                    (row, _measured(row, threads)) for row in filter(self._kept, some)
                ]:
                    try:
                        duration = known if isinstance(known, float | int) else known.result()
                    except AudioError as error:
                        if self._data.invalid == "refuse":
                            raise
                        self.dropped.add(UNREADABLE, str(error))
                        continue
                    if (reason := self._misfit(duration)) is not None:
                        self.dropped[reason] += 1
                        continue
                    yield self._item(row, duration)

    def reasons(self) -> str:
        """What took rows, for a message."""
        said = [f"{count} by {reason}" for reason, count in self.dropped.most_common()]
        return "rows were taken out: " + ", ".join(said) if said else "there are no rows"

    def _kept(self, row: Found) -> bool:
        """Whether a row has sound, and the recipe keeps it; it is counted if not."""
        if row.problem is not None:
            if self._data.invalid == "refuse":
                raise ManifestError(row.problem)
            self.dropped.add(row.reason, row.problem)
            return False
        check_values(row)
        if (reason := self._unwanted(row)) is not None:
            self.dropped[reason] += 1
        return reason is None

    def _unwanted(self, row: Found) -> str | None:
        """The filter that takes a row out, if one does."""
        for key, values in self._source.where.items():
            if row.data.get(key) not in values:
                return f"where {key}"
        for key, values in self._source.unless.items():
            if key in row.data and row.data[key] in values:
                return f"unless {key}"
        return None

    def _misfit(self, duration: float) -> str | None:
        """The bound that a duration breaks, if it does."""
        if duration < self._data.min_seconds:
            return f"min_seconds ({self._data.min_seconds:g})"
        if duration > (longest := getattr(self._data, self._longest)):
            return f"{self._longest} ({longest:g})"
        return None

    def _item(self, row: Found, duration: float) -> Item:
        return Item(
            name=row.name,
            sound=row.sound,
            duration=duration,
            text=normalise(row.text, self._data.text),
            language=row.language or self._source.language,
            data=_others(row.data),
        )


def _measured(row: Found, threads: ThreadPoolExecutor) -> float | Future[float]:
    """The duration of a row, if need be as a thread measures it, which may take decoding."""
    return threads.submit(row.sound.seconds) if row.duration is None else row.duration


def check_values(row: Found) -> None:
    """Refuse what readers of other people's columns may have found in them.

    Raises:
        ManifestError: A text or language that is none, or a duration that cannot be.
    """
    for what, value in (("the text", row.text), ("the language", row.language)):
        if not isinstance(value, str | None):
            shown = one_line(repr(value), 80)
            raise ManifestError(f"{row.name}: {what} must be a string, got {shown}")
    try:
        manifests.seconds({"duration": row.duration}, "duration")
    except ManifestError as error:
        raise ManifestError(f"{row.name}: {error}") from None


def _others(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys that an item has no field for; the names are shared, for there are many rows."""
    others = {sys.intern(key): value for key, value in data.items() if key not in _FIELDS}
    return others or _NOTHING
