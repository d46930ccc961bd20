"""Real processes: what is heard of their ends, and that none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auricle.curation import Pipeline
from auricle.curation.engines import TIMEOUT, Died, Done, Event, Failed, Job, Task
from auricle.curation.engines.local import LocalEngine
from auricle.curation.plan import planned
from auricle.curation.step import step
from auricle.errors import ConfigError
from tests.conftest import ROOT
from tests.curation.fakes import Opens, Rows, Trouble, same
from tests.patience import PATIENCE

CPU = ("cpu",)
TROUBLE = Trouble(kills=(1,), hangs=(2,), raises=(3,))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    plan = planned(Pipeline("p", [Rows(4)], [same, Opens(error="no such model"), TROUBLE]))
    made = LocalEngine(Job(plan, tmp_path), {"cpu": 2})
    yield made
    made.close()


def batch(number: int, *numbers: int, stage: int = 3, **options: Any) -> Task:
    given = tuple(json.dumps({"item_id": str(n), "number": n, "duration": 1}) for n in numbers)
    return Task(number, "batch", stage, given, CPU, alone=len(numbers) == 1, **options)


def event(engine: LocalEngine) -> Event:
    found = engine.event(30)
    assert found is not None
    return found


def test_tasks_are_done_and_their_results_come_back(engine: LocalEngine) -> None:
    for number in range(5):
        engine.submit(batch(number, 10 + number, 20 + number))
    events = [event(engine) for _ in range(5)]
    assert {e.task.number for e in events} == set(range(5))
    assert all(isinstance(e, Done) and len(e.value.items) == 2 for e in events)
    assert events[0].metrics["rss_mb"] > 1  # type: ignore[union-attr]
    assert engine.event(0.01) is None


def test_an_exception_is_told_and_the_worker_lives_on(engine: LocalEngine) -> None:
    engine.submit(batch(1, 3))
    failed = event(engine)
    assert isinstance(failed, Failed) and failed.kind == "ValueError" and failed.fatal is None
    # What stands in rows must be the same each time: no addresses.
    assert failed.detail == "3 is not to my taste at 0x..."
    engine.submit(batch(2, 7))
    assert isinstance(event(engine), Done)


def test_the_end_of_a_worker_is_told_with_its_task(engine: LocalEngine) -> None:
    engine.submit(batch(1, 1, 7))
    died = event(engine)
    assert isinstance(died, Died) and died.reason == "signal 9" and died.opened
    assert died.task.number == 1
    engine.submit(batch(2, 7))
    assert isinstance(event(engine), Done)


def test_who_takes_too_long_is_ended(engine: LocalEngine) -> None:
    engine.submit(batch(1, 2, seconds=0.3))
    died = event(engine)
    assert isinstance(died, Died) and died.reason == TIMEOUT and died.opened


def test_a_step_that_cannot_be_opened_stops_the_job(engine: LocalEngine) -> None:
    engine.submit(batch(1, 5, stage=2))
    failed = event(engine)
    assert isinstance(failed, Failed) and isinstance(failed.fatal, ConfigError)
    assert "2-opens cannot be opened on cpu: no such model" in str(failed.fatal)


def test_the_step_is_told_at_which_a_single_item_ended_its_worker(tmp_path: Path) -> None:
    plan = planned(Pipeline("p", [Rows(4)], [same, same, TROUBLE]))
    engine = LocalEngine(Job(plan, tmp_path), {"cpu": 1})
    try:
        engine.submit(batch(1, 1, stage=1))
        died = event(engine)
        assert isinstance(died, Died) and died.step == 2
    finally:
        engine.close()


def test_steps_inside_functions_are_refused(tmp_path: Path) -> None:
    @step()
    def hidden(items: Any) -> Any:
        return items

    plan = planned(Pipeline("p", [Rows(4)], [hidden]))
    with pytest.raises(ConfigError, match="must stand at the top of a module"):
        LocalEngine(Job(plan, tmp_path), {"cpu": 1})


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_no_worker_outlives_its_driver(tmp_path: Path) -> None:
    """Neither one that waits for work nor one that never looks up from it."""
    program = f"""
import sys, time
from pathlib import Path
from tests.curation.running.test_local_engine import *
plan = planned(Pipeline("p", [Rows(4)], [same, Opens(error="x"), TROUBLE]))
engine = LocalEngine(Job(plan, Path({str(tmp_path)!r})), {{"cpu": 2}})
engine.submit(batch(1, 7))
engine.submit(batch(2, 2))
assert isinstance(event(engine), Done)
print(*[w.process.pid for w in engine._workers], flush=True)
time.sleep(60)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert driver.stdout is not None
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    assert len(pids) == 2
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    end = time.monotonic() + PATIENCE
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    assert left == []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
