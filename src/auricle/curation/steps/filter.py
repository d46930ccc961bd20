"""`filter`: keep the items for which conditions hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from auricle.curation.conditions import ANY_OF, NONE_OF, Conditions, compiled, plainly
from auricle.curation.items import ID, Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work


@dataclass(frozen=True)
class Filter(Step):
    """Keep the items for which all conditions hold (`conditions.compiled` says which there are).

    An item without a key that is asked for is filtered with that reason: a duration that nobody
    could measure passes no bound.
    """

    version: ClassVar[int] = 2

    conditions: Conditions

    def __post_init__(self) -> None:
        compiled(self.conditions, where=self.name)

    @property
    def batch(self) -> Batch:
        """Many: it is no work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """What becomes of an item that has nothing, but for its id."""
        if ID in repr(self.conditions):
            return ()
        return (Example({}, [_why_not(self.conditions) or {}]),)

    def open(self, place: Place) -> Work:
        """Read the conditions once."""
        check = compiled(self.conditions, where=self.name)

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            for item in items:
                unmet = check(item)
                yield item if unmet is None else Filtered(item, unmet.reason, unmet.detail)

        return work


def _why_not(conditions: Conditions) -> str | None:
    """Why an item without any key is filtered; None if it is kept."""
    for key, wanted in conditions.items():
        if key == ANY_OF:
            reasons = [_why_not(part) for part in wanted]
            if None not in reasons:
                return " and ".join(map(str, reasons))
        elif key == NONE_OF:
            held = [part for part in wanted if _why_not(part) is None]
            if held:
                return plainly(held[0])
        elif not isinstance(wanted, Mapping) or list(wanted.items()) != [("exists", False)]:
            return f"no {key}"
    return None
