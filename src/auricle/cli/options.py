"""Options that several commands have, said once, so that one name means one thing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


def help_when_bare(context: typer.Context) -> None:
    """Show a group's help where no command of it is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


# What makes `auricle models` without a command show its help.
BARE: dict[str, Any] = {"callback": help_when_bare, "invoke_without_command": True}


def model_names(incomplete: str) -> list[str]:
    """The published names that begin so, for a shell's completion."""
    from auricle.hub import catalogue

    return [m.name for m in catalogue.models() if m.name.lower().startswith(incomplete.lower())]


class Head(StrEnum):
    """Which output head of a hybrid decodes."""

    CTC = "ctc"
    RNNT = "rnnt"
    TDT = "tdt"


ModelName = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Hub name, folder or .nemo file; else $AURICLE_MODEL, else the default model.",
        autocompletion=model_names,
    ),
]
Language = Annotated[
    str | None, typer.Option(help="The language: for models that offer a choice; else detected.")
]
HeadName = Annotated[Head | None, typer.Option(help="Of a hybrid model.")]
Precision = Annotated[
    str, typer.Option(help="auto, fp32, bf16 or fp16; of a CTranslate2 Whisper also int8.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
LocalOnly = Annotated[bool, typer.Option("--local-only", help="No network.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Neither progress nor warnings.")]

# Of the commands that train.
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Where to write: the run folder; else runs/NAME, numbered if that is taken.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on: from the last save, or begin if there is none.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", "--check", help="Only check: look at the data, and say what is wrong there."
    ),
]
Show = Annotated[
    bool, typer.Option("--show", help="Only print the recipe, every key with its value.")
]
