"""`vote`: one text out of several models', word by word, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

from auricle.curation.items import Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.curation.steps.rover import Heard, network, vote
from auricle.curation.steps.transcribe import keys_of
from auricle.errors import ConfigError
from auricle.text import spaced, words_of

NO_PREDICTION = "no prediction"


@dataclass(frozen=True)
class Vote(Step):
    """Add the text that several predictions give together, by ROVER (see `steps.rover`).

    Adds the text under `into` and its confidence (the mean over its words of the share of models
    that have the word, times their mean confidence), and `agreement`: 1 less the mean WER between
    all pairs of predictions, the words of the longer text being the reference's. Words are compared
    as `metrics.plain` leaves them, and spelled as the surest model does.

    A word's confidence is that of `KEY_words` where a row has them, else the text's, else 1.
    Predictions that are missing or null do not vote; an item without any is filtered.

    Args:
        keys: Of the predictions, in order: of equals the first wins.
        into: The key of the text.
        alpha: How much the number of models weighs against their confidence: 1 counts votes only.
            From 0.5 on, a word that more than half of them have always wins.
        null_confidence: Of the vote that no word was said.
        keep_words: Whether to leave `KEY_words` in the rows.
    """

    version: ClassVar[int] = 2

    keys: Sequence[str]
    into: str = "pred_text"
    alpha: float = 0.5
    null_confidence: float = 0.5
    keep_words: bool = False

    def __post_init__(self) -> None:
        check_keys(self.keys)
        for name in ("alpha", "null_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The text, its confidence, and how far the predictions agree."""
        return (*keys_of(self.into)[:2], "agreement")

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=64)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Two of the models against the others, or all alike; and no prediction at all."""
        text, confidence, _ = keys_of(self.into)
        same = dict.fromkeys(self.keys, "Yes, it is.")
        gives = {text: "Yes, it is.", confidence: 1.0, "agreement": 1.0}
        return (
            Example(same, [gives]),
            Example(dict.fromkeys(self.keys), [NO_PREDICTION]),
        )

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            return map(self._one, items)

        return work

    def _one(self, item: Item) -> Outcome:
        there = [key for key in self.keys if isinstance(item.get(key), str)]
        if not there:
            return Filtered(item, NO_PREDICTION, f"none of {', '.join(self.keys)}")
        slots = network([_heard(item, key) for key in there])
        words = vote(slots, alpha=self.alpha, null_confidence=self.null_confidence)
        sure = sum(word.share * word.confidence for word in words) / len(words) if words else 0.0
        dropped = set() if self.keep_words else {keys_of(key)[2] for key in there}
        text, confidence, _ = keys_of(self.into)
        return {
            **{key: value for key, value in item.items() if key not in dropped},
            text: " ".join(word.word for word in words),
            confidence: round(sure, 4),
            "agreement": agreement([item[key] for key in there]),
        }


def check_keys(keys: Sequence[str]) -> None:
    """Refuse keys of which there is nothing to choose.

    Raises:
        ConfigError: Less than two, or one twice.
    """
    if len(keys) < 2 or len(set(keys)) != len(keys):
        raise ConfigError(f"keys must be two or more different ones, not {list(keys)}")


def agreement(texts: Sequence[str]) -> float:
    """1 less the mean WER between all pairs of texts, to 4 decimals; 1 for a single text.

    The longer text of a pair is the reference, so that it lies between 0 and 1 and the order of
    texts does not matter.
    """
    pairs = list(combinations(texts, 2))
    if not pairs:
        return 1.0
    return round(1 - sum(_difference(*pair) for pair in pairs) / len(pairs), 4)


def _difference(one: str, other: str) -> float:
    from auricle.metrics import plain, word_errors

    one, other = spaced(plain(one)), spaced(plain(other))
    longest = max(len(one.split()), len(other.split()))
    edits = word_errors(one, other, normalise=str).total
    return edits / longest if longest else 0.0


def _heard(item: Item, key: str) -> list[Heard]:
    """The words of a prediction, each with the confidence that is known of it."""
    from auricle.metrics import plain

    _, of_text, of_words = keys_of(key)
    overall = _number(item.get(of_text), 1.0)
    rows = item.get(of_words)
    if isinstance(rows, list) and rows:
        said = [(str(row["word"]), _number(row.get("confidence"), overall)) for row in rows]
    else:
        said = [(word, overall) for word in words_of(item[key])]
    heard: list[Heard] = []
    for word, confidence in said:
        compared = spaced(plain(word)).split()
        if len(compared) == 1:
            heard.append(Heard(word, compared[0], confidence))
        else:  # a mark alone, or a word with a hyphen: its parts vote one by one
            heard += [Heard(part, part, confidence) for part in compared]
    return heard


def _number(value: Any, other: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else other
