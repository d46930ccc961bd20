"""`select`: the best of several predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from auricle.curation.items import Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work, refuse_unused
from auricle.curation.steps.transcribe import keys_of
from auricle.curation.steps.vote import NO_PREDICTION, agreement, check_keys
from auricle.curation.steps.wer import word_rate
from auricle.errors import ConfigError
from auricle.text import words_of

By = Literal["confidence", "agreement", "wer"]
NO_GOOD = "no prediction is good enough"


@dataclass(frozen=True)
class Select(Step):
    """Take one of several predictions over, with its confidence and words.

    By `confidence` (`KEY_confidence`), by `agreement` with the others (1 less the mean WER between
    it and each of them, see `vote`), or by `wer` against a `reference`. A score is higher the
    better: for `wer` it is 1 less the rate. Of equals the first key wins; a prediction without a
    score is taken where none has one.

    Adds the text under `into`, `KEY`'s confidence and words under the keys that belong to it,
    `selected`, the key that was taken, and `selected_score`. An item without predictions is
    filtered.

    Args:
        keys: Of the predictions.
        by: What is compared.
        into: The key of the text.
        primary: A prediction that is taken without comparing if its score is `enough`.
        enough: That score.
        least: A score below which no prediction is taken: the item is filtered.
        reference: For `wer`.
    """

    keys: Sequence[str]
    by: By = "confidence"
    into: str = "pred_text"
    primary: str | None = None
    enough: float | None = None
    least: float | None = None
    reference: str = "text"

    def __post_init__(self) -> None:
        check_keys(self.keys)
        if self.by not in get_args(By):
            raise ConfigError(f"by is {self.by!r}; use {', '.join(get_args(By))}")
        if self.by != "wer":
            refuse_unused(self, ["reference"], f"by {self.by}")
        if (self.primary is None) != (self.enough is None):
            raise ConfigError("primary and enough belong together: give both, or neither")
        if self.primary is not None and self.primary not in self.keys:
            raise ConfigError(f"primary {self.primary!r} is none of {', '.join(self.keys)}")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The text and what belongs to it, and which it was."""
        return (*keys_of(self.into), "selected", "selected_score")

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=64)

    @property
    def examples(self) -> tuple[Example, ...]:
        """The last is the best by every measure, and the first where all are alike."""
        first, *_, last = self.keys
        alike = {**dict.fromkeys(self.keys, "a b"), self.reference: "a b"}
        none = Example(dict.fromkeys(self.keys), [NO_PREDICTION])
        if self.primary is not None or self.least is not None:
            return (none,)
        sure = {keys_of(key)[1]: 0.9 if key == last else 0.5 for key in self.keys}
        better = {**alike, **sure, first: "c d"}
        if self.by != "confidence":
            return (Example(alike, [{self.into: "a b", "selected": first}]), none)
        return (Example(better, [{self.into: "a b", "selected": last}]), none)

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            return map(self._one, items)

        return work

    def _one(self, item: Item) -> Outcome:
        there = [key for key in self.keys if isinstance(item.get(key), str)]
        if not there:
            return Filtered(item, NO_PREDICTION, f"none of {', '.join(self.keys)}")
        scores = {key: self._score(item, key, there) for key in there}
        best = self._chosen(scores)
        score = scores[best]
        if self.least is not None and (score is None or score < self.least):
            return Filtered(item, NO_GOOD, f"the best {self.by} is {score}, of {best}")
        new = {**item, "selected": best, "selected_score": score}
        for source, target in zip(keys_of(best), keys_of(self.into), strict=True):
            if source in item:
                new[target] = item[source]
            elif target != source:
                new.pop(target, None)
        return new

    def _chosen(self, scores: dict[str, float | None]) -> str:
        first = None if self.primary is None else scores.get(self.primary)
        if self.primary is not None and first is not None and first >= (self.enough or 0.0):
            return self.primary
        known = {key: score for key, score in scores.items() if score is not None}
        return max(known, key=lambda key: known[key]) if known else next(iter(scores))

    def _score(self, item: Item, key: str, there: Sequence[str]) -> float | None:
        if self.by == "confidence":
            value = item.get(keys_of(key)[1])
            return float(value) if isinstance(value, int | float) else None
        if self.by == "agreement":
            others = [agreement([item[key], item[other]]) for other in there if other != key]
            return round(sum(others) / len(others), 4) if others else None
        from auricle.metrics import plain

        said = item.get(self.reference)
        if not isinstance(said, str) or not words_of(plain(said)):
            return None
        return round(1 - word_rate(plain(said), plain(item[key])), 4)
