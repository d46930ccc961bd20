"""`trim`: an item's sound from its first word to its last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from auricle.curation.items import Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.errors import ConfigError

NO_WORDS = "no words to trim to"
OUTSIDE = "words lie outside the sound"


@dataclass(frozen=True)
class Trim(Step):
    """Set `offset` and `duration` so that the sound is that of the words, with some room around.

    The words' times then count from the new start. No file is written: `cut` does that. An item
    without words in its sound is filtered. A CTC head shows a token for a step or two somewhere in
    its sound, so that aligned words seem shorter than they are: hence the room.

    Args:
        words: The key of the words, from `align` or `transcribe`.
        before: Seconds to leave before the first word, as far as there are any.
        after: Seconds to leave behind the last one.
    """

    words: str = "words"
    before: float = 0.3
    after: float = 0.5

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be 0 or more seconds, not {value}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Words with times."""
        return (self.words,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The stretch, and the words in it."""
        return ("offset", "duration", self.words)

    @property
    def batch(self) -> Batch:
        """Many: it is no work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """A word with silence around it, and none."""
        start, end = self.before + 1.0, self.before + 1.5
        word = {"word": "yes", "start": start, "end": end, "confidence": 1.0}
        item = {"offset": 10.0, "duration": end + self.after + 1.0, self.words: [word]}
        gives = {
            "offset": 11.0,
            "duration": round(self.before + 0.5 + self.after, 3),
            self.words: [{**word, "start": round(self.before, 3), "end": round(end - 1.0, 3)}],
        }
        return (Example(item, [gives]), Example({self.words: []}, [NO_WORDS]))

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            return map(self._one, items)

        return work

    def _one(self, item: Item) -> Outcome:
        words = item[self.words]
        if not words:
            return Filtered(item, NO_WORDS)
        start = max(0.0, words[0]["start"] - self.before)
        end = words[-1]["end"] + self.after
        if item.get("duration"):
            end = min(end, item["duration"])
        if end <= start:
            return Filtered(item, OUTSIDE, f"from {words[0]['start']} s on, of {end:g} s")
        return {
            **item,
            "offset": round((item.get("offset") or 0.0) + start, 3),
            "duration": round(end - start, 3),
            self.words: [_moved(word, start) for word in words],
        }


def _moved(word: dict[str, Any], seconds: float) -> dict[str, Any]:
    times = {key: round(max(0.0, word[key] - seconds), 3) for key in ("start", "end")}
    return {**word, **times}
