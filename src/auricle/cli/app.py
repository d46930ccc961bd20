"""The commands and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from auricle import __version__
from auricle.cli import convert, curate, finetune, models, stream, tokenizer, training, transcribe

app = typer.Typer(
    name="auricle",
    help="Speech recognition with NVIDIA's open models, without NeMo.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("transcribe")(transcribe.transcribe)
app.command("stream")(stream.stream)
app.add_typer(models.app, name="models")
app.command("train")(training.train)
# What is no option of the command changes the recipe, as with AutoModel: --optimizer.lr 1e-4.
app.command("finetune", context_settings={"ignore_unknown_options": True})(finetune.finetune)
app.command("curate")(curate.curate)
app.command("convert")(convert.convert)
app.add_typer(tokenizer.app, name="tokenizer")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"auricle {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show and exit."),
    ] = False,
) -> None:
    """Speech recognition with NVIDIA's open models, without NeMo."""
