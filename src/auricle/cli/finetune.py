"""`auricle finetune`: a model that is there is trained on; the loop is that of `train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from auricle.cli import training
from auricle.cli.options import DryRun, Quiet, Resume, RunFolder, Show
from auricle.errors import ConfigError


def finetune(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE | MANIFEST]...",
            help="A YAML file, Auricle's or NeMo AutoModel's, or a packaged recipe's name, and "
            "changes to it: train.steps=500, or as AutoModel writes them, --optimizer.lr 1e-4. "
            "Without a recipe, init_from=MODEL and a manifest are enough.",
        ),
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="The recipe, as AutoModel is given it.")
    ] = None,
    output: RunFolder = None,
    resume: Resume = False,
    check: DryRun = False,
    show: Show = False,
    list_: Annotated[
        bool,
        typer.Option("--list", help="Only list: the packaged recipes that begin from a model."),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Fine-tune a model: all of it, a part, or adapters (LoRA) beside it.

    The recipe names the model in init_from. At the end WER and CER before and after are told, and
    the clips that are still worst. On N GPUs: torchrun --nproc-per-node N -m auricle finetune ...
    """
    if list_:
        return training.list_recipes(from_a_model=True)
    if config is not None:
        words = [str(config), *(words or ())]
    recipe, changes = training.recipe_and_changes(words or (), "finetune")
    from auricle.cli.reporting import warnings_to
    from auricle.cli.watching import Watch
    from auricle.training.reading import load_recipe

    with Watch(quiet=quiet) as watch, warnings_to(watch, quiet=quiet):
        resolved = load_recipe(recipe, _spelled(changes))
    if resolved.init_from is None:
        raise ConfigError(
            f"{recipe} names no model to begin from; add init_from=MODEL, or begin from nothing by "
            "auricle train"
        )
    training.refuse_default_data(recipe, resolved)
    return training.carry_out(resolved, output, resume=resume, check=check, show=show, quiet=quiet)


def _spelled(words: Sequence[str]) -> list[str]:
    """Changes as `load_recipe` takes them; those with dashes may have their value behind them."""
    from auricle.training.automodel import overrides

    theirs: list[str] = []
    ours: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            ours.append(word)
            continue
        theirs.append(word)
        if "=" not in word and rest and not rest[0].startswith("--") and "=" not in rest[0]:
            theirs.append(rest.pop(0))
    return [*(f"--{change}" for change in overrides(theirs)), *ours]
