"""Which items a step works on at once; depends on the items and the budget alone."""

from __future__ import annotations

from collections.abc import Sequence

from auricle.curation.items import Item
from auricle.curation.step import Batch

DURATION = "duration"


def batches(items: Sequence[Item], budget: Batch) -> list[list[int]]:
    """Numbers of the items of each batch; every item is in one.

    By number: as they come. By seconds: clips of like length, so many that the longest times their
    number fits; a longer clip is alone, and clips of unknown length go by number.
    """
    if budget.seconds is None:
        return _by_number(range(len(items)), budget.items)
    lengths = [milliseconds(item) / 1000 for item in items]
    made: list[list[int]] = []
    for i in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: lengths[i]):
        # In this order the last is the longest.
        if made and (len(made[-1]) + 1) * lengths[i] <= budget.seconds:
            made[-1].append(i)
        else:
            made.append([i])
    unknown = [i for i, length in enumerate(lengths) if not length]
    return [sorted(batch) for batch in made] + _by_number(unknown, budget.items)


def _by_number(numbers: Sequence[int], size: int) -> list[list[int]]:
    return [list(numbers[i : i + size]) for i in range(0, len(numbers), size)]


def milliseconds(item: Item) -> int:
    """An item's duration; whole, so that sums do not depend on their order. 0 if it has none."""
    value = item.get(DURATION)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    return round(1000 * value) if 0 < value < 1e9 else 0  # not for NaN
