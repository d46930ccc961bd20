"""Ray as an engine: the same events and the same bytes as from the local one.

Most is tried on one cluster that these tests start, for Ray takes seconds to begin.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auricle.curation import Pipeline, engines
from auricle.curation.engines import TIMEOUT, Died, Done, Failed, Job, Task
from auricle.curation.engines.sweep import descendants
from auricle.curation.plan import Plan, planned
from auricle.errors import ConfigError, MissingExtra
from tests.conftest import ROOT
from tests.curation.fakes import Opens, Rows, Trouble, same
from tests.curation.killing import HOLDING, kill_test, results
from tests.curation.running.test_local_engine import alive, batch, event
from tests.patience import PATIENCE

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

CLUSTER = """
import logging, sys, ray
ray.init("local", num_cpus=3, num_gpus=0, include_dashboard=False, logging_level=logging.ERROR,
         object_store_memory=80 * 2**20, _temp_dir=sys.argv[1])
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)  # else Ray leaves one in the home folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        folder = Path("/tmp") / f"auricle-test-{os.getpid()}"  # short: Ray makes sockets in it
        cluster = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert cluster.stdin is not None and cluster.stdout is not None
        patch.setenv("RAY_ADDRESS", cluster.stdout.readline().strip())
        yield os.environ["RAY_ADDRESS"]
        cluster.communicate()
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture(scope="module")
def plan() -> Plan:
    trouble = Trouble(kills=(1,), hangs=(2,), raises=(3,))
    return planned(Pipeline("p", [Rows(4)], [same, Opens(error="no such model"), trouble]))


@pytest.fixture
def engine(address: str, plan: Plan, tmp_path: Path) -> Iterator[Any]:
    made = engines.engine_of("ray", Job(plan, tmp_path), {"cpu": 2})
    yield made
    made.close()
    assert not list(tmp_path.iterdir())


@needs_ray
def test_it_tells_the_same_events_as_the_local_engine(engine: Any) -> None:
    for number in range(5):
        engine.submit(batch(number, 10 + number, 20 + number))
    events = [event(engine) for _ in range(5)]
    assert {e.task.number for e in events} == set(range(5))
    assert all(isinstance(e, Done) and len(e.value.items) == 2 and e.task.given for e in events)
    assert {e.metrics["worker"] for e in events} <= {"worker-1", "worker-2"}  # type: ignore[union-attr]

    engine.submit(batch(6, 3))
    failed = event(engine)
    assert isinstance(failed, Failed) and failed.kind == "ValueError" and failed.fatal is None
    assert failed.detail == "3 is not to my taste at 0x..."

    engine.submit(batch(7, 1, 7))
    died = event(engine)
    assert isinstance(died, Died) and died.reason == "signal 9" and died.opened
    assert died.task.number == 7

    engine.submit(batch(8, 2, seconds=0.3))
    died = event(engine)
    assert isinstance(died, Died) and died.reason == TIMEOUT and died.opened

    engine.submit(batch(9, 5, stage=2))
    failed = event(engine)
    assert isinstance(failed, Failed) and isinstance(failed.fatal, ConfigError)
    assert "2-opens cannot be opened on cpu: no such model" in str(failed.fatal)

    engine.submit(replace(batch(10), kind="look", given={"devices": ["cpu"]}))
    done = event(engine)
    assert isinstance(done, Done) and done.value["cpu"] > 0.1


@needs_ray
def test_an_actor_that_ends_is_no_items_fault(engine: Any) -> None:
    """As when its machine is switched off: whatever it did is done again, and nobody blamed."""
    import ray

    engine.submit(batch(1, 2))
    time.sleep(0.5)
    ray.kill(engine._workers[0].actor)
    died = event(engine)
    assert isinstance(died, Died) and not died.opened and died.task.number == 1
    engine.submit(batch(2, 7))
    assert isinstance(event(engine), Done)


@needs_ray
def test_an_output_that_workers_do_not_see_is_refused(engine: Any) -> None:
    engine._marker.unlink()
    engine.submit(batch(1, 7))
    failed = event(engine)
    assert isinstance(failed, Failed) and isinstance(failed.fatal, ConfigError)
    assert "must be on a disk that all machines of the cluster share" in str(failed.fatal)


@needs_ray
def test_more_workers_than_the_cluster_has_room_for_are_refused(
    address: str, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="4 workers, 0 of them with a GPU, do not fit"):
        engines.engine_of("ray", Job(plan, tmp_path), {"cpu": 4})
    with pytest.raises(ConfigError, match="1 of them with a GPU, do not fit"):
        engines.engine_of("ray", Job(plan, tmp_path), {"cpu": 1, "cuda:0": 1})


@needs_ray
def test_a_cluster_that_is_not_there_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"no Ray cluster can be used at RAY_ADDRESS=127.0.0.1:9"):
        engines.engine_of("ray", Job(plan, tmp_path), {"cpu": 1})


@needs_ray
def test_a_gpu_of_the_cluster_is_called_what_the_driver_calls_it(plan: Plan) -> None:
    """Where an actor is, the one GPU that it may use is `cuda:0`, whichever slot it fills."""
    from auricle.curation.engines.ray import Seat

    class Echo:
        def submit(self, task: Task) -> None:
            self.task = task

        def event(self, timeout: float) -> Done:
            asked = self.task.given["devices"] if self.task.kind == "look" else ()
            return Done(self.task, dict.fromkeys(asked, 80.0))

    seat, echo = object.__new__(Seat), Echo()
    vars(seat).update(_wrong="", _slot="cuda:1", _device="cuda:0", _engine=echo)
    look = Task(1, "look", 0, {"devices": ["cuda:1"]}, ("cuda:1",))
    done = seat.do(look)
    assert isinstance(done, Done) and done.value == {"cuda:1": 80.0}
    assert echo.task.devices == ("cuda:0",) and echo.task.given == {"devices": ["cuda:0"]}
    seat.do(Task(2, "batch", 1, ("{}",), ("cuda:0", "cuda:1")))
    assert echo.task.devices == ("cuda:0",) and echo.task.given == ("{}",)


@needs_ray
@on_linux
@pytest.mark.slow
def test_ten_kills_change_no_byte(address: str, tmp_path: Path) -> None:
    """`make kill-test ENGINE=ray` does it a hundred times, starting Ray each time."""
    verdict = kill_test(tmp_path, engine="ray", kills=10, seed=3)
    assert sum(verdict.kills.values()) >= 10 and verdict.finished >= 1
    assert verdict.orphans == 0
    assert verdict.different == []


@needs_ray
@on_linux
@pytest.mark.slow
def test_ray_of_its_own_ends_with_the_driver_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """Nothing is left of a killed one: no process, no folder; and nothing stands at home."""
    (tmp_path / "home").mkdir()

    def driver(engine: str, out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.curation.killing", "--engine", engine, "--run"]
        env = {name: of for name, of in os.environ.items() if not name.startswith("RAY_")}
        env |= {"HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, str(out)], env=env, cwd=ROOT)

    local, out = tmp_path / "local/out", tmp_path / "ray/out"
    assert driver("local", local).wait() == 0
    killed = driver("ray", out)
    while killed.poll() is None and not list((out.parent / HOLDING).glob("*")):
        time.sleep(0.02)
    time.sleep(0.5)
    processes = descendants(killed.pid)
    assert len(processes) > 5
    killed.kill()
    killed.wait()
    end = time.monotonic() + PATIENCE
    while (left := [pid for pid in processes if alive(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []
    assert driver("ray", out).wait() == 0
    assert results(out) == results(local)
    assert not list((tmp_path / "home").iterdir())
    assert not list(Path("/tmp").glob(f"auricle-ray-{killed.pid}-*"))


def test_without_ray_the_cure_is_told(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "auricle.curation.engines.ray", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'auricle\[ray\]'"):
        engines.engine_of("ray", Job(plan, tmp_path), {"cpu": 1})


def test_unknown_engines_are_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use local or ray"):
        engines.engine_of("spark", Job(plan, tmp_path), {"cpu": 1})  # type: ignore[arg-type]
