"""Runs a pipeline: everything in it once, whatever happens meanwhile.

    read      rows become shards (a worker does it)
    settle    `model: auto` is given a name, now that rows are known
    check     all examples are tried, every model is loaded, memory is measured
    work      shards go through stages (`schedule`)
    write     the rows of all outcomes, then what the pipeline's writers write, then the summary

What has been done is found again on the disk, by content: to go on is to begin again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from auricle.curation.engines import Engine, EngineName, Job, engine_of
from auricle.curation.items import Item
from auricle.curation.metrics import METRICS, MetricsLog
from auricle.curation.pipeline import Pipeline, refuse_unwritable
from auricle.curation.plan import READ, Plan, planned
from auricle.curation.progress import Silent, Watcher
from auricle.curation.running.folder import Choices, held, tidy
from auricle.curation.running.packing import packed
from auricle.curation.running.reading import ShardRead
from auricle.curation.running.results import Summary, write_results, write_summary
from auricle.curation.running.schedule import Desk, Schedule, Tasks
from auricle.curation.running.settling import is_open, settle
from auricle.curation.running.store import Store
from auricle.curation.running.worker import memory_of
from auricle.curation.running.writing import WRITTEN, outputs
from auricle.curation.step import Batch, Step
from auricle.errors import ConfigError

Slots = Mapping[str, int]


@dataclass(frozen=True)
class Crew:
    """Who works: how many processes on each device, and which devices each stage may be done on."""

    devices: tuple[str, ...]
    slots: Slots
    threads: int


def run(
    pipeline: Pipeline,
    out: str | Path,
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    devices: Sequence[str] = ("cpu",),
    limit: int | None = None,
    watcher: Watcher | None = None,
) -> Summary:
    """Run a pipeline; a run that was broken off goes on where it was.

    What a step gave is kept in `out`, under the content of what went in and what the step is. So a
    changed pipeline, or a changed manifest, has only that done again which the change touches.

    Args:
        pipeline: What to do.
        out: The folder for all results; one process at a time.
        engine: Who does it: processes on this machine, or Ray's actors, by the extra `ray`; on a
            cluster (RAY_ADDRESS) `out` must be on a disk that all its machines share.
        workers: Processes on the CPU; by default one for each core that is free of GPUs' workers.
        devices: "cpu", or GPUs such as "cuda:0", which get a process each.
        limit: Take no more rows than these; a later run without it goes on from there.
        watcher: Hears how it goes.

    Raises:
        ConfigError: The pipeline cannot be run: an example that does not hold, a model that cannot
            be loaded or does not fit, a folder that is in use or is not a job's. Before the first
            item.
        ManifestError: What is to be read is not there.
        MissingExtra: A package is not installed.
        OSError: The disk is full, say; once there is room, the same call goes on.
        WorkerLost: Workers end again and again, and not because of items.
    """
    folder = Path(os.path.abspath(out))  # noqa: PTH100  # without `..`, links as they are
    watcher = watcher or Silent()
    refuse_unwritable(folder, "the job's folder")
    with held(folder), MetricsLog(folder / METRICS) as log:
        log.append({"time": round(time.time(), 3), "event": "start", "engine": engine})
        shards = None
        if is_open(pipeline):
            rows_only = planned(replace(pipeline, steps=(), write=()))
            with closing(engine_of(engine, Job(rows_only, folder), {"cpu": 1})) as reading:
                tasks = Tasks(_desk(rows_only, folder, reading, log, watcher))
                shards = _read(tasks, limit, outputs(planned(pipeline), folder))
            pipeline = _settled(pipeline, _rows(folder, shards), devices, watcher)
        plan = planned(pipeline)
        before = Choices.read(folder)
        crew = crew_of(plan, devices, workers, before.threads if before else None)
        choices = before or Choices(crew.threads)
        with closing(engine_of(engine, Job(plan, folder, crew.threads), crew.slots)) as working:
            desk = _desk(plan, folder, working, log, watcher)
            desk = _checked(replace(desk, devices=_placed(plan, Tasks(desk), crew)), choices)
            facts = {"engine": engine, "devices": list(crew.devices), "slots": dict(crew.slots)}
            choices.write(folder, plan, facts)
            tasks = Tasks(desk)
            if shards is None:
                shards = _read(tasks, limit, outputs(plan, folder))
            watcher.started(plan, len(shards))
            summary = write_results(plan, folder, Schedule(desk, tasks, shards).run())
            if pipeline.write or (folder / WRITTEN).exists():
                tasks.answers([tasks.task("write")])
        tidy(folder)
        write_summary(summary, folder)
        log.append({"time": round(time.time(), 3), "event": "end"})
        watcher.finished(summary.to_dict())
    return summary


def check(
    pipeline: Pipeline,
    out: str | Path | None = None,
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    devices: Sequence[str] = ("cpu",),
    watcher: Watcher | None = None,
) -> Plan:
    """All that `run` does before the first item, and nothing is kept of it.

    The plan is made, the first row of each reader is read, every example tried, every model loaded.

    Args:
        pipeline: What would be done.
        out: The folder that `run` would be given; nothing is written there.
        engine: As in `run`.
        workers: As in `run`.
        devices: As in `run`.
        watcher: As in `run`.

    Returns:
        The plan; `lines` tells it.

    Raises:
        As `run`.
    """
    watcher = watcher or Silent()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if is_open(pipeline):
            rows = (row for reader in pipeline.read for row in reader.items(folder))
            items = (row for row in rows if isinstance(row, dict))
            pipeline = _settled(pipeline, items, devices, watcher)
        plan = planned(pipeline)
        crew = crew_of(plan, devices, workers, None)
        job = Job(plan, folder, crew.threads)
        with (
            MetricsLog(folder / METRICS) as log,
            closing(engine_of(engine, job, crew.slots)) as working,
        ):
            desk = _desk(plan, folder, working, log, watcher)
            tasks = Tasks(desk)
            tasks.answers([tasks.task("look", given={"devices": [], "sample": True})])
            desk = replace(desk, devices=_placed(plan, tasks, crew))
            _checked(desk, Choices(crew.threads), None if out is None else os.path.abspath(out))  # noqa: PTH100
    return plan


def _settled(
    pipeline: Pipeline, items: Iterable[Item], devices: Sequence[str], watcher: Watcher
) -> Pipeline:
    settled, reasons = settle(pipeline, lambda: items, devices)
    for reason in reasons:
        watcher.said(reason)
    return settled


def crew_of(plan: Plan, devices: Sequence[str], workers: int | None, threads: int | None) -> Crew:
    """Who is to work.

    Args:
        plan: Says how much memory a worker on the CPU takes.
        devices: As in `run`.
        workers: As in `run`.
        threads: For each worker, where that was chosen before.

    Raises:
        ConfigError: Unknown devices, no workers, or more models than memory.
    """
    devices = tuple(dict.fromkeys(devices)) or ("cpu",)
    for device in devices:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise ConfigError(f"unknown device {device!r}; use cpu, cuda, or cuda:0, cuda:1, ...")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be 1 or more, got {workers}")
    gpus = tuple(device for device in devices if device != "cpu")
    cores = _cores()
    usual = max(1, cores - len(gpus))
    needs = {
        stage.name: stage.needs.memory_gb
        for stage in plan.stages
        if stage.needs.memory_gb and not (gpus and stage.needs.accelerator)
    }
    if needs:
        memory = memory_of("cpu")
        while usual > 1 and sum(needs.values()) * usual > 0.9 * memory:
            usual -= 1
        count = workers or usual
        share = "1 worker has" if count == 1 else f"{count} workers share"
        packed(needs, {f"cpu ({share} {memory:.0f} GB)": memory / count})
    # A model's last digits may depend on its threads, so how many workers are wanted decides
    # nothing about them: the same rows come out.
    each = threads or max(1, cores // (usual + len(gpus)))
    return Crew(devices, {"cpu": workers or usual, **dict.fromkeys(gpus, 1)}, each)


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _placed(plan: Plan, tasks: Tasks, crew: Crew) -> list[tuple[str, ...]]:
    """For each stage the devices that may work on it."""
    gpus = [device for device in crew.slots if device != "cpu"]
    needs = {s.name: s.needs.memory_gb for s in plan.stages if gpus and s.needs.accelerator}
    if not needs:
        return [("cpu",)] * len(plan.stages)
    looks = [tasks.task("look", given={"devices": [gpu]}, devices=(gpu,)) for gpu in gpus]
    capacity = {gpu: gb for said in tasks.answers(looks) for gpu, gb in said.items()}
    places = packed(needs, capacity)
    return [places.get(stage.name, ("cpu",)) for stage in plan.stages]


def _checked(desk: Desk, choices: Choices, out: str | None = None) -> Desk:
    """Try readers, steps and writers; `out` is where a job would write, if that is elsewhere.

    Returns:
        The desk with the budgets of costly stages, which are chosen if they are new.

    Raises:
        ConfigError: An example does not hold, or a step cannot be opened.
    """
    tasks = Tasks(desk)
    plan = desk.plan
    variants: dict[int, str] = {}
    asked = []
    for number, stage in enumerate(plan.stages):
        if stage.kind == "read":
            asked.append((number, tasks.task("check", number, out)))
        if not stage.steps:
            continue
        first = stage.steps[0].step
        costly = isinstance(first, Step) and first.costly
        kind = desk.devices[number][0].partition(":")[0] if stage.needs.accelerator else "cpu"
        variants[number] = f"{stage.name} on {kind}"
        budget = costly and variants[number] not in choices.budgets
        asked.append((number, tasks.task("check", number, {"budget": budget})))
    answers = tasks.answers([task for _, task in asked])
    budgets: dict[int, Batch] = {}
    for (number, _), answer in zip(asked, answers, strict=True):
        if number not in variants:
            continue
        if answer is not None:
            choices.budgets[variants[number]] = answer
        if variants[number] in choices.budgets:
            budgets[number] = choices.budgets[variants[number]]
            variants[number] += f", batches of {budgets[number]}"
    return replace(desk, budgets=budgets, variants=variants)


def _read(tasks: Tasks, limit: int | None, replaced: Sequence[str]) -> list[ShardRead]:
    given = {"limit": limit, "outputs": replaced}
    (shards,) = tasks.answers([tasks.task("read", given=given)])
    found: list[ShardRead] = shards
    return found


def _rows(folder: Path, shards: Sequence[ShardRead]) -> Iterator[Item]:
    store = Store(folder)
    return (json.loads(line) for shard in shards for line in store.lines(READ, shard.key))


def _desk(plan: Plan, folder: Path, engine: Engine, log: MetricsLog, watcher: Watcher) -> Desk:
    return Desk(plan, folder, engine, log, watcher, [("cpu",)] * len(plan.stages))
