"""`rates`: how many characters and words are said in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auricle.curation.items import Filtered, Item, Outcome, Quarantined
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.curation.steps.languages import is_mostly_unspaced
from auricle.curation.steps.texts import on_texts, seconds_of
from auricle.errors import ConfigError
from auricle.metrics import plain

CHARACTERS = "chars_per_second"
WORDS = "words_per_second"


@dataclass(frozen=True)
class Rates(Step):
    """Add `chars_per_second` and `words_per_second` of a text over the item's `duration`.

    Characters are counted as `metrics.plain` leaves them, without spaces. Where most letters are of
    a script without spaces between words (Chinese, Japanese, Thai ...), `words_per_second` is null,
    and no bound on it applies. `chars` and `words` are bounds, [lowest, highest], both included:
    items outside are filtered. Without bounds, none is.

    Raises:
        ConfigError: Bounds that are no two numbers in order.
    """

    text: str = "text"
    chars: Sequence[float] | None = None
    words: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("chars", "words"):
            bounds = getattr(self, name)
            if bounds is not None and not _are_bounds(bounds):
                raise ConfigError(f"rates: {name} takes [lowest, highest], not {bounds!r}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """A text and its length in seconds."""
        return (self.text, "duration")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Both rates, to 4 decimals."""
        return (CHARACTERS, WORDS)

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """With and without spaces; without bounds, since an example knows none of the user's."""
        if self.chars is not None or self.words is not None:
            return ()
        english = {self.text: "It's raining, again!", "duration": 2.0}
        japanese = {self.text: "また雨です。", "duration": 2.0}
        return (
            Example(english, [{CHARACTERS: 8.0, WORDS: 1.5}]),
            Example(japanese, [{CHARACTERS: 2.5, WORDS: None}]),
        )

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""
        return on_texts(self.text, self._one)

    def _one(self, item: Item, text: str) -> Outcome:
        seconds = seconds_of(item)
        if seconds is None:
            return Quarantined(item, "no length", f"duration is {item.get('duration')!r}"[:100])
        said = plain(text)
        characters = round(len(said.replace(" ", "")) / seconds, 4)
        words = None if is_mostly_unspaced(said) else round(len(said.split()) / seconds, 4)
        item = {**item, CHARACTERS: characters, WORDS: words}
        for key, rate, bounds in ((CHARACTERS, characters, self.chars), (WORDS, words, self.words)):
            if bounds is None or rate is None:
                continue
            if rate < bounds[0]:
                return Filtered(item, f"{key} below {bounds[0]:g}", f"{key} is {rate:g}")
            if rate > bounds[1]:
                return Filtered(item, f"{key} above {bounds[1]:g}", f"{key} is {rate:g}")
        return item


def _are_bounds(bounds: Sequence[float]) -> bool:
    return (
        isinstance(bounds, Sequence)
        and len(bounds) == 2
        and all(isinstance(b, (int, float)) and not isinstance(b, bool) for b in bounds)
        and bounds[0] <= bounds[1]
    )
