"""What a worker does: a bench on which a stage's steps lie open, and the tasks that come to it.

Every engine's workers use it, so that the same task gives the same bytes. It knows no engine.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auricle.curation.engines import Done, Failed, Job, Task
from auricle.curation.metrics import gpu_mb, rss_mb
from auricle.curation.pipeline import load_steps
from auricle.curation.plan import Labelled, Stage
from auricle.curation.running.examples import open_step, try_examples, try_reader, try_writer
from auricle.curation.running.reading import read_shards, sample
from auricle.curation.running.whole import WholeTask, do_whole
from auricle.curation.running.working import Opened, StepError, Timing, opened, worked
from auricle.curation.running.writing import (
    ELSEWHERE,
    check_writers,
    outputs,
    sources,
    write_all,
)
from auricle.curation.step import Batch, Needs, Place, Step
from auricle.errors import AuricleError, ConfigError, MissingExtra, first_line
from auricle.files import refuse_overwriting

Heard = Callable[[int], None]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")


def ready(job: bytes, device: str, name: str) -> Bench | Exception:
    """A bench for a job that `engines.packed_job` has packed, or why there is none.

    Threads are set before anything is imported that could start some.
    """
    try:
        threads, files, inner = pickle.loads(job)
        os.environ.update(dict.fromkeys(_THREADS, str(threads)))
        for file in files:
            load_steps(file)
        return Bench(pickle.loads(inner), device, name)
    except Exception as error:
        return plain(error)


class Bench:
    """Where a worker does its tasks.

    Args:
        job: What all workers know.
        device: The worker's own: "cpu" or "cuda:1".
        name: For metrics.
    """

    def __init__(self, job: Job, device: str, name: str = "") -> None:
        self.job = job
        self.device = device
        self.name = name
        self._open: dict[int, list[Opened]] = {}

    def opens(self, task: Task) -> bool:
        """Whether steps must be opened before the task, which may take long: see `open`."""
        return task.kind == "batch" and task.stage not in self._open

    def open(self, task: Task) -> Failed | None:
        """Open the steps of a task's stage; says why it cannot."""
        try:
            self._opened(self.job.plan.stages[task.stage])
        except Exception as error:
            return Failed(task, type(error).__name__, first_line(error), fatal=plain(error))
        return None

    def do(self, task: Task, at: Heard = lambda step: None) -> Done | Failed:
        """Do a task; never raises.

        Args:
            task: What to do.
            at: Is told the number of each step of a batch before it begins.
        """
        do = {
            "look": self._look,
            "check": self._check,
            "read": self._read,
            "whole": self._whole,
            "write": self._write,
        }
        try:
            if task.kind == "batch":
                return self._batch(task, at)
            return Done(task, do[task.kind](task))
        except StepError as error:
            return self._failed(task, error.__cause__ or error, error.step)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return Failed(task, type(error).__name__, first_line(error), fatal=plain(error))

    def _failed(self, task: Task, error: BaseException, step: int) -> Failed:
        fatal = plain(error) if is_fatal(error) else None
        # Reasons stand in rows, which must be the same wherever and whenever they are made.
        detail = _ADDRESS.sub("0x...", first_line(error))
        detail = detail.replace(str(self.job.folder), ".").encode("utf-8", "replace").decode()
        return Failed(task, type(error).__name__, detail, step, fatal)

    def _batch(self, task: Task, at: Heard) -> Done:
        start = time.perf_counter()
        steps = self._opened(self.job.plan.stages[task.stage])
        items = [json.loads(line) for line in task.given]
        timing = Timing()
        result = worked(steps, items, at=at, timing=timing)
        metrics = {
            "worker": self.name,
            "host": socket.gethostname(),
            "device": self.device,
            "items": len(items),
            "audio_seconds": result.counts[0].milliseconds / 1000,
            "seconds": round(time.perf_counter() - start, 6),
            "rss_mb": rss_mb(),
            "gpu_mb": gpu_mb(self.device),
            "steps": timing.steps,
        }
        return Done(task, result, metrics)

    def _opened(self, stage: Stage) -> list[Opened]:
        number = self.job.plan.stages.index(stage)
        if number not in self._open:
            self._open[number] = [
                opened(
                    each,
                    open_step(each, self._place(each)),
                    whole_batch=i == 0 and _is_costly(each),
                )
                for i, each in enumerate(stage.steps)
            ]
            _forget_locks()
        return self._open[number]

    def _place(self, each: Labelled, folder: Path | None = None) -> Place:
        step = each.step
        on_device = isinstance(step, Step) and step.needs.accelerator
        device = self.device if on_device else "cpu"
        return Place(folder or self.job.folder, device, self.job.threads)

    def _look(self, task: Task) -> dict[str, float]:
        """Memory in GB of the devices that are asked for; with `sample`, read a row of each reader.

        Raises:
            ConfigError: There is no such device.
        """
        if task.given.get("sample"):
            with tempfile.TemporaryDirectory() as folder:
                sample(self.job.plan, Path(folder))
        return {device: memory_of(device) for device in task.given["devices"]}

    def _check(self, task: Task) -> Batch | None:
        """Open a stage's steps and try their examples; gives its budget if asked to.

        For the stage that reads, it is the readers and the writers that are tried, for a job in the
        folder that is given.
        """
        stage = self.job.plan.stages[task.stage]
        if stage.kind == "read":
            self._try_ends(Path(task.given or self.job.folder))
        works = self._opened(stage) if stage.kind == "work" else []
        for i, each in enumerate(stage.steps):
            # A model is tried as it lies there: it makes no files.
            work = works[i].work if _has_model(each) else None
            with tempfile.TemporaryDirectory() as folder:
                try_examples(each, self._place(each, Path(folder)), work)
        if stage.kind != "work":
            return None
        first = stage.steps[0]
        assert isinstance(first.step, Step)
        return first.step.budget(self._place(first)) if task.given["budget"] else None

    def _try_ends(self, folder: Path) -> None:
        plan, pipeline = self.job.plan, self.job.plan.pipeline
        check_writers(pipeline.write, folder)
        refuse_overwriting(outputs(plan, folder), sources(plan), cure=ELSEWHERE)
        for reader in pipeline.read:
            # Where open files cannot be removed, a data set's stay.
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                try_reader(reader, Path(place))
        for writer in pipeline.write:
            with tempfile.TemporaryDirectory() as place:
                try_writer(writer, Path(place))

    def _read(self, task: Task) -> Any:
        return read_shards(self.job.plan, self.job.folder, **task.given)

    def _whole(self, task: Task) -> Any:
        given: WholeTask = task.given
        (each,) = self.job.plan.stages[task.stage].steps
        return do_whole(each, given, self.job.folder)

    def _write(self, _: Task) -> None:
        """Have each writer write all items that are kept."""
        from auricle.curation.running.results import KeptItems

        plan, folder = self.job.plan, self.job.folder
        write_all(plan.pipeline.write, KeptItems(folder), folder, sources(plan))


def _is_costly(each: Labelled) -> bool:
    return isinstance(each.step, Step) and each.step.costly


def _has_model(each: Labelled) -> bool:
    needs = each.step.needs if isinstance(each.step, Step) else Needs()
    return needs.accelerator or needs.memory_gb > 0


def is_fatal(error: BaseException | None) -> bool:
    """Whether an error is not about the items at hand: more items would not fare better."""
    while error is not None:
        if isinstance(error, (MissingExtra, ConfigError)):
            return True
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        error = error.__cause__ or error.__context__
    return False


def plain(error: BaseException) -> Exception:
    """An exception that can be sent to the driver, with all that its user should read."""
    if isinstance(error, AuricleError) and len(error.args) == 1:
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, error.filename and str(error.filename))
    return ConfigError(f"{type(error).__name__}: {first_line(error)}")


def memory_of(device: str) -> float:
    """GB that a device has.

    Raises:
        ConfigError: There is no such device.
    """
    if device == "cpu":
        try:
            return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 1e9
        except (AttributeError, ValueError, OSError):
            return float("inf")  # this system does not tell
    import torch

    try:
        return float(torch.cuda.mem_get_info(device)[1]) / 1e9
    except (RuntimeError, AssertionError, ValueError) as error:
        there = torch.cuda.device_count()
        raise ConfigError(
            f"there is no device {device} here ({there} of CUDA): {first_line(error)}"
        ) from None


def _forget_locks() -> None:
    """Let tqdm, if a step has brought it along, make no lock between processes.

    A worker that is killed would leave it behind, and Python would complain when the job ends.
    """
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.set_lock(threading.RLock())
