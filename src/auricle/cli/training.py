"""`auricle train`: a model from a recipe, alone or on many GPUs by `torchrun`."""

from __future__ import annotations

import json
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
from auricle.cli.outputs import refuse_file_name
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
        typer.Argument(
            metavar="RECIPE",
            help="A packaged recipe's name (--list), or a YAML file; none with init_from=MODEL.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Changes to the recipe: optimizer.lr=0.001 and so on; a manifest's name alone "
            "is what to train on.",
        ),
    ] = None,
    *,
    output: RunFolder = None,
    resume: Resume = False,
    check: DryRun = False,
    show: Show = False,
    list_: Annotated[
        bool,
        typer.Option("--list", help="Only list: the packaged recipes that begin from nothing."),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Train a model by a recipe.

    Ctrl-C and SIGTERM save first; go on with --resume. The exit code of --dry-run is 1 if a
    training would be refused. On N GPUs: torchrun --nproc-per-node N -m auricle train RECIPE.
    """
    if list_:
        return list_recipes(from_a_model=False)
    words = [*([] if recipe is None else [recipe]), *(changes or ())]
    recipe, changes = recipe_and_changes(words, "train")
    from auricle.training.reading import load_recipe

    resolved = load_recipe(recipe, changes)
    refuse_default_data(recipe, resolved)
    return carry_out(resolved, output, resume=resume, check=check, show=show, quiet=quiet)


def recipe_and_changes(words: Sequence[str], command: str) -> tuple[str, list[str]]:
    """The recipe that is named, or the one for the model of init_from, and what is changed in it.

    Names of manifests among the words are what is trained on.
    """
    named = bool(words) and "=" not in words[0] and not words[0].startswith("-")
    named = named and not _is_manifest(words[0])
    recipe, rest = (words[0], words[1:]) if named else (None, words)
    changes: list[str] = []
    manifests: list[str] = []
    for before, word in zip(["", *rest], rest, strict=False):
        of_option = before.startswith("--") and "=" not in before
        (manifests if _is_manifest(word) and not of_option else changes).append(word)
    if manifests:
        changes.insert(0, f"data.train={json.dumps([{'manifest': name} for name in manifests])}")
    if recipe is not None:
        return recipe, changes
    begun = [word.partition("=")[2] for word in changes if word.lstrip("-").startswith(_INIT_FROM)]
    if not begun:
        raise ConfigError(
            f"give a recipe: a YAML file, or a name that `auricle {command} --list` shows; or "
            f"a model and data: auricle {command} init_from=MODEL train.jsonl"
        )
    recipe, defaults = _recipe_for(begun[-1])
    if not any(word.lstrip("-").startswith("data.validation") for word in changes):
        defaults.append("data.validation=[]")
    if int(os.environ.get("RANK", "0")) == 0:
        said = f" with {' '.join(defaults)}" if defaults else ""
        typer.echo(f"auricle: recipe {recipe}{said} (--show prints all of it)", err=True)
    name = re.sub(r"[^\w.-]+", "-", Path(begun[-1]).name.removesuffix(".nemo"))
    return recipe, [f"name={json.dumps(f'{name}-finetuned')}", *defaults, *changes]


_INIT_FROM = "init_from="


def _is_manifest(word: str) -> bool:
    return "=" not in word and not word.startswith("-") and word.endswith((".json", ".jsonl"))


def _recipe_for(model: str) -> tuple[str, list[str]]:
    """A packaged recipe for the family of a model, and what the model changes in it."""
    from auricle import checkpoints
    from auricle.checkpoints.whisper import folder_kind
    from auricle.models.jasper import JasperConfig
    from auricle.recognizer import locate

    path = locate(model)
    if path.is_dir() and folder_kind(path) is not None:
        return "finetune_whisper", []
    checkpoint = checkpoints.load(path)
    jasper = isinstance(checkpoint.config.encoder, JasperConfig)
    pieces = "".join(p for p in checkpoint.tokenizer.pieces if not p.startswith(("<", "[")))
    style = (
        []
        if pieces != pieces.lower()
        else ["data.text=lower" if "." in pieces else "data.text=plain"]
    )
    return "finetune_citrinet" if jasper else "finetune_fastconformer", style


def refuse_default_data(name: str, recipe: Recipe) -> None:
    """Refuse to look for files that only the packaged recipe names, and that are not there.

    Raises:
        ConfigError: Names the file and the key to set.
    """
    from auricle.training.reading import load_recipe, recipe_names

    if name not in recipe_names():
        return
    defaults = load_recipe(name).data
    for part in ("train", "validation"):
        sources, usual = getattr(recipe.data, part), getattr(defaults, part)
        for i, source in enumerate(sources):
            manifest = source.manifest
            if source not in usual or not isinstance(manifest, str) or Path(manifest).exists():
                continue
            none = f", or data.{part}=[] for none" if part == "validation" else ""
            raise ConfigError(
                f"{manifest} does not exist: recipe {name} names it by default; give yours by "
                f"data.{part}.{i}.manifest=FILE.jsonl{none}"
            )


def carry_out(
    recipe: Recipe, output: Path | None, *, resume: bool, check: bool, show: bool, quiet: bool
) -> int:
    """What the options ask for: print the recipe, look at its data, or train by it.

    The run folder is `output`, or one for the recipe's name.
    """
    from auricle.training.reading import to_yaml

    if output is not None:
        refuse_file_name(output, "a run")
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


def list_recipes(*, from_a_model: bool) -> int:
    """Print the packaged recipes that begin from a model, or those that begin from nothing."""
    from auricle.training.reading import load_recipe, recipe_names

    rows = [
        (name, _description(name))
        for name in recipe_names()
        if (load_recipe(name).init_from is not None) is from_a_model
    ]
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
