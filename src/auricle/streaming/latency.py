"""How long words wait: from the audio that holds them to the screen, and until they are final.

A Partial has no times, so its words are counted: a word appeared when it first stood whole in a
Partial, marks aside. In scripts without spaces characters are counted. Knows streams only by their
events.
"""

from __future__ import annotations

import math
import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from statistics import median
from typing import Any

from auricle import text as writing
from auricle.streaming.events import Event, Final, Partial

WORDS = 10_000
# What a meter remembers of when audio was pushed: at least the last 40 s of it, more where pushes
# are longer than the resolution. The wait of an earlier word is measured from there.
_PUSHES = 2048
_RESOLUTION = 0.02
_UNITS = 10_000


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the slow end of many waits, in milliseconds."""

    median: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The 95th percentile is the least value that 95 % do not exceed; None without values."""
        if not values:
            return None
        return cls(median(values), sorted(values)[math.ceil(0.95 * len(values)) - 1])


@dataclass(frozen=True, slots=True)
class WordLatency:
    """How long one word waited, in milliseconds after the audio up to its `end` was pushed.

    `shown` and `final` are time on the clock; `shown_audio` and `final_audio` are the audio that
    had been pushed in the meantime. 0 where the word was there before its end was.
    """

    text: str
    end: float
    shown: float
    final: float
    shown_audio: float
    final_audio: float


@dataclass(frozen=True)
class LatencyReport:
    """The waits of a stream's last words, or of several streams'; no spread without words."""

    words: tuple[WordLatency, ...] = ()

    @property
    def shown(self) -> Spread | None:
        """Until a word was first seen, on the clock."""
        return Spread.of([word.shown for word in self.words])

    @property
    def final(self) -> Spread | None:
        """Until a word was final, on the clock."""
        return Spread.of([word.final for word in self.words])

    @property
    def shown_audio(self) -> Spread | None:
        """Until a word was first seen, in audio pushed."""
        return Spread.of([word.shown_audio for word in self.words])

    @property
    def final_audio(self) -> Spread | None:
        """Until a word was final, in audio pushed."""
        return Spread.of([word.final_audio for word in self.words])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; spreads of no words are left out."""
        spreads = {name: asdict(spread) for name, spread in self._spreads() if spread}
        return {**spreads, "words": [asdict(word) for word in self.words]}

    def render(self) -> str:
        """A few lines for a terminal."""
        if not self.words:
            return "latency: no words"
        titles = ("first shown", "final", "first shown, in audio", "final, in audio")
        rows = [
            f"{title:<22}{spread.median:>8.0f} ms{spread.p95:>8.0f} ms"
            for title, (_, spread) in zip(titles, self._spreads(), strict=True)
            if spread
        ]
        head = f"latency of {len(self.words)} word{'s' if len(self.words) > 1 else ''}"
        return "\n".join([f"{head:<22}{'median':>11}{'p95':>11}", *rows])

    def _spreads(self) -> list[tuple[str, Spread | None]]:
        names = ("shown", "final", "shown_audio", "final_audio")
        return [(name, getattr(self, name)) for name in names]


def combine(reports: Iterable[LatencyReport]) -> LatencyReport:
    """The words of several streams in one report."""
    return LatencyReport(tuple(word for report in reports for word in report.words))


class LatencyMeter:
    """Measures one stream; its memory is constant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, words: int = WORDS) -> None:
        """Remember the last `words` words; `clock` gives seconds."""
        self._clock = clock
        self._read = clock()
        self._elapsed = 0.0
        self._pushes: list[tuple[float, float]] = []  # audio pushed up to, and when
        # Each unit that is shown, since when, and at which audio.
        self._shown: list[tuple[str, tuple[float, float]]] = []
        self._gone = False  # a Final came, and since then no Partial to say what still stands
        self._words: deque[WordLatency] = deque(maxlen=words)

    def pushed(self, seconds: float) -> None:
        """The stream's audio has now been pushed up to `seconds`."""
        if self._gone:
            self._shown.clear()
        if self._pushes and seconds <= self._pushes[-1][0]:
            return
        if len(self._pushes) > 1 and seconds < self._pushes[-2][0] + _RESOLUTION:
            self._pushes.pop()
        self._pushes.append((seconds, self._now()))
        if len(self._pushes) >= 2 * _PUSHES:
            del self._pushes[:_PUSHES]

    def event(self, event: Event, seconds: float) -> None:
        """The stream has said `event` when its audio was pushed up to `seconds`."""
        now = (self._now(), seconds)
        if isinstance(event, Partial):
            self._gone = False
            units = _units(event.text)[:_UNITS]
            stands = [unit for unit, _ in self._shown]
            both = enumerate(zip(units, stands, strict=False))
            least = min(len(units), len(stands))
            kept = next((i for i, (now_there, there) in both if now_there != there), least)
            self._shown[kept:] = [(unit, now) for unit in units[kept:]]
        else:
            self._finished(event, now)

    def report(self) -> LatencyReport:
        """The waits of the last words that have become final."""
        return LatencyReport(tuple(self._words))

    def _finished(self, event: Final, now: tuple[float, float]) -> None:
        at = 0
        for word in event.segment.words:
            units = _units(word.text)
            stands = self._shown[at : at + len(units)]
            as_it_is = [unit for unit, _ in stands] == units
            shown = max((since for _, since in stands), default=now) if as_it_is else now
            pushed = self._pushed_at(word.end, now[0])
            waits = (shown[0] - pushed, now[0] - pushed, shown[1] - word.end, now[1] - word.end)
            self._words.append(
                WordLatency(word.text, word.end, *(max(0.0, 1000 * wait) for wait in waits))
            )
            at += len(units)
        del self._shown[:at]  # words of the next utterance may have been shown with this one
        self._gone = True
        del self._pushes[: self._push_of(event.segment.end)]

    def _push_of(self, seconds: float) -> int:
        """The first push that brought the audio up to `seconds`, but for rounding."""
        return bisect_left(self._pushes, seconds - 1e-6, key=itemgetter(0))

    def _pushed_at(self, seconds: float, now: float) -> float:
        index = self._push_of(seconds)
        return self._pushes[index][1] if index < len(self._pushes) else now

    def _now(self) -> float:
        """Seconds since the meter began; while the clock jumps back they stand still."""
        before, self._read = self._read, self._clock()
        self._elapsed += max(0.0, self._read - before)
        return self._elapsed


def _units(text: str) -> list[str]:
    """Words, and characters of scripts without spaces, without the marks around them.

    Those of a text are those of its words.
    """
    parts: list[str] = []
    before = " "
    for c in text:
        if not c.isspace():
            fresh = before.isspace() or writing.is_unspaced(before) or writing.is_unspaced(c)
            parts[-1:] = [*parts[-1:], c] if fresh else [parts[-1] + c]
        before = c
    bare = [re.sub(r"^\W+|\W+$", "", part) for part in parts]
    return [part for part in bare if part]
