"""`auricle curate`: a pipeline over speech data, exactly once, here or on Ray."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from auricle.cli.options import Quiet
from auricle.cli.outputs import refuse_file_name
from auricle.errors import ConfigError, escaped

if TYPE_CHECKING:
    from auricle.cli.curating import Curating
    from auricle.curation.engines import EngineName
    from auricle.curation.pipeline import Pipeline

CURATED = Path("curated")
_COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


class Engine(StrEnum):
    """What dispatches the work."""

    LOCAL = "local"
    RAY = "ray"


class Crew(TypedDict):
    """Who does the work: what `run` and `check` both take."""

    engine: EngineName
    workers: int | None
    devices: Sequence[str]


def curate(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="PIPELINE", help="A packaged pipeline's name (--list), or a YAML file."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Changes to the pipeline: read.manifest.path=rows.jsonl and so on.",
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write: the job's folder; else curated/NAME."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only check: everything is tried, and what would be done is said."
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write report.html into the folder at the end.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="Processes of this machine, or Ray's.")
    ] = Engine.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes on the CPU; else its cores.")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="auto, cpu, or GPUs with commas between: cuda:0,cuda:1.")
    ] = "auto",
    steps: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.py", help="Steps of your own, by name; may be repeated."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Only list: the packaged pipelines.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Transcribe, judge, filter, cut and split speech data by a pipeline.

    The same command goes on where a run ended, by Ctrl-C or worse: nothing is done twice, and the
    result is that of an uninterrupted run.
    """
    if list_:
        return _list()
    if pipeline is None:
        raise ConfigError("give a pipeline: a YAML file, or a name that auricle curate --list has")
    if output is not None:
        refuse_file_name(output, "a job")
    from auricle.cli.curating import Curating
    from auricle.cli.reporting import warnings_to
    from auricle.curation.pipeline import load_pipeline

    loaded = load_pipeline(pipeline, changes or (), step_files=steps or ())
    crew: Crew = {
        "engine": engine.value,
        "workers": workers,
        "devices": _devices(devices),
    }
    folder = output or CURATED / loaded.name
    with Curating(quiet=quiet) as watch, warnings_to(watch, quiet=quiet):
        if dry_run:
            return _check(loaded, folder, crew, watch)
        return _run(loaded, folder, crew, limit, watch, report=report)


def _check(pipeline: Pipeline, folder: Path, crew: Crew, watch: Curating) -> int:
    from auricle.curation.running.runner import check

    watch.said(f"auricle: checking {pipeline.name}: every step is tried on its examples")
    for line in check(pipeline, folder, **crew, watcher=watch).lines():
        typer.echo(line)
    return 0


def _run(
    pipeline: Pipeline,
    folder: Path,
    crew: Crew,
    limit: int | None,
    watch: Curating,
    *,
    report: bool,
) -> int:
    from auricle.cli import EXIT_INTERRUPTED
    from auricle.cli.curating import told
    from auricle.curation.running.runner import run

    try:
        watch.said(
            f"auricle: reading rows and trying every step; all goes into {escaped(str(folder))}"
        )
        summary = run(pipeline, folder, **crew, limit=limit, watcher=watch)
    except KeyboardInterrupt:
        watch.said("auricle: interrupted; what is done is kept, and the same command goes on")
        return EXIT_INTERRUPTED
    for line in told(summary.to_dict()):
        watch.said(line)
    if report:
        from auricle.curation.report import write_report

        watch.said(f"the report is in {shlex.quote(str(write_report(folder)))}")
    typer.echo(folder)
    return 0


def _devices(said: str) -> list[str]:
    """The devices that an option names; `auto` are all GPUs, or the CPU."""
    if said == "auto":
        return [f"cuda:{i}" for i in range(_gpus())] or ["cpu"]
    return [device.strip() for device in said.split(",") if device.strip()]


def _gpus() -> int:
    """How many there are. PyTorch is asked, but not in this process, which is to stay small."""
    if shutil.which("nvidia-smi") is None:
        return 0
    asked: Any = subprocess.run(
        [sys.executable, "-c", _COUNT_GPUS], capture_output=True, text=True, check=False
    )
    return int(asked.stdout) if asked.returncode == 0 else 0


def _list() -> int:
    from auricle.curation.pipeline import pipeline_names

    rows = [(name, _description(name)) for name in pipeline_names()]
    width = max(len(name) for name, _ in rows) if sys.stdout.isatty() else 0
    for name, description in rows:
        typer.echo(f"{name:<{width}}  {description}" if width else f"{name}\t{description}")
    return 0


def _description(name: str) -> str:
    """The comment that a packaged pipeline begins with."""
    from importlib import resources

    file = resources.files("auricle").joinpath("pipelines", f"{name}.yaml")
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
