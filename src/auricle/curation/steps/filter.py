"""`filter`: keep the items for which conditions hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from auricle.curation.conditions import ANY_OF, NONE_OF, Conditions, compiled
from auricle.curation.items import Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work


@dataclass(frozen=True)
class Filter(Step):
    """Keep the items for which all conditions hold (`conditions.compiled` says which there are).

    An item without a key that is asked for is filtered with that reason: a duration that nobody
    could measure passes no bound.
    """

    conditions: Conditions

    def __post_init__(self) -> None:
        compiled(self.conditions, where=self.name)

    @property
    def batch(self) -> Batch:
        """Many: it is no work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """An item that has nothing meets the first condition, and is told so."""
        key, wanted = next(iter(self.conditions.items()))
        if key in (ANY_OF, NONE_OF) or (isinstance(wanted, Mapping) and "exists" in wanted):
            return ()
        return (Example({}, [f"no {key}"]),)

    def open(self, place: Place) -> Work:
        """Read the conditions once."""
        check = compiled(self.conditions, where=self.name)

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            for item in items:
                unmet = check(item)
                yield item if unmet is None else Filtered(item, unmet.reason, unmet.detail)

        return work
