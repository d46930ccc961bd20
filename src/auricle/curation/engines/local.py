"""Workers on this machine: processes of their own, started when there is work, watched over.

Each has a pipe of its own, so that the end of one is heard at once, and no other process holds that
pipe. None outlives the driver, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from auricle.curation.engines import TIMEOUT, Died, Done, Event, Failed, Job, Task, packed_job
from auricle.errors import WorkerLost

OPENING_SECONDS = 1800.0  # for steps to be opened; models may have to be fetched
_TIDYING_SECONDS = 3.0
_OPENED = "opened"
_PR_SET_PDEATHSIG = 1


@dataclass
class _Worker:
    name: str
    device: str
    process: SpawnProcess
    pipe: Connection
    task: Task | None = None
    opened: bool = False  # whether the task's steps are open
    step: int = 0
    deadline: float | None = None  # of the task, by the monotonic clock


class LocalEngine:
    """A supervised pool of processes.

    Args:
        job: What all workers know, or what `packed_job` has made of it.
        slots: How many workers there may be on each device.

    Raises:
        ConfigError: The job cannot be sent to workers.
    """

    def __init__(self, job: Job | bytes, slots: Mapping[str, int]) -> None:
        self._job = job if isinstance(job, bytes) else packed_job(job)
        self._slots = dict(slots)
        self._waiting: deque[Task] = deque()
        self._events: deque[Event] = deque()
        self._workers: list[_Worker] = []
        self._started = 0
        self._context = multiprocessing.get_context("spawn")

    @property
    def workers(self) -> int:
        """How many tasks can be at work at once."""
        return sum(self._slots.values())

    def submit(self, task: Task) -> None:
        """Have it done when a worker on one of its devices is free."""
        self._waiting.append(task)
        self._hand_out()

    def event(self, timeout: float) -> Event | None:
        """The next thing that happened; None if nothing did within so many seconds.

        Raises:
            WorkerLost: Processes cannot be started here.
        """
        end = time.monotonic() + timeout
        while not self._events:
            now = time.monotonic()
            if now >= end:
                return None
            deadlines = [w.deadline for w in self._workers if w.deadline is not None]
            for ready in wait(
                [w.pipe for w in self._workers], max(0.0, min([end, *deadlines]) - now)
            ):
                self._hear(next(w for w in self._workers if w.pipe is ready))
            self._end_late(time.monotonic())
            self._hand_out()
        return self._events.popleft()

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers:
            if worker.task is not None:
                worker.process.kill()
            worker.pipe.close()  # at which an idle one ends, and tidies up what libraries hold
        end = time.monotonic() + _TIDYING_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    def _hand_out(self) -> None:
        """Give waiting tasks to free workers; start one where there is none."""
        for task in list(self._waiting):
            worker = self._free(task) or self._new(task)
            if worker is None:
                continue
            self._waiting.remove(task)
            worker.task, worker.opened, worker.step = task, False, 0
            worker.deadline = time.monotonic() + OPENING_SECONDS
            try:
                worker.pipe.send(task)
            except OSError:  # it has died while it was idle
                self._ended(worker)
            if all(w.task for w in self._workers) and len(self._workers) == self.workers:
                return

    def _free(self, task: Task) -> _Worker | None:
        idle = (w for w in self._workers if w.task is None and w.device in task.devices)
        return next(idle, None)

    def _new(self, task: Task) -> _Worker | None:
        for device in task.devices:
            there = sum(w.device == device for w in self._workers)
            if there < self._slots.get(device, 0):
                return self._start(device)
        return None

    def _start(self, device: str) -> _Worker:
        self._started += 1
        name = f"worker-{self._started}"
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=_worker_main,
            args=(there, self._job, device, name, os.getpid()),
            name=name,
            daemon=True,
        )
        try:
            process.start()
        except OSError as error:
            raise WorkerLost(f"a worker cannot be started: {error.strerror or error}") from None
        there.close()  # so that its end is heard
        worker = _Worker(name, device, process, here)
        self._workers.append(worker)
        return worker

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            self._ended(worker)
            return
        if said == _OPENED:
            assert worker.task is not None
            seconds = worker.task.seconds
            worker.opened = True
            worker.deadline = None if seconds is None else time.monotonic() + seconds
        elif isinstance(said, int):
            worker.step = said
        else:
            assert isinstance(said, (Done, Failed))
            worker.task = worker.deadline = None
            self._events.append(said)

    def _end_late(self, now: float) -> None:
        for worker in list(self._workers):
            if worker.deadline is not None and now >= worker.deadline:
                worker.process.kill()
                self._ended(worker, TIMEOUT)

    def _ended(self, worker: _Worker, reason: str = "") -> None:
        """A worker is no more; its task, if it had one, is for the runner to do again."""
        worker.process.join(5)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.task is not None:
            reason = reason or _how(worker.process.exitcode)
            died = Died(worker.task, reason, worker.opened, worker.step, worker.name)
            self._events.append(died)


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit {code}"


def _worker_main(pipe: Connection, job: bytes, device: str, name: str, driver: int) -> None:
    """The life of a worker: tasks come by the pipe, what became of them goes back."""
    _die_with(driver)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears it too, and ends its workers
    from auricle.curation.running.worker import Bench, ready

    bench: Bench | Exception = ready(job, device, name)
    with suppress(EOFError, OSError):
        while True:
            task: Task = pipe.recv()
            if isinstance(bench, Exception):
                pipe.send(Failed(task, type(bench).__name__, str(bench), fatal=bench))
                continue
            failed = bench.open(task) if bench.opens(task) else None
            if failed is not None:
                pipe.send(failed)
                continue
            pipe.send(_OPENED)
            at: Any = pipe.send if task.alone else lambda step: None
            pipe.send(bench.do(task, at))


def _die_with(driver: int) -> None:
    """Let this process end when the driver does, even if it is killed.

    Linux does that. Elsewhere, and in case the driver has ended before we could ask, a thread
    waits for its end.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(os, "getppid") and os.name == "posix" and os.getppid() != driver:
        os._exit(1)
    parent: Any = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
