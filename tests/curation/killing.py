"""A job that is killed again and again, its driver or a worker, and what comes of it in the end.

    python -m tests.curation.killing --engine local --kills 100 --seed 0

The job has light steps, a poisonous item, a hanging one, one that raises, items cut into parts with
files of their own, branches, and a step over all items. What it leaves must be the same bytes as
without any kill. No healthy item is killed twice while it is alone in a worker: from inside, that
cannot be told from an item that kills.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auricle.curation import Branches, Pipeline, Shard, When, run
from auricle.curation.items import Item
from auricle.curation.step import Batch, Place, Step, Work
from auricle.curation.writers import Manifest
from auricle.files import write_atomic
from tests.curation.fakes import Added, Firsts, Odd, Parts, Rows, Trouble, doubled
from tests.patience import PATIENCE

POISON, HANGS, RAISES = 31, 52, 94
HOLDING = "holding"  # beside the output: of each worker, what it was at last
MANY = "many"
UNKNOWN = "unknown"
NOT_COMPARED = {"stages", "lock", "metrics.jsonl", "ledger.jsonl", "curation.json"}


@dataclass(frozen=True)
class Noted(Step):
    """A step that notes which item its worker holds, if it is one, and takes a moment."""

    inner: Step

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.inner.outputs

    @property
    def batch(self) -> Batch:
        return self.inner.batch

    def options(self) -> dict[str, Any]:
        return self.inner.options()

    def open(self, place: Place) -> Work:
        work = self.inner.open(place)
        note = place.folder.parent / HOLDING / str(os.getpid())

        def noted(items: Sequence[Item]) -> Any:
            note.parent.mkdir(exist_ok=True)
            write_atomic(note, str(items[0]["number"]) if len(items) == 1 else MANY)
            time.sleep(0.01)
            try:
                for outcome in work(items):
                    if isinstance(outcome, dict) and "part" in outcome:
                        _keep_file(place.folder, outcome)
                    yield outcome
            finally:
                write_atomic(note, UNKNOWN)

        return noted


@dataclass(frozen=True)
class Costly(Noted):
    costly = True


def _keep_file(folder: Path, item: Item) -> None:
    path = folder / "audio" / item["item_id"][:2] / f"{item['item_id']}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f"part {item['part']} of {item['number']}\n")


def pipeline() -> Pipeline:
    trouble = Trouble(kills=(POISON,), hangs=(HANGS,), raises=(RAISES,), loses=(101,))
    return Pipeline(
        "kill test",
        [Rows(180, broken=40)],
        [
            Noted(doubled),
            Noted(Odd(7)),
            Costly(trouble),
            Noted(Parts()),
            Branches(
                {
                    "few": [Costly(Added("few", items=3))],
                    "long": [Costly(Added("long", seconds=25.0)), Noted(Odd(11))],
                }
            ),
            When(Costly(Added("some")), {"number": {"ge": 90}}),
            Firsts(110),
        ],
        write=[Manifest("clean.jsonl")],
        shard=Shard(64),
        timeout=4.0,  # seconds: what does not hang takes milliseconds
    )


@dataclass
class Verdict:
    """What was killed, and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    orphans: int = 0
    different: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.different and not self.orphans and self.finished > 0


def results(out: Path) -> dict[str, bytes]:
    """The files of a finished job that must be the same."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] not in NOT_COMPARED
    }


def kill_test(
    folder: Path,
    *,
    engine: str = "local",
    kills: int = 10,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Verdict:
    """Kill a job that often, and compare what it leaves with a job that nobody killed.

    Jobs that end before enough was killed are compared, too, and another one is begun.
    """
    reference = folder / "reference" / "out"
    assert _driver(reference, engine).wait() == 0
    expected = results(reference)
    assert len(expected) > 5
    verdict, luck = Verdict(), random.Random(seed)
    while sum(verdict.kills.values()) < kills:
        one = folder / f"job{verdict.finished}"
        _one_job(one / "out", engine, kills, luck, verdict, say)
        verdict.finished += 1
        found = results(one / "out")
        verdict.different += [
            f"{one.name}: {name}"
            for name in sorted({*expected, *found})
            if expected.get(name) != found.get(name)
        ]
        say(f"job {verdict.finished} done, {len(verdict.different)} files differ so far")
    return verdict


def _one_job(
    out: Path,
    engine: str,
    kills: int,
    luck: random.Random,
    verdict: Verdict,
    say: Callable[[str], None],
) -> None:
    killed_alone: set[str] = set()
    driver = _driver(out, engine)
    try:
        while True:
            # Mostly amid the work, sometimes before it begins.
            patient = luck.random() < 0.9
            while patient and driver.poll() is None and not _workers(out):
                time.sleep(0.01)
            with suppress(subprocess.TimeoutExpired):
                assert driver.wait(luck.uniform(0.0, 1.0)) == 0, "the driver failed"
                return
            if sum(verdict.kills.values()) >= kills:
                assert driver.wait(PATIENCE) == 0, "the driver failed"
                return
            workers = _workers(out)
            if workers and luck.random() < 0.5:
                if what := _kill_worker(luck.choice(workers), out, killed_alone):
                    verdict.kills[what] += 1
                    say(f"{sum(verdict.kills.values())}: {what}")
                continue
            driver.kill()
            driver.wait()
            verdict.kills["driver"] += 1
            verdict.orphans += _left(workers)
            say(f"{sum(verdict.kills.values())}: driver, with {len(workers)} workers")
            shutil.rmtree(out.parent / HOLDING, ignore_errors=True)
            driver = _driver(out, engine)
    finally:
        driver.kill()
        driver.wait()


def _driver(out: Path, engine: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.curation.killing",
        "--engine",
        engine,
        "--run",
        str(out),
    ]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _workers(out: Path) -> list[int]:
    pids = [int(file.name) for file in (out.parent / HOLDING).glob("*") if file.name.isdigit()]
    return sorted(pid for pid in pids if _alive(pid))


def _kill_worker(pid: int, out: Path, killed_alone: set[str]) -> str:
    """Kill a worker; if it holds one item, only if that was not done to the item before.

    Between two batches nobody knows: it may have one item in hand that it has not noted yet.
    """
    try:
        os.kill(pid, signal.SIGSTOP)
        holds = (out.parent / HOLDING / str(pid)).read_text()
        if holds == UNKNOWN or holds in killed_alone:
            os.kill(pid, signal.SIGCONT)
            return ""
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return ""
    if holds == MANY:
        return "worker"
    killed_alone.add(holds)
    return "worker with one item"


def _left(pids: Sequence[int]) -> int:
    """How many processes there still are, when they have had time to end."""
    end = time.monotonic() + PATIENCE
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return sum(map(_alive, pids))


def _alive(pid: int) -> bool:
    """Whether a process lives; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="be the driver of a job, until somebody kills it")
    asked = parser.parse_args()
    if asked.run is not None:
        run(pipeline(), asked.run, engine=asked.engine, workers=2)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="kill-test-"))
    start = time.monotonic()
    verdict = kill_test(folder, engine=asked.engine, kills=asked.kills, seed=asked.seed, say=print)
    print(f"{dict(verdict.kills)} in {time.monotonic() - start:.0f} s, {verdict.orphans} orphans")
    print(f"{verdict.finished} jobs, {len(verdict.different)} files differ from a quiet run's")
    for name in verdict.different:
        print("different:", name)
    if verdict.good:
        shutil.rmtree(folder)
    print("the same bytes each time" if verdict.good else f"NOT the same: look into {folder}")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
