"""`wer`: how far a text is from its reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from auricle.curation.items import Item, Outcome, Quarantined
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.errors import ConfigError
from auricle.text import comparable, words_of

OK, NO_REFERENCE, NO_HYPOTHESIS = "ok", "no_reference", "no_hypothesis"


@dataclass(frozen=True)
class Wer(Step):
    """Add the error rates of a text against a reference, as fractions.

    `wer` and `cer` over both texts as `metrics.plain` leaves them (in scripts without spaces every
    character is a word), `wer_words` is the reference's number of words. `start_cer` and `end_cer`
    compare the first and the last `edge` characters of both, which tell a cut that went through a
    word or a text that goes on where the sound does not; NVIDIA's Curator compares 12. With `raw`,
    `wer_raw` and `cer_raw` count case and punctuation too, but not how Unicode spells a character.

    `wer_status` is `ok`; `no_reference` where the reference is missing, null, or has no words;
    `no_hypothesis` where the text is null. Rates are null then, never infinite. In a text without
    words all of the reference's are deleted: `wer` is 1. An item without the text's key at all is
    quarantined.

    Args:
        reference: The key of what was said; items need not have it.
        hypothesis: The key of what was heard.
        raw: Whether to count without normalising too.
        edge: Characters at each end.
        prefix: Put before all keys, where several texts are compared.
    """

    version: ClassVar[int] = 2

    reference: str = "text"
    hypothesis: str = "pred_text"
    raw: bool = False
    edge: int = 12
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.edge < 1:
            raise ConfigError(f"edge must be 1 character or more, not {self.edge}")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The rates, and whether there are any."""
        rates = ["wer", "cer", "start_cer", "end_cer"]
        rates += ["wer_raw", "cer_raw"] if self.raw else []
        return tuple(f"{self.prefix}{name}" for name in (*rates, "wer_words", "wer_status"))

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=64)

    @property
    def examples(self) -> tuple[Example, ...]:
        """One word of four wrong; marks and case do not count; and no reference."""
        texts = {self.reference: "Hello, big old world.", self.hypothesis: "hello big cold world"}
        nothing = {self.reference: " ...", self.hypothesis: "hello"}
        rates = {"wer": 0.25, "cer": 0.0526, "wer_words": 4, "wer_status": OK}
        none = {"wer": None, "cer": None, "start_cer": None, "wer_status": NO_REFERENCE}
        unheard = {"wer": None, "wer_words": 4, "wer_status": NO_HYPOTHESIS}
        return (
            Example(texts, [self._named(rates)]),
            Example(nothing, [self._named(none)]),
            Example({self.hypothesis: "hello"}, [self._named(none)]),
            Example({**texts, self.hypothesis: None}, [self._named(unheard)]),
            Example({self.reference: "hello"}, ["missing key"]),
        )

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            for item in items:
                if self.hypothesis not in item:  # null is a model's own answer, no key is a mistake
                    yield Quarantined(item, "missing key", self.hypothesis)
                    continue
                rates = self._rates(item.get(self.reference), item[self.hypothesis])
                yield {**item, **self._named(rates)}

        return work

    def _rates(self, reference: Any, hypothesis: Any) -> dict[str, Any]:
        from auricle.metrics import plain

        said = plain(reference) if isinstance(reference, str) else ""
        count = len(words_of(said))
        if not said or not isinstance(hypothesis, str):
            nothing = dict.fromkeys(name.removeprefix(self.prefix) for name in self.outputs)
            status = NO_HYPOTHESIS if said else NO_REFERENCE
            return {**nothing, "wer_words": count, "wer_status": status}
        heard = plain(hypothesis)
        rates = {
            "wer": word_rate(said, heard),
            "cer": _character_rate(said, heard),
            "start_cer": _character_rate(said[: self.edge], heard[: self.edge]),
            "end_cer": _character_rate(said[-self.edge :], heard[-self.edge :]),
        }
        if self.raw:
            said, heard = comparable(reference), comparable(hypothesis)
            rates["wer_raw"] = word_rate(said, heard)
            rates["cer_raw"] = _character_rate(said, heard)
        return {**rates, "wer_words": count, "wer_status": OK}

    def _named(self, rates: dict[str, Any]) -> dict[str, Any]:
        return {f"{self.prefix}{name}": rate for name, rate in rates.items()}


def word_rate(said: str, heard: str) -> float:
    """Edits per word of what was said, to 4 decimals."""
    from auricle.metrics import word_errors

    return round(word_errors(said, heard, normalise=str).rate, 4)


def _character_rate(said: str, heard: str) -> float:
    from auricle.metrics import character_errors

    return round(character_errors(said, heard, normalise=str).rate, 4)
