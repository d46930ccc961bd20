"""The end of branches: what they made of each item, united."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from auricle.curation.items import ID, Item, canonical
from auricle.curation.plan import Plan, Stage
from auricle.curation.running.batches import milliseconds
from auricle.curation.running.counts import StepCounts
from auricle.curation.running.store import BatchResult, Result, Store, dropped_line

DISAGREE = "branches disagree"
CUT = "cut in a branch"
_GONE = object()


class _Drop(NamedTuple):
    how: str
    step: int
    reason: str
    detail: str
    item: Item


@dataclass
class _Way:
    """What a branch made of a shard's items, by id."""

    kept: dict[str, Item] = field(default_factory=dict)
    dropped: dict[str, _Drop] = field(default_factory=dict)


def merged(plan: Plan, stage: Stage, store: Store, keys: Mapping[int, str]) -> BatchResult:
    """What becomes of a shard's items at the end of branches.

    An item that a branch dropped is dropped, for the reason of the first that did. One that two
    branches gave different values under one key is quarantined, and so is one that a branch cut:
    its parts have nothing to be united with.

    Args:
        plan: Has the stages.
        stage: The end of the branches.
        store: Has their rows.
        keys: For each parent of the stage, by number, the key of the shard.
    """
    shard = _Shard(plan, store, keys)
    items = shard.rows(stage.parents[0])
    ways, offset = [], 0
    for numbers in stage.ways:
        ways.append(_way(shard, items, numbers, offset))
        offset += sum(len(plan.stages[i].labels) for i in numbers)
    counts = StepCounts()
    results = [_outcome(item, ways, offset, counts) for item in items]
    length = sum(milliseconds(json.loads(line)) for result in results for line in result.kept)
    return BatchResult(results, length, [counts])


class _Shard(NamedTuple):
    plan: Plan
    store: Store
    keys: Mapping[int, str]

    def rows(self, stage: int) -> list[Item]:
        lines = self.store.lines(self.plan.stages[stage].name, self.keys[stage])
        return [json.loads(line) for line in lines]


def _way(shard: _Shard, items: Sequence[Item], numbers: Sequence[int], offset: int) -> _Way:
    """What a branch of these stages made of items; `offset` is the number of its first label."""
    way = _Way()
    for number in numbers:
        stage = shard.plan.stages[number]
        for said in shard.store.dropped(stage.name, shard.keys[number]):
            why = (offset + said["step"], said["reason"], said["detail"])
            way.dropped.setdefault(said["item"][ID], _Drop(said["as"], *why, said["item"]))
        offset += len(stage.labels)
    rows = shard.rows(numbers[-1]) if numbers else items
    way.kept = {row[ID]: row for row in rows}
    return way


def _outcome(item: Item, ways: Sequence[_Way], own: int, counts: StepCounts) -> Result:
    """`own` is the number of the label of the branches' end itself."""
    for way in ways:
        drop = way.dropped.get(item[ID])
        if drop is None:
            continue
        if drop.how == "cut":
            how, reason, detail = "quarantined", CUT, "cut it before the branches or after them"
        else:
            how, reason, detail = drop.how, drop.reason, drop.detail
        reasons = {"reason": reason, "detail": detail}
        return Result([], [dropped_line(drop.item, how=how, step=drop.step, **reasons)])
    counts.into += 1
    counts.milliseconds += milliseconds(item)
    united, contested = _united(item, [way.kept[item[ID]] for way in ways])
    if contested:
        counts.drop("quarantined", DISAGREE)
        reasons = {"reason": DISAGREE, "detail": ", ".join(contested)}
        return Result([], [dropped_line(item, how="quarantined", step=own, **reasons)])
    counts.out += 1
    return Result([canonical(united)], [])


def _united(item: Item, versions: Sequence[Item]) -> tuple[Item, list[str]]:
    """The item with all changes, and the keys that two branches changed differently."""
    changes: dict[str, Any] = {}
    contested: set[str] = set()
    for version in versions:
        for key in {*item, *version}:
            value = version.get(key, _GONE)
            if _same(value, item.get(key, _GONE)):
                continue
            if key in changes and not _same(changes[key], value):
                contested.add(key)
            changes[key] = value
    united = {**item, **changes}
    return {k: v for k, v in united.items() if v is not _GONE}, sorted(contested)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are written alike: 1 and true are not."""
    if one is _GONE or other is _GONE:
        return one is other
    return one is other or canonical(one) == canonical(other)
