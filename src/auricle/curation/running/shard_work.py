"""One shard at one stage, while it is worked on: its batches, and what has become of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from auricle.curation.items import ID, Item
from auricle.curation.plan import Stage
from auricle.curation.running.batches import batches, milliseconds
from auricle.curation.running.counts import StepCounts, summed
from auricle.curation.running.ledger import Ledger
from auricle.curation.running.store import (
    BatchResult,
    Committed,
    Journal,
    Result,
    Store,
    dropped_line,
)
from auricle.curation.running.trials import Members, Trial, Verdict
from auricle.curation.running.working import condition
from auricle.curation.step import Batch, Step

LIGHT_ITEMS = 64  # of steps that cost little, at least so many items go to a worker at once


@dataclass
class ShardWork:
    """A shard's batches until all are done.

    Args:
        stage: What is done.
        number: The stage's in the plan.
        key: Of what will come out.
        lines: The items that went in.
        groups: Which of them each batch has.
    """

    stage: Stage
    number: int
    key: str
    lines: Sequence[str]
    groups: Sequence[Sequence[int]]
    journal: Journal
    ledger: Ledger
    results: dict[int, BatchResult] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)

    def start(self) -> list[tuple[int, Members]]:
        """Take up what earlier runs did; gives what is to be tried: a batch, and who of it."""
        known = self.journal.read() if self.groups else {}
        self.results = {i: known[i] for i in range(len(self.groups)) if i in known}
        todo: list[tuple[int, Members]] = []
        for i in range(len(self.groups)):
            if i not in self.results:
                todo += [(i, members) for members in self._try(i)]
        return todo

    def _try(self, batch: int) -> list[Members]:
        # An id is looked for only when there is something to note: rows may be long, and many.
        trial = Trial(
            len(self.groups[batch]),
            lambda note: self.ledger.add(self.key, batch, note, lambda i: self._item(batch, i)[ID]),
            self.ledger.known(self.key, batch),
        )
        self.trials[batch] = trial
        wanted = trial.start()
        self.settle(batch)
        return wanted

    def _item(self, batch: int, number: int) -> Item:
        item: Item = json.loads(self.lines[self.groups[batch][number]])
        return item

    def given(self, batch: int, members: Members) -> tuple[str, ...]:
        """The items of a batch that are to be tried."""
        return tuple(self.lines[self.groups[batch][i]] for i in members)

    def settle(self, batch: int) -> BatchResult | None:
        """What became of a batch, once its trial is finished; noted in the journal.

        Raises:
            OSError: The disk is full.
        """
        trial = self.trials[batch]
        if not trial.finished:
            return None
        size, steps = len(self.groups[batch]), len(self.stage.steps)
        results = [Result([], [])] * size
        parts = sorted(trial.parts, key=lambda part: part[0])
        for members, part in parts:
            for i, result in zip(members, part.items, strict=True):
                results[i] = result
        counts = summed((part.counts for _, part in parts), steps)
        for i, verdict in sorted(trial.guilty.items()):
            results[i] = _condemned(self._item(batch, i), verdict, counts)
        done = BatchResult(results, sum(part.milliseconds for _, part in parts), counts)
        self.journal.add(batch, done)
        self.results[batch] = done
        del self.trials[batch]
        return done

    @property
    def finished(self) -> bool:
        """Whether all batches are done."""
        return len(self.results) == len(self.groups)

    def commit(self, store: Store) -> Committed:
        """Keep what became of the shard, in the order in which its items came.

        Raises:
            OSError: The disk is full.
        """
        by_item: dict[int, Result] = {}
        for i, group in enumerate(self.groups):
            by_item.update(zip(group, self.results[i].items, strict=True))
        done = [self.results[i] for i in range(len(self.groups))]
        return store.commit(
            self.stage.name,
            self.key,
            [by_item[i] for i in range(len(self.lines))],
            milliseconds=sum(each.milliseconds for each in done),
            counts=summed((each.counts for each in done), len(self.stage.steps)),
        )


def groups_of(stage: Stage, lines: Sequence[str], budget: Batch) -> list[list[int]]:
    """The batches of a shard.

    A costly step's are of its budget, and those that its condition lets by are by themselves.
    """
    first = stage.steps[0]
    numbers = list(range(len(lines)))
    steps = [each.step for each in stage.steps if isinstance(each.step, Step)]
    if not steps[0].costly:
        most = max(LIGHT_ITEMS, *(step.batch.items for step in steps))
        return [numbers[i : i + most] for i in range(0, len(numbers), most)]
    check = condition(first)
    if check is None and budget.seconds is None:
        return batches([{}] * len(lines), budget)
    items: list[Item] = [json.loads(line) for line in lines]
    passing = [i for i in numbers if check is not None and check(items[i]) is not None]
    staying = sorted(set(numbers) - set(passing))
    made = [[staying[i] for i in group] for group in batches([items[i] for i in staying], budget)]
    return made + [passing[i : i + LIGHT_ITEMS] for i in range(0, len(passing), LIGHT_ITEMS)]


def _condemned(item: Item, verdict: Verdict, counts: Sequence[StepCounts]) -> Result:
    """Quarantine an item that no worker survives; it counts as having come to its last step."""
    for before in counts[: verdict.step]:
        before.into += 1
        before.out += 1
        before.milliseconds += milliseconds(item)
    here = counts[verdict.step]
    here.into += 1
    here.milliseconds += milliseconds(item)
    here.drop("quarantined", verdict.reason)
    reasons = {"reason": verdict.reason, "detail": verdict.detail}
    line = dropped_line(item, how="quarantined", step=verdict.step, **reasons)
    return Result([], [line])
