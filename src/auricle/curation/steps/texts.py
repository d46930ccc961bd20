"""What the steps on text share: they go item by item, and what is no text goes to quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from auricle.curation.items import Item, Outcome, Quarantined
from auricle.curation.step import Work


def on_texts(key: str, one: Callable[[Item, str], Outcome]) -> Work:
    """The work of a step that looks at the text of one item at a time."""

    def work(items: Sequence[Item]) -> Iterator[Outcome]:
        for item in items:
            text = item.get(key)
            if isinstance(text, str):
                yield one(item, text)
            else:
                yield Quarantined(item, f"{key} is no text", f"it is {text!r}"[:100])

    return work


def seconds_of(item: Item, key: str = "duration") -> float | None:
    """How long an item is by its row; None where it does not say, or says what cannot be."""
    return _number(item.get(key), above=0.0)


def share_of(item: Item, key: str) -> float | None:
    """A number of a row that should lie between 0 and 1; None where there is none."""
    value = _number(item.get(key), above=-1e-9)
    return None if value is None or value > 1 else value


def _number(value: Any, *, above: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if above < value < float("inf") else None
