"""A step that must know all items: it is fed the rows of all shards, and its outcomes are kept.

Rows are read from the disk as often as the step goes through them; none are held in memory here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from auricle.curation.conditions import Check
from auricle.curation.items import ID, Item, Outcome, Quarantined, canonical
from auricle.curation.plan import Labelled
from auricle.curation.running.batches import milliseconds
from auricle.curation.running.counts import StepCounts
from auricle.curation.running.store import Result, Store, dropped_line
from auricle.curation.running.working import assigned, condition, missing_key
from auricle.curation.step import WholeStep


@dataclass(frozen=True)
class WholeTask:
    """Shards of a whole step.

    Args:
        stage: The name of its stage.
        parent: That of the stage whose rows it takes.
        shards: For each shard the keys of the rows that go in, and of those that come out.
    """

    stage: str
    parent: str
    shards: Sequence[tuple[str, str]]


def do_whole(each: Labelled, task: WholeTask, folder: Path) -> int:
    """Decide on all items and commit all shards; gives their number.

    Raises:
        ConfigError: The step broke its word: not one outcome for each item, in order.
        OSError: The disk is full.
    """
    assert isinstance(each.step, WholeStep)
    store = Store(folder)
    items = _Rows(store, task, each)
    outcomes = iter(each.step.decide(items))
    for parent_key, key in task.shards:
        results: list[Result] = []
        counts, length = StepCounts(), 0
        for item in _items(store, task.parent, parent_key):
            counts.into += 1
            counts.milliseconds += milliseconds(item)
            if items.passes(item):
                counts.passed += 1
                outcome: Outcome = item
            else:
                outcome = missing_key(each.step.inputs, item) or _next(outcomes, item, each)
            if isinstance(outcome, dict):
                counts.out += 1
                length += milliseconds(outcome)
                results.append(Result([canonical(outcome)], []))
                continue
            how = "quarantined" if isinstance(outcome, Quarantined) else "filtered"
            counts.drop(how, outcome.reason)
            reasons = {"reason": outcome.reason, "detail": outcome.detail}
            results.append(Result([], [dropped_line(outcome.item, how=how, step=0, **reasons)]))
        store.commit(task.stage, key, results, milliseconds=length, counts=[counts])
    if next(outcomes, None) is not None:
        raise ValueError(f"{each.label} gave more outcomes than it was given items")
    return len(task.shards)


class _Rows:
    """The items that a step decides on, to be gone through again and again."""

    def __init__(self, store: Store, task: WholeTask, each: Labelled) -> None:
        self.store = store
        self.task = task
        self.inputs = tuple(each.step.inputs)
        self.when: Check | None = condition(each)

    def __iter__(self) -> Iterator[Item]:
        for key, _ in self.task.shards:
            for item in _items(self.store, self.task.parent, key):
                if not self.passes(item) and missing_key(self.inputs, item) is None:
                    yield item

    def passes(self, item: Item) -> bool:
        """Whether the step is not for this item."""
        return self.when is not None and self.when(item) is not None


def _items(store: Store, stage: str, key: str) -> Iterable[Item]:
    return (json.loads(line) for line in store.lines(stage, key))


def _next(outcomes: Iterator[Outcome], item: Item, each: Labelled) -> Outcome:
    outcome = next(outcomes, None)
    if outcome is None:
        raise ValueError(f"{each.label} gave fewer outcomes than it was given items")
    (came,) = assigned([item], [outcome])
    if isinstance(came[0], dict) and came[0][ID] != item[ID]:
        raise ValueError(f"{each.label} cut an item, which a whole step cannot")
    return came[0]
