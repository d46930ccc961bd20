"""Workers by Ray: on this machine, or on a cluster that is there already (RAY_ADDRESS).

The only file that knows Ray, and Ray is asked for little: to place an actor for each worker, to
carry tasks to it, and to tell when it is no more. Each actor watches over one process, just as the
local engine does; so an item that kills is known on the spot, whichever way it kills, and an actor
ends only when its machine does. That is nobody's fault: the task is done again elsewhere.
"""

from __future__ import annotations

import logging
import multiprocessing.spawn
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import IO, Any

import auricle
from auricle.curation.engines import Died, Done, Event, Failed, Job, Task, packed_job
from auricle.curation.engines.local import LocalEngine
from auricle.errors import AuricleError, ConfigError, MissingExtra, WorkerLost, first_line

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError:
    raise MissingExtra(
        "the engine ray needs an extra: pip install 'auricle[ray]' (or take the engine local)"
    ) from None

_ADDRESS = "RAY_ADDRESS"
_TIDYING_SECONDS = 5.0
_SHARING_SECONDS = 3.0  # for a new file to be seen by other machines
_ANSWER_SECONDS = 10.0
_STORE_BYTES = 80 * 2**20  # about the least that Ray takes; tasks are lines of text
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Home:
    """What an actor is told of the driver.

    Args:
        main: The driver's main module, as `multiprocessing` names it: steps may stand in there.
        path: Where the driver looks for modules.
        cwd: Its working folder.
        version: Of Auricle.
        marker: A file in the output; None if this machine is all there is.
        gpus: Its CUDA_VISIBLE_DEVICES.
    """

    main: Mapping[str, str]
    path: tuple[str, ...]
    cwd: str
    version: str
    marker: str | None
    gpus: str | None


class Seat:
    """An actor: a local engine with one worker.

    Args:
        job: From `packed_job`.
        slot: The worker's device as the driver calls it.
        device: The same as it is called where the actor is.
        home: The driver.
    """

    def __init__(self, job: bytes, slot: str, device: str, home: Home) -> None:
        _end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGCHLD"):  # Ray ignores it, and then no exit code can be learnt
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._slot, self._device = slot, device
        self._wrong = _mismatch(home)
        _settle(home)
        self._engine = LocalEngine(job, {device: 1})

    def do(self, task: Task) -> Event:
        """Do a task; what became of it, without what was given."""
        if self._wrong:
            error = ConfigError(self._wrong)
            return Failed(task, type(error).__name__, str(error), fatal=error)
        here = replace(task, devices=(self._device,))
        if task.kind == "look":
            asked = [self._device] * len(task.given["devices"])
            here = replace(here, given={**task.given, "devices": asked})
        event: Event | None = None
        try:
            self._engine.submit(here)
            while event is None:
                event = self._engine.event(60.0)
        except AuricleError as error:
            event = Failed(task, type(error).__name__, str(error), fatal=error)
        if task.kind == "look" and isinstance(event, Done):
            names = {self._device: self._slot}
            event = replace(event, value={names[at]: gb for at, gb in event.value.items()})
        return replace(event, task=replace(task, given=None))

    def close(self) -> None:
        """End the worker, with time to tidy up."""
        self._engine.close()


@dataclass
class _Worker:
    name: str
    slot: str
    actor: Any
    task: Task | None = None
    doing: Any = None  # Ray's reference to what becomes of the task


class RayEngine:
    """Actors, one for each slot.

    Ray is started here, and ended with the job, unless RAY_ADDRESS names a cluster or this process
    is connected to one. On a cluster the output must be on a disk that all its machines share.

    Args:
        job: What all workers know.
        slots: How many workers there may be on each device; on a cluster, of all machines.

    Raises:
        ConfigError: The job cannot be sent to workers, or the cluster is not there or too small.
        WorkerLost: Ray cannot be started.
    """

    def __init__(self, job: Job, slots: Mapping[str, int]) -> None:
        self._job = packed_job(job)
        self._slots = dict(slots)
        self._waiting: deque[Task] = deque()
        self._events: deque[Event] = deque()
        self._workers: list[_Worker] = []
        self._started = 0
        self._own: _OwnRay | None = None
        self._connected = False
        self._marker: Path | None = None
        if not ray.is_initialized() and not os.environ.get(_ADDRESS):
            self._own = _OwnRay(self.workers)
        else:
            self._connected = _connect()
            try:
                _refuse_too_small(self._slots)
                self._marker = _marked(job.folder)
            except BaseException:
                self.close()
                raise
        self._home = Home(
            _main_module(),
            tuple(sys.path),
            str(Path.cwd()),
            auricle.__version__,
            str(self._marker) if self._marker else None,
            os.environ.get("CUDA_VISIBLE_DEVICES"),
        )

    @property
    def workers(self) -> int:
        """How many tasks can be at work at once."""
        return sum(self._slots.values())

    def submit(self, task: Task) -> None:
        """Have it done when a worker on one of its devices is free."""
        self._waiting.append(task)
        self._hand_out()

    def event(self, timeout: float) -> Event | None:
        """The next thing that happened; None if nothing did within so many seconds."""
        end = time.monotonic() + timeout
        while not self._events:
            left = end - time.monotonic()
            if left <= 0:
                return None
            busy = {worker.doing: worker for worker in self._workers if worker.task is not None}
            if not busy:
                time.sleep(left)
                continue
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=left)
            for reference in ready:
                self._hear(busy[reference])
            self._hand_out()
        return self._events.popleft()

    def close(self) -> None:
        """End all workers, whatever they are doing, and Ray if it was started for them."""
        idle = [worker.actor.close.remote() for worker in self._workers if worker.task is None]
        if idle:
            ray.wait(idle, num_returns=len(idle), timeout=_TIDYING_SECONDS)
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers.clear()
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)
        if self._own is not None:
            self._own.close()
        elif self._connected:
            ray.shutdown()

    def _hand_out(self) -> None:
        """Give waiting tasks to free workers; start one where there is none."""
        for task in list(self._waiting):
            worker = self._free(task) or self._new(task)
            if worker is not None:
                self._waiting.remove(task)
                worker.task, worker.doing = task, worker.actor.do.remote(task)

    def _free(self, task: Task) -> _Worker | None:
        idle = (w for w in self._workers if w.task is None and w.slot in task.devices)
        return next(idle, None)

    def _new(self, task: Task) -> _Worker | None:
        for slot in task.devices:
            if sum(w.slot == slot for w in self._workers) < self._slots.get(slot, 0):
                return self._start(slot)
        return None

    def _start(self, slot: str) -> _Worker:
        """On a cluster Ray chooses which GPU a slot is; here it is the one that it is called."""
        self._started += 1
        away = self._own is None and slot != "cpu"
        seat = ray.remote(num_cpus=1, num_gpus=int(away), max_restarts=0, max_task_retries=0)(Seat)
        actor = seat.remote(self._job, slot, "cuda:0" if away else slot, self._home)
        worker = _Worker(f"worker-{self._started}", slot, actor)
        self._workers.append(worker)
        return worker

    def _hear(self, worker: _Worker) -> None:
        task, worker.task = worker.task, None
        assert task is not None
        try:
            event: Event = ray.get(worker.doing)
        except RayActorError as error:
            self._workers.remove(worker)
            ray.kill(worker.actor)  # it may only be out of reach
            if error.actor_init_failed:
                fatal = ConfigError(f"Ray cannot start a worker: {_cause(error)}")
                self._events.append(Failed(task, "ConfigError", str(fatal), fatal=fatal))
            else:
                self._events.append(Died(task, "its actor ended", opened=False, worker=worker.name))
            return
        except RayError as error:
            fatal = ConfigError(f"Ray cannot carry out a task: {_cause(error)}")
            event = Failed(task, "ConfigError", str(fatal), fatal=fatal)
        event = replace(event, task=task)
        if isinstance(event, Died):
            event = replace(event, worker=worker.name)
        elif isinstance(event, Done) and event.metrics:
            event = replace(event, metrics={**event.metrics, "worker": worker.name})
        self._events.append(event)


class _OwnRay:
    """Ray on this machine, for this process alone.

    Nothing is written but in a folder of its own, which nobody else may read and which is removed
    in the end, and nothing is sent anywhere. Those of Ray's processes that a kill of this one would
    leave for a minute are ended by `sweep`.

    Raises:
        WorkerLost: It does not start.
    """

    def __init__(self, workers: int) -> None:
        # Paths of sockets may have some hundred characters, and Ray's are long.
        short = "/tmp" if os.name == "posix" else None
        folder = tempfile.mkdtemp(prefix=f"auricle-ray-{os.getpid()}-", dir=short)
        self._sweep = _sweeper(folder)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if "RAY_AUTH_MODE" not in os.environ:  # then Ray wants a token, and would make one at home
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                num_gpus=0,  # they are packed as by the local engine
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(Path(folder, "ray")),
                # It would end an actor for what its worker takes, and blame nobody.
                _system_config={"memory_monitor_refresh_ms": 0},
            )
        except (RayError, RuntimeError, ValueError, OSError) as error:
            self.close()
            raise WorkerLost(f"Ray does not start here: {first_line(error)}") from None
        self._input.write("started\n")
        self._input.flush()

    @property
    def _input(self) -> IO[str]:
        assert self._sweep.stdin is not None
        return self._sweep.stdin

    def close(self) -> None:
        """End it."""
        ray.shutdown()
        self._input.close()
        with suppress(subprocess.TimeoutExpired):
            self._sweep.wait(_TIDYING_SECONDS)


def _sweeper(folder: str) -> subprocess.Popen[str]:
    program = str(Path(__file__).with_name("sweep.py"))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", program, folder],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that Ctrl-C does not reach it
    )


def _connect() -> bool:
    """Connect to the cluster at RAY_ADDRESS; whether that was still to do.

    Raises:
        ConfigError: There is none.
    """
    if ray.is_initialized():
        return False
    address = os.environ[_ADDRESS]
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        if port.isdecimal():  # Ray itself tries for a quarter of an hour
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RayError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(
            f"no Ray cluster can be used at {_ADDRESS}={address} ({first_line(error)}); without "
            f"{_ADDRESS}, Ray is started on this machine"
        ) from None
    return True


def _refuse_too_small(slots: Mapping[str, int]) -> None:
    """Actors for which there is no room would be waited for without end.

    Raises:
        ConfigError: The cluster has too few CPUs or GPUs.
    """
    has = ray.cluster_resources()
    count = sum(slots.values())
    gpus = count - slots.get("cpu", 0)
    if has.get("CPU", 0) < count or has.get("GPU", 0) < gpus:
        raise ConfigError(
            f"{count} workers, {gpus} of them with a GPU, do not fit on the Ray cluster, which has "
            f"{has.get('CPU', 0):.0f} CPUs and {has.get('GPU', 0):.0f} GPUs: set --workers and "
            "--devices"
        )


def _marked(folder: Path) -> Path:
    """A file by which workers know the output; those of killed drivers are removed."""
    for old in folder.glob(".driver-*"):
        old.unlink(missing_ok=True)
    marker = folder / f".driver-{secrets.token_hex(8)}"
    marker.touch()
    return marker


def _main_module() -> dict[str, str]:
    data = multiprocessing.spawn.get_preparation_data("worker")
    return {key: value for key, value in data.items() if key.startswith("init_main_")}


def _settle(home: Home) -> None:
    """Be for `multiprocessing` what the driver would be, so that workers find the same modules."""
    with suppress(OSError):
        os.chdir(home.cwd)
    sys.path[:] = [*home.path, *(path for path in sys.path if path not in home.path)]
    main = types.ModuleType("__main__")
    main.__spec__ = None
    if "init_main_from_name" in home.main:
        main.__spec__ = ModuleSpec(home.main["init_main_from_name"], None)
    elif "init_main_from_path" in home.main:
        main.__file__ = home.main["init_main_from_path"]
    sys.modules["__main__"] = main
    if home.marker is None:  # elsewhere Ray's choice of a GPU holds
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if home.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = home.gpus


def _mismatch(home: Home) -> str:
    """Why a worker here could not work for the driver, in a line; "" if it can."""
    host = socket.gethostname()
    if auricle.__version__ != home.version:
        return f"{host} has Auricle {auricle.__version__}, the driver {home.version}"
    if home.marker is None:
        return ""
    end = time.monotonic() + _SHARING_SECONDS
    while not Path(home.marker).exists():
        if time.monotonic() > end:
            return (
                f"a worker on {host} does not see {Path(home.marker).parent} as the driver does: "
                "the output must be on a disk that all machines of the cluster share (for a dry "
                "run, set TMPDIR to a folder on it)"
            )
        time.sleep(0.1)
    return ""


def _end_with_parent() -> None:
    """Ray's own process on this machine ends with the driver, or when the machine is given up."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _cause(error: Exception) -> str:
    """The last line of a traceback from elsewhere says most."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:300]
