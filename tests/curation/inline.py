"""An engine without processes, whose order and whose accidents a seed decides."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping

from auricle.curation.engines import TIMEOUT, Died, Done, Event, Failed, Job, Task
from auricle.curation.running.worker import Bench


class DriverKilled(BaseException):
    """Stands for the end of the driver: nothing may be tidied up after it."""


class InlineEngine:
    """Does tasks in a random order; `poison` and `hanging` are numbers of items."""

    def __init__(
        self,
        job: Job,
        slots: Mapping[str, int],
        *,
        seed: int = 0,
        poison: Collection[int] = (),
        hanging: Collection[int] = (),
        kills: int = 0,
        driver_lives: int | None = None,
    ) -> None:
        self.workers = 2
        self.bench = Bench(job, "cpu", "worker-1")
        self.queue: list[Task] = []
        self.luck = random.Random(seed)
        self.poison, self.hanging = frozenset(poison), frozenset(hanging)
        self.kills = kills  # from outside, of workers that hold several items
        self.driver_lives = driver_lives
        self.done = 0

    def submit(self, task: Task) -> None:
        self.queue.append(task)

    def event(self, timeout: float) -> Event | None:
        if not self.queue:
            return None
        self.done += 1
        if self.driver_lives is not None and self.done > self.driver_lives:
            raise DriverKilled
        task = self.queue.pop(self.luck.randrange(len(self.queue)))
        if task.kind == "batch":
            numbers = {json.loads(line).get("number") for line in task.given}
            if numbers & self.poison:
                return Died(task, "signal 9", opened=True)
            if numbers & self.hanging:
                return Died(task, TIMEOUT, opened=True)
            if self.kills and not task.alone and self.luck.random() < 0.3:
                self.kills -= 1
                return Died(task, "signal 9", opened=True)
        elif self.kills and self.luck.random() < 0.2:
            self.kills -= 1
            return Died(task, "signal 9", opened=False)
        failed = self.bench.open(task) if self.bench.opens(task) else None
        event: Done | Failed = failed or self.bench.do(task)
        return event

    def close(self) -> None:
        self.queue.clear()
