"""What an engine is: workers that do tasks, and say what became of each.

An engine knows no shard and no journal: whatever it loses, the runner does again. It is told what
to do by `submit` and says what happened by `event`, in any order.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from auricle.curation.plan import Plan
from auricle.errors import ConfigError, first_line

EngineName = Literal["local", "ray"]
TaskKind = Literal["look", "check", "read", "batch", "whole", "write"]


@dataclass(frozen=True)
class Job:
    """What every worker knows from the start."""

    plan: Plan
    folder: Path
    threads: int = 1


def packed_job(job: Job) -> bytes:
    """A job as it is sent to workers: `worker.ready` reads it, once all else is set up there.

    Raises:
        ConfigError: Something in its pipeline cannot be sent.
    """
    try:
        return pickle.dumps((job.threads, tuple(job.plan.pipeline.step_files), pickle.dumps(job)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the pipeline cannot be sent to workers ({first_line(error)}): steps and readers must "
            "stand at the top of a module, not inside a function"
        ) from None


@dataclass(frozen=True)
class Task:
    """One thing for a worker to do.

    Args:
        number: Of this task alone.
        kind: What is to be done; `worker.Bench` says what each takes and gives.
        stage: The plan's stage that it is for.
        given: What it works on.
        devices: Those that may do it.
        seconds: How long it may take once its steps are open; None for as long as it likes.
        alone: Whether it is about one item, so that its end is charged to that item.
    """

    number: int
    kind: TaskKind
    stage: int
    given: Any
    devices: tuple[str, ...]
    seconds: float | None = None
    alone: bool = False


@dataclass(frozen=True)
class Done:
    """A task is done."""

    task: Task
    value: Any
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A task raised; its worker lives on.

    Args:
        task: Which.
        kind: The exception's class.
        detail: Its first line, the same from run to run.
        step: The number of the step in its stage.
        fatal: The exception itself, where it is not about items: a full disk, a missing package.
    """

    task: Task
    kind: str
    detail: str
    step: int = 0
    fatal: Exception | None = None


@dataclass(frozen=True)
class Died:
    """A worker ended before its task did, or was ended because the task took too long.

    Args:
        task: Which.
        reason: "timeout", or how it ended: "signal 9", "exit 1".
        opened: Whether the steps were open, and items at work.
        step: The number of the step in its stage that was last heard of, if `task.alone`.
        worker: Its name.
    """

    task: Task
    reason: str
    opened: bool
    step: int = 0
    worker: str = ""


TIMEOUT = "timeout"
Event = Done | Failed | Died


class Engine(Protocol):
    """Workers, on this machine or others."""

    @property
    def workers(self) -> int:
        """How many tasks can be at work at once."""

    def submit(self, task: Task) -> None:
        """Have it done when a worker is free; those submitted first go first."""

    def event(self, timeout: float) -> Event | None:
        """The next thing that happened; None if nothing did within so many seconds."""

    def close(self) -> None:
        """End all workers, whatever they are doing."""


def engine_of(name: EngineName, job: Job, slots: Mapping[str, int]) -> Engine:
    """The engine of that name; only it is imported.

    Raises:
        ConfigError: There is none, or the job cannot be sent to its workers.
        MissingExtra: Its package is not installed.
        WorkerLost: It cannot be started.
    """
    if name == "local":
        from auricle.curation.engines.local import LocalEngine

        return LocalEngine(job, slots)
    if name == "ray":
        from auricle.curation.engines.ray import RayEngine

        return RayEngine(job, slots)
    raise ConfigError(f"unknown engine {name!r}; use local or ray")
