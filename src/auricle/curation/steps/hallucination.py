"""`hallucination`: signs that a recogniser wrote what nobody said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auricle.curation.items import Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.curation.steps.languages import language_of, least_seconds, longest_word
from auricle.curation.steps.phrases import is_closing, is_common, is_credit, sentences, spoken
from auricle.curation.steps.repeats import goes_round, is_one_again_and_again
from auricle.curation.steps.texts import on_texts, seconds_of, share_of
from auricle.errors import ConfigError
from auricle.metrics import plain
from auricle.text import is_unspaced

SIGNS = ("credits", "fast", "long_word", "phrase", "repeats", "silence")
KEY = "hallucination"
_SLACK = 0.3  # seconds that a cut may take off a clip's ends
_INSTANT = 0.05  # seconds of sound in which nothing is said
_MOSTLY = 0.5  # share of a clip that must be silent before silence is a sign
_LONG = 10.0  # seconds of sound that are more than a bare `thank you`


@dataclass(frozen=True)
class Hallucination(Step):
    """Add `hallucination`: the signs that a transcript shows, in the alphabet's order, often none.

    - `repeats`: a block of words (of characters, in scripts without spaces) more often in a row
      than people say it: six times one word, three times a sentence. `no no no no` is speech,
      unless it is the whole text and `confidence` is below `unsure`, or there are ten seconds of
      sound.
    - `long_word`: longer than words of the language get; 35 letters, 60 where words are compounds
      or collect endings, or where the language is not known.
    - `phrase`: the whole text is made of sentences such as `thank you for watching`, in any case,
      whatever the punctuation. Longer sentences that begin so are none. A bare `thank you`, `bye`
      or `okay` needs something beside it: another sign, `confidence` below `unsure`, or ten seconds
      of sound.
    - `credits`: a sentence that says who made the subtitles.
    - `fast`: more characters than can be said in `duration`; per script, 35 Latin letters a second.
    - `silence`: as `fast`, of what `silence_ratio` leaves of the duration.

    The last two are asked only of items that have these keys. `phrases` adds sentences of one's
    own, `signs` says which to look for. With `drop`, items with a sign are filtered for it.

    Raises:
        ConfigError: A sign that is not known, or a confidence outside 0 to 1.
    """

    text: str = "pred_text"
    lang: str = "lang"
    signs: Sequence[str] = SIGNS
    phrases: Sequence[str] = ()
    unsure: float = 0.5
    drop: bool = False

    def __post_init__(self) -> None:
        for name in ("signs", "phrases"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"hallucination: {name} is a list")
        for sign in self.signs:
            if sign not in SIGNS:
                raise ConfigError(
                    f"hallucination: {sign!r} is no sign; there are {', '.join(SIGNS)}"
                )
        if not 0 <= self.unsure <= 1:
            raise ConfigError(f"hallucination: unsure lies between 0 and 1, not {self.unsure!r}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """A transcript."""
        return (self.text,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The list of signs."""
        return (KEY,)

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Speech that looks like a hallucination, and two that are."""
        cases: tuple[tuple[str, list[str]], ...] = (
            ("Thank you for coming to our annual meeting.", []),
            ("No, no, no, no!", []),
            ("THANK YOU FOR WATCHING!", ["phrase"]),
            ("ご視聴ありがとうございました" * 3, ["repeats"]),
        )
        return tuple(
            Example({self.text: text}, self._gives([s for s in signs if s in self.signs]))
            for text, signs in cases
        )

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""
        own = frozenset(spoken(phrase) for phrase in self.phrases)
        return on_texts(self.text, lambda item, text: self._one(item, text, own))

    def _gives(self, signs: list[str]) -> list[dict[str, list[str]] | str]:
        return [self._reason(signs)] if self.drop and signs else [{KEY: signs}]

    def _reason(self, signs: Sequence[str]) -> str:
        return f"{KEY}: {', '.join(signs)}"

    def _one(self, item: Item, text: str, own: frozenset[str]) -> Outcome:
        found = {sign for sign in self._found(item, text, own) if sign in self.signs}
        signs = sorted(found)
        item = {**item, KEY: signs}
        return Filtered(item, self._reason(signs), text[:200]) if self.drop and signs else item

    def _found(self, item: Item, text: str, own: frozenset[str]) -> Iterator[str]:
        said = plain(text)
        if not said:
            return
        doubtful = self._is_doubtful(item)
        others = list(_by_shape(said, language_of(item, self.lang), doubtful))
        others += _by_time(item, said.replace(" ", ""))
        yield from others
        parts = sentences(text)
        if any(is_credit(part) for part in parts):
            yield "credits"
        closings = [is_closing(part) or part in own for part in parts]
        if not all(c or is_common(part) for c, part in zip(closings, parts, strict=True)):
            return
        if any(closings) or others or doubtful:
            yield "phrase"

    def _is_doubtful(self, item: Item) -> bool:
        """Whether what stands beside the words speaks against few or bare ones."""
        confidence = share_of(item, "confidence")
        seconds = seconds_of(item)
        return (confidence is not None and confidence < self.unsure) or (
            seconds is not None and _sounding(item, seconds) >= _LONG
        )


def _by_shape(said: str, language: str | None, doubtful: bool) -> Iterator[str]:
    longest = longest_word(language)
    if any(len(word) > longest for word in _words(said)):
        yield "long_word"
    if goes_round(said) or (doubtful and is_one_again_and_again(said)):
        yield "repeats"


def _by_time(item: Item, said: str) -> Iterator[str]:
    seconds = seconds_of(item)
    if seconds is None:
        return
    least = least_seconds(said)
    if least > seconds + _SLACK:
        yield "fast"
    silence = share_of(item, "silence_ratio")
    sounding = _sounding(item, seconds)
    if (
        silence is not None
        and silence >= _MOSTLY
        and (sounding <= _INSTANT or least > sounding + _INSTANT)
    ):
        yield "silence"


def _sounding(item: Item, seconds: float) -> float:
    return seconds * (1 - (share_of(item, "silence_ratio") or 0.0))


def _words(said: str) -> list[str]:
    """Letters in a row, where spaces divide words: an address or a number is no long word."""
    kept = (c if c.isalpha() and not is_unspaced(c) else " " for c in said)
    return "".join(kept).split()
