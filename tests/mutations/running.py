"""Cases in worker processes with limits: what each came to, and whether that is allowed."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

MEGABYTE = 2**20
MOST_BYTES = 500 * MEGABYTE  # of memory above the start
MOST_MESSAGE = 2000
HANGS = 60.0  # seconds until a worker that says nothing is killed


@dataclass(frozen=True)
class Outcome:
    """What a case came to; `fault` is empty where that is allowed."""

    number: int
    kind: str
    what: str
    ended: str = ""
    fault: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def kinds(count: int, seed: int, only: Sequence[str] = ()) -> list[str]:
    """The kind of each case, by how often each shall come."""
    from tests.mutations.subjects import SUBJECTS

    names = [name for name in SUBJECTS if not only or name in only]
    weights = [SUBJECTS[name][1] for name in names]
    return random.Random(seed).choices(names, weights, k=count)


def run(
    count: int,
    seed: int,
    *,
    workers: int = 1,
    only: Sequence[str] = (),
    numbers: Sequence[int] | None = None,
) -> Iterator[Outcome]:
    """The outcomes of `count` cases as they come; a case hangs only on the seed and its number."""
    todo = list(range(count)) if numbers is None else list(numbers)
    named = kinds(count, seed, only)
    todo.reverse()
    crew: list[_Worker] = []
    try:
        while todo or crew:
            while todo and len(crew) < workers:
                crew.append(_Worker(seed))
                crew[-1].give(todo.pop(), named)
            ready = wait([w.connection for w in crew], timeout=1.0)
            for worker in list(crew):
                if worker.connection in ready:
                    outcome = worker.take()
                    if isinstance(outcome, str):
                        worker.what = outcome
                        continue
                    yield outcome
                    alive = worker.process.is_alive() and not outcome.fault.startswith("died")
                elif time.monotonic() - worker.since > HANGS:
                    yield Outcome(worker.number, worker.kind, worker.what, fault="hangs")
                    alive = False
                else:
                    continue
                if alive and todo:
                    worker.give(todo.pop(), named)
                else:
                    worker.end()
                    crew.remove(worker)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process that works on one case at a time."""

    def __init__(self, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, seed))
        self.process.start()
        theirs.close()
        self.number, self.kind, self.what, self.since = -1, "", "", time.monotonic()

    def give(self, number: int, named: Sequence[str]) -> None:
        self.number, self.kind, self.since = number, named[number], time.monotonic()
        self.connection.send((number, self.kind))

    def take(self) -> Outcome | str:
        """What the case came to; before that, what was damaged."""
        try:
            said: Outcome | str = self.connection.recv()
        except EOFError:
            self.process.join(10)
            fault = f"died with exit code {self.process.exitcode}"
            return Outcome(self.number, self.kind, self.what, fault=fault)
        return said

    def end(self) -> None:
        self.connection.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()


def _serve(connection: Connection, seed: int) -> None:
    import torch

    torch.set_num_threads(1)
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
    os.dup2(errors.fileno(), 2)
    os.environ["HF_HUB_OFFLINE"] = "1"
    while True:
        try:
            number, kind = connection.recv()
        except EOFError:
            return
        connection.send(one(number, kind, seed, errors, connection.send))


def one(
    number: int,
    kind: str,
    seed: int,
    errors: Any = None,
    tell: Callable[[str], object] = lambda what: None,
) -> Outcome:
    """Make a case, tell what it is, use it, judge what comes."""
    from auricle.errors import AuricleError
    from tests.mutations import subjects

    rng = random.Random(f"{seed} {number}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as room:
        try:
            what, use = subjects.SUBJECTS[kind][0](rng, Path(room))
        except Exception as error:
            return Outcome(number, kind, "", repr(error)[:300], fault="the case was not made")
        tell(what)
        before, limit = _memory("VmRSS"), _limited()
        start = time.process_time()
        if errors is not None:
            errors.seek(0)
            errors.truncate()
        try:
            use()
            ended, fault = "result", ""
        except AuricleError as error:
            ended, fault = f"{type(error).__name__}: {error}", _wrong_message(str(error), room)
        except BaseException as error:  # the libraries' panics are no Exceptions
            ended = f"{type(error).__name__}: {str(error)[:300]}"
            place = traceback.extract_tb(error.__traceback__)
            ours = [f for f in place if "/auricle/" in f.filename] or list(place)
            at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
            fault = f"a foreign {type(error).__name__} at {at}"
        seconds = time.process_time() - start
        limit()
        megabytes = (_memory("VmHWM") - before) / MEGABYTE
        if not fault and megabytes > MOST_BYTES / MEGABYTE:
            fault = f"{megabytes:.0f} MB"
        if errors is not None:
            errors.seek(0)
            said = errors.read()
            if not fault and b"Traceback" in said:
                fault = "a traceback on stderr"
        ended = ended.replace(room, "ROOM")
        return Outcome(number, kind, what, ended[:400], fault, seconds, megabytes)


def _wrong_message(message: str, room: str) -> str:
    if len(message.encode(errors="replace")) > MOST_MESSAGE:
        return f"a message of {len(message)} characters"
    if not message.isprintable():
        return f"a message with {next(c for c in message if not c.isprintable())!r}"
    return "" if message else "no message"


def _limited() -> Any:
    """Forbid more memory than a case may take; gives what lifts the limit again."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if sys.platform != "linux":
        return lambda: None
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + 2 * MOST_BYTES, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _memory(name: str) -> int:
    """One of the kernel's figures of this process, in bytes; 0 where it gives none."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0
