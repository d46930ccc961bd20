"""Options that several commands have, said once: which model, where it runs, how much is told."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
    ),
]
Language = Annotated[
    str | None, typer.Option(help="For models that offer a choice; else detected.")
]
HeadName = Annotated[Head | None, typer.Option(help="Of a hybrid model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
LocalOnly = Annotated[bool, typer.Option("--local-only", help="No network.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Neither progress nor warnings.")]

# Of the commands that train.
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="The run folder; else runs/NAME, numbered if that is taken."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the last save, or begin if there is none.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Only look at the data, and tell what is wrong there.")
]
Show = Annotated[
    bool, typer.Option("--show", help="Only print the recipe, every key with its value.")
]
