"""`auricle train`: a model from a recipe, alone or on many GPUs by `torchrun`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auricle.cli.options import DryRun, Quiet, Resume, RunFolder, Show
from auricle.errors import AuricleError, ConfigError, ManifestError, NonFiniteLoss

if TYPE_CHECKING:
    from auricle.cli.watching import Watch
    from auricle.tokenizers import Tokenizer
    from auricle.training.alignment import ModelFacts
    from auricle.training.loop import TrainResult
    from auricle.training.recipe import DataRecipe, Recipe, SourceRecipe
    from auricle.training.sources import Source

RUNS = Path("runs")


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A packaged recipe's name (--list), or a YAML file."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Changes to the recipe: optimizer.lr=0.001 and so on."
        ),
    ] = None,
    *,
    output: RunFolder = None,
    resume: Resume = False,
    check: DryRun = False,
    show: Show = False,
    list_: Annotated[bool, typer.Option("--list", help="Only list: the packaged recipes.")] = False,
    quiet: Quiet = False,
) -> int:
    """Train a model by a recipe.

    Ctrl-C and SIGTERM save first; go on with --resume. The exit code of --dry-run is 1 if a
    training would be refused. On N GPUs: torchrun --nproc-per-node N -m auricle train RECIPE.
    """
    if list_:
        return _list()
    if recipe is None:
        raise ConfigError("give a recipe: a YAML file, or a name that `auricle train --list` shows")
    from auricle.training.reading import load_recipe

    resolved = load_recipe(recipe, changes or ())
    return carry_out(resolved, output, resume=resume, check=check, show=show, quiet=quiet)


def carry_out(
    recipe: Recipe, output: Path | None, *, resume: bool, check: bool, show: bool, quiet: bool
) -> int:
    """What the options ask for: print the recipe, look at its data, or train by it.

    The run folder is `output`, or one for the recipe's name.
    """
    from auricle.training.reading import to_yaml

    if show:
        typer.echo(to_yaml(recipe), nl=False)
        return 0
    if check:
        return _check(recipe, quiet=quiet) if _rank() == 0 else 0
    folder = output or _folder(recipe.name, resume=resume)
    return _train(recipe, folder, resume=resume, quiet=quiet or _rank() > 0)


def _train(recipe: Recipe, folder: Path, *, resume: bool, quiet: bool) -> int:
    from auricle.cli import EXIT_PARTIAL, say_error
    from auricle.cli.reporting import warnings_to
    from auricle.cli.watching import Watch
    from auricle.training import loop
    from auricle.training.run import holds_run

    _leave_cores_to(recipe.data.workers)
    with Watch(quiet=quiet) as watch, warnings_to(watch, quiet=quiet):
        new = resume and not holds_run(folder)
        watch.said(f"auricle: training {recipe.name} in {folder}{', from the start' * new}")
        try:
            result = loop.train(recipe, folder, resume=resume, progress=watch)
        except NonFiniteLoss as error:
            if _rank() == 0:  # all ranks have it
                say_error(str(error))
            return EXIT_PARTIAL
        return _end(result, watch, recipe) if _rank() == 0 else _code(result)


def _leave_cores_to(workers: int) -> None:
    """Threads that wait for a core that a worker has slow all others down many times."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - workers))


def _end(result: TrainResult, watch: Watch, recipe: Recipe) -> int:
    """Say what came out, and what to do with it; stdout gets the folder."""
    folder = shlex.quote(str(result.folder))
    if result.ending in ("interrupted", "terminated"):
        watch.said(
            f"auricle: {result.ending} and saved at step {result.step:,}; "
            f"go on with the same command and -o {folder} --resume"
        )
        return _code(result)
    if recipe.init_from is not None:
        _report(result.folder, recipe, watch)
    why = {"early": ", as the WER falls no more", "minutes": ", as its time is over"}
    rate = recipe.train.monitor.upper()
    wer = "" if result.wer is None else f": {rate} {100 * result.wer:.2f} %"
    watch.said(
        f"auricle: done at step {result.step:,}{why.get(result.ending, '')}{wer}; the model is in "
        f"{folder}/model; try: auricle transcribe -m {folder} RECORDING"
    )
    typer.echo(result.folder)
    return 0


def _report(folder: Path, recipe: Recipe, watch: Watch) -> None:
    """Say what a fine-tuning has changed."""
    from auricle.training.report import REPORT, report

    made = report(folder, recipe.name, recipe.init_from)
    if made is not None:
        for line in made.lines():
            watch.said(line)
        watch.said(f"the report is in {folder / REPORT}")


def _code(result: TrainResult) -> int:
    from auricle.cli import EXIT_INTERRUPTED, EXIT_TERMINATED

    codes = {"interrupted": EXIT_INTERRUPTED, "terminated": EXIT_TERMINATED}
    return codes.get(result.ending, 0)


def _list() -> int:
    from auricle.training.reading import recipe_names

    rows = [(name, _description(name)) for name in recipe_names()]
    width = max((len(name) for name, _ in rows), default=0) if sys.stdout.isatty() else 0
    for name, description in rows:
        typer.echo(f"{name:<{width}}  {description}" if width else f"{name}\t{description}")
    return 0


def _description(name: str) -> str:
    """The comment that a packaged recipe begins with."""
    from importlib import resources

    file = resources.files("auricle").joinpath("recipes", f"{name}.yaml")
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _check(recipe: Recipe, *, quiet: bool) -> int:
    """Look at all data of a recipe, with its tokenizer and the steps of its model in mind."""
    from auricle.cli import EXIT_PARTIAL, say_error
    from auricle.training.checking import check
    from auricle.training.sources import check_styles

    learnt = _opened(recipe.data.train, recipe.data)
    held_out = _opened(recipe.data.validation, recipe.data, held_out=True)
    check_styles([*learnt, *held_out], recipe.data)
    facts, tokenizer = _model(recipe, learnt, quiet=quiet)
    refused = 0
    for name, sources in (("TRAINING", learnt), ("VALIDATION", held_out)):
        if sources:
            judged = sources is held_out
            report = check(sources, tokenizer, recipe.data, facts, deep=True, held_out=judged)
            typer.echo(f"{name}\n{report.text()}\n")
            try:
                report.refuse()
            except (ConfigError, ManifestError) as error:
                say_error(f"{name.lower()}: {error}")
                refused += 1
    return EXIT_PARTIAL if refused else 0


def _opened(
    sources: Sequence[SourceRecipe], data: DataRecipe, *, held_out: bool = False
) -> list[Source]:
    """The sources; rows that cannot be read are counted before the first one is raised."""
    from auricle.training.check_report import some_of_each
    from auricle.training.checking import bad_rows
    from auricle.training.sources import open_sources

    try:
        return open_sources(sources, data, held_out=held_out)
    except ManifestError:
        lines: list[str] = []
        for source in sources:
            with suppress(AuricleError):  # what is wrong with whole files, one raises
                lines += bad_rows([source])
        for line in some_of_each(lines):
            typer.echo(line)
        raise


def _model(
    recipe: Recipe, learnt: Sequence[Source], *, quiet: bool
) -> tuple[ModelFacts, Tokenizer]:
    """What must be known of that which would be trained; of a model that is there, by making it.

    What is wrong with what shall move of it, comes out thereby.
    """
    from auricle.cli.watching import Watch
    from auricle.training.alignment import ModelFacts
    from auricle.training.architecture import model_config
    from auricle.training.sources import texts
    from auricle.training.starting import trainee_of
    from auricle.training.tokenizing import build

    tokenizer = None if recipe.tokenizer is None else build(texts(learnt), recipe.tokenizer)
    if recipe.init_from is None:
        assert tokenizer is not None, "the reader asks for one of them"
        return ModelFacts.of(model_config(recipe.model, len(tokenizer.pieces))), tokenizer
    with Watch(quiet=quiet) as watch:
        trainee = trainee_of(recipe, tokenizer, watch)
    return trainee.facts, trainee.tokenizer


def _folder(name: str, *, resume: bool) -> Path:
    """`runs/NAME`, the next free number behind it, or with `resume` the newest that is there."""
    from auricle.training.run import holds_run

    pattern = re.compile(rf"{re.escape(name)}(?:-(\d+))?")
    there = RUNS.iterdir() if RUNS.is_dir() else ()
    numbers = [int(m[1] or 1) for p in there if (m := pattern.fullmatch(p.name)) and holds_run(p)]
    number = max(numbers, default=0) + (not (resume and numbers))
    return RUNS / (name if number == 1 else f"{name}-{number}")


def _rank() -> int:
    """This process's number among those that `accelerate launch` or `torchrun` started."""
    return int(os.environ.get("RANK", "0"))
