"""Which shard is worked on next, and what is done with what workers say: the heart of the driver.

A shard goes from stage to stage as soon as it can, the later stages first, so that little lies
open at a time. Everything here may be lost at any moment: what counts is on the disk.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auricle.curation.engines import Died, Done, Engine, Event, Failed, Task, TaskKind
from auricle.curation.items import digest
from auricle.curation.metrics import MetricsLog
from auricle.curation.plan import Plan
from auricle.curation.progress import Counts, Watcher
from auricle.curation.running.counts import StepCounts
from auricle.curation.running.ledger import Ledger
from auricle.curation.running.merging import merged
from auricle.curation.running.reading import ShardRead
from auricle.curation.running.results import StageDone
from auricle.curation.running.shard_work import ShardWork, groups_of
from auricle.curation.running.store import Committed, Store
from auricle.curation.running.trials import Members
from auricle.curation.running.whole import WholeTask
from auricle.curation.step import Batch, Step
from auricle.errors import WorkerLost

_TRIES = 6  # of what is about no item: opening steps, reading, writing
_OPEN_SHARDS = 3  # for each worker, so that none waits for the driver
_TICK = 1.0  # seconds


@dataclass(frozen=True)
class Desk:
    """What the driver works with."""

    plan: Plan
    folder: Path
    engine: Engine
    log: MetricsLog
    watcher: Watcher
    devices: Sequence[tuple[str, ...]]  # of each stage, those that may work on it
    budgets: Mapping[int, Batch] = field(default_factory=dict)  # of each stage, where it is costly
    variants: Mapping[int, str] = field(default_factory=dict)  # what else results depend on

    def say(self, event: str, line: str, **facts: Any) -> None:
        """Tell the log and the watcher of an event."""
        self.log.append({"time": round(time.time(), 3), "event": event, **facts})
        self.watcher.said(line)


class Tasks:
    """Tasks that are about no item: they are tried again when a worker dies, and must not fail."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.number = 0
        self._deaths: Counter[tuple[str, int]] = Counter()

    def task(self, kind: TaskKind, stage: int = 0, given: Any = None, **options: Any) -> Task:
        """A task with a number of its own."""
        self.number += 1
        devices = options.pop("devices", self.desk.devices[stage] if self.desk.devices else ())
        return Task(self.number, kind, stage, given, devices or ("cpu",), **options)

    def answers(self, tasks: Sequence[Task]) -> list[Any]:
        """What became of tasks, in order.

        Raises:
            WorkerLost: Workers die of one of them.
            Exception: What one of them raised.
        """
        for task in tasks:
            self.desk.engine.submit(task)
        values: dict[int, Any] = {}
        while len(values) < len(tasks):
            event = self.desk.engine.event(_TICK)
            if isinstance(event, Done):
                values[event.task.number] = event.value
            elif isinstance(event, Failed):
                raise_from(event)
            elif isinstance(event, Died):
                self.again(event)
        return [values[task.number] for task in tasks]

    def again(self, event: Died) -> None:
        """Have a task tried again whose worker died, though not of an item.

        Raises:
            WorkerLost: It was tried often enough.
        """
        stage, kind = self.desk.plan.stages[event.task.stage], event.task.kind
        what = f"opening {' and '.join(stage.counted)}" if kind == "batch" else f"its {kind} task"
        what = what if kind in ("batch", "look", "read", "write") else f"{kind} of {stage.name}"
        self._deaths[kind, event.task.stage] += 1
        times = self._deaths[kind, event.task.stage]
        if times >= _TRIES:
            raise WorkerLost(
                f"{times} workers in a row ended at {what} ({event.reason}): most often there is "
                "too little memory, or a script calls run() without `if __name__ == '__main__'`"
            )
        self.desk.say("retry", f"a worker ended at {what} ({event.reason}); once more", task=kind)
        self.desk.engine.submit(event.task)

    def went_well(self, task: Task) -> None:
        """Forget the deaths of workers that opened what now is open."""
        self._deaths.pop((task.kind, task.stage), None)


class Schedule:
    """All stages of a job but the reading, until all shards are through."""

    def __init__(self, desk: Desk, tasks: Tasks, shards: Sequence[ShardRead]) -> None:
        self.desk = desk
        self.tasks = tasks
        self.store = Store(desk.folder)
        self.ledger = Ledger(desk.folder)
        self.shards = shards
        stages = desk.plan.stages
        self.stages = [StageDone.of(stage, len(shards)) for stage in stages]
        self._ready: list[tuple[int, int]] = []  # minus the stage, and the shard
        self._begun: set[tuple[int, int]] = set()
        self._open: dict[tuple[str, str], ShardWork] = {}  # by stage and key
        self._twins: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self._shard_of: dict[tuple[str, str], int] = {}
        self._running: dict[int, tuple[ShardWork, int, Members]] = {}
        self._wholes: dict[int, int] = {}  # tasks of whole steps, and their stages
        self._dropped: dict[str, Counter[str]] = {"filtered": Counter(), "quarantined": Counter()}

    def run(self) -> list[StageDone]:
        """Work until all is done.

        Raises:
            OSError: The disk is full.
            WorkerLost: Workers die, and not of items.
            AuricleError: What stopped a step.
        """
        for number, shard in enumerate(self.shards):
            committed = self.store.committed(self.desk.plan.stages[0].name, shard.key)
            assert committed is not None
            self._finish(0, number, shard.key, committed)
        most = _OPEN_SHARDS * self.desk.engine.workers
        while True:
            while self._ready and len(self._open) < most:
                stage, shard_number = heapq.heappop(self._ready)
                self._begin(-stage, shard_number)
            if not self._running and not self._wholes:
                break
            event = self.desk.engine.event(_TICK)
            if event is not None:
                self._hear(event)
        assert all(done.done == len(self.shards) for done in self.stages)
        return self.stages

    def _begin(self, number: int, shard: int) -> None:
        """Start work on a shard at a stage, unless it is done already."""
        stage = self.desk.plan.stages[number]
        if stage.kind == "whole":
            self._begin_whole(number)
            return
        parents = [self.stages[parent] for parent in stage.parents]
        rows = [of.digests[shard] for of in parents]
        sound = self.shards[shard].sound
        key = digest(stage.name, self.desk.variants.get(number, ""), rows, sound)
        if stage.kind == "merge":
            # What a branch dropped, and why, is not in the digests of its rows.
            key = digest(key, [of.keys[shard] for of in parents])
        place = (stage.name, key)
        if place in self._open:
            self._twins.setdefault(place, []).append((number, shard))
            return
        committed = self.store.committed(*place)
        if committed is None and stage.kind == "merge":
            keys = {parent: self.stages[parent].keys[shard] for parent in stage.parents}
            result = merged(self.desk.plan, stage, self.store, keys)
            committed = self.store.commit(
                *place, result.items, milliseconds=result.milliseconds, counts=result.counts
            )
        if committed is not None:
            self._finish(number, shard, key, committed)
            return
        parent = stage.parents[0]
        lines = list(
            self.store.lines(self.desk.plan.stages[parent].name, self.stages[parent].keys[shard])
        )
        groups = groups_of(stage, lines, self._budget(number))
        work = ShardWork(stage, number, key, lines, groups, self.store.journal(*place), self.ledger)
        self._open[place], self._shard_of[place] = work, shard
        for batch, members in work.start():
            self._submit(work, batch, members)
        for result in work.results.values():
            self._tally(result.counts)
        self._maybe_commit(work)

    def _budget(self, number: int) -> Batch:
        first = self.desk.plan.stages[number].steps[0].step
        assert isinstance(first, Step)
        return self.desk.budgets.get(number, first.batch)

    def _submit(self, work: ShardWork, batch: int, members: Members) -> None:
        task = self.tasks.task(
            "batch",
            work.number,
            work.given(batch, members),
            seconds=self.desk.plan.pipeline.timeout,
            alone=len(members) == 1,
        )
        self._running[task.number] = (work, batch, members)
        self.desk.engine.submit(task)

    def _hear(self, event: Event) -> None:
        task = event.task
        if task.number in self._wholes:
            self._hear_whole(event)
            return
        work, batch, members = self._running.pop(task.number)
        trial = work.trials[batch]
        if isinstance(event, Died) and not event.opened:
            self.tasks.again(event)
            self._running[task.number] = (work, batch, members)
            return
        self.tasks.went_well(task)
        if isinstance(event, Done):
            wanted = trial.done(members, event.value)
        elif isinstance(event, Failed):
            if event.fatal is not None:
                raise_from(event)
            wanted = trial.failed(members, event.kind, event.detail, event.step)
        else:
            self._tell_death(work, members, event)
            wanted = trial.died(members, event.reason, event.step)
        result = work.settle(batch)
        for again in wanted:
            self._submit(work, batch, again)
        if result is not None:
            self._tally(result.counts)
        if isinstance(event, Done):
            self._measure(work, event, counted=result is not None)
        self._maybe_commit(work)

    def _tell_death(self, work: ShardWork, members: Members, event: Died) -> None:
        who = "with one item alone" if len(members) == 1 else f"with {len(members)} items at work"
        self.desk.say(
            "death",
            f"{event.worker} ended ({event.reason}) at {work.stage.labels[event.step]}, {who}",
            stage=work.stage.name,
            shard=work.key,
            items=len(members),
            reason=event.reason,
        )

    def _measure(self, work: ShardWork, event: Done, *, counted: bool) -> None:
        """A line of metrics for a batch; one for a trial, whose results are thrown away, too."""
        record = {
            "time": round(time.time(), 3),
            **({} if counted else {"event": "trial"}),
            "stage": work.stage.name,
            "shard": work.key,
            **event.metrics,
        }
        self.desk.log.append(record)
        if counted:
            self.desk.watcher.batch(record, self.counts())

    def _maybe_commit(self, work: ShardWork) -> None:
        if not work.finished:
            return
        place = (work.stage.name, work.key)
        del self._open[place]
        committed = work.commit(self.store)
        self._finish(work.number, self._shard_of.pop(place), work.key, committed, counted=True)
        for number, shard in self._twins.pop(place, ()):
            self._finish(number, shard, work.key, committed)

    def _finish(
        self, number: int, shard: int, key: str, committed: Committed, *, counted: bool = False
    ) -> None:
        """A shard is through a stage: see what that makes possible."""
        self.stages[number].add(shard, key, committed)
        if not counted:
            self._tally(committed.counts)
        plan = self.desk.plan
        for child in plan.children(number):
            parents = [self.stages[parent] for parent in plan.stages[child].parents]
            if plan.stages[child].kind == "whole":
                ready, place = parents[0].done == len(self.shards), (child, 0)
            else:
                ready, place = all(of.keys[shard] for of in parents), (child, shard)
            if ready and place not in self._begun:
                self._begun.add(place)
                heapq.heappush(self._ready, (-child, place[1]))

    def _begin_whole(self, number: int) -> None:
        stage = self.desk.plan.stages[number]
        parent = self.stages[stage.parents[0]]
        everything = digest(stage.name, parent.digests)
        keys = [digest(everything, each) for each in parent.digests]
        if self._take_whole(number, keys):
            return
        given = WholeTask(
            stage.name,
            self.desk.plan.stages[stage.parents[0]].name,
            tuple(zip(parent.keys, keys, strict=True)),
        )
        task = self.tasks.task("whole", number, given)
        self._wholes[task.number] = number
        self.desk.engine.submit(task)

    def _take_whole(self, number: int, keys: Sequence[str]) -> bool:
        """Take over a whole step's shards, if all of them are there."""
        name = self.desk.plan.stages[number].name
        if not all(self.store.committed(name, key) for key in keys):
            return False
        for shard, key in enumerate(keys):
            committed = self.store.committed(name, key)
            assert committed is not None
            self._finish(number, shard, key, committed)
        return True

    def _hear_whole(self, event: Event) -> None:
        if isinstance(event, Failed):
            raise_from(event)
        if isinstance(event, Died):
            self.tasks.again(event)
            return
        number = self._wholes.pop(event.task.number)
        given: WholeTask = event.task.given
        there = self._take_whole(number, [key for _, key in given.shards])
        assert there
        self.desk.log.append(
            {"time": round(time.time(), 3), "event": "stage", "stage": given.stage}
        )

    def _tally(self, counts: Iterable[StepCounts]) -> None:
        for each in counts:
            self._dropped["filtered"].update(each.filtered)
            self._dropped["quarantined"].update(each.quarantined)

    def counts(self) -> Counts:
        """How far the job is."""
        return Counts(
            read=self.stages[0].counts[0].into,
            shards={
                stage.name: (done.done, len(self.shards))
                for stage, done in zip(self.desk.plan.stages, self.stages, strict=True)
            },
            filtered=dict(self._dropped["filtered"]),
            quarantined=dict(self._dropped["quarantined"]),
        )


def raise_from(event: Failed) -> None:
    """Raise what stopped a task.

    Raises:
        Exception: It.
    """
    raise event.fatal or RuntimeError(f"{event.kind}: {event.detail}")
