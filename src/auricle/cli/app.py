"""The commands and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from auricle import __version__
from auricle.cli import convert, curate, finetune, models, stream, tokenizer, training, transcribe
from auricle.cli.options import help_when_bare

# The last lines of each command's help.
EXAMPLES = {
    "transcribe": (
        "auricle transcribe talk.mp4",
        "auricle transcribe talk.mp4 -m nvidia/parakeet-ctc-0.6b -f srt,json -o out/",
        "auricle transcribe recordings/ -f all -o out/ --resume",
        "auricle transcribe rows.jsonl -m model.nemo -o out.jsonl",
        "auricle transcribe call.wav --channel all",
    ),
    "stream": (
        "auricle stream mic -m nvidia/nemotron-speech-streaming-en-0.6b --latency-ms 560",
        "auricle stream talk.flac -m model.nemo --fast -o talk.srt",
        "arecord -r 16000 -f S16_LE -t raw | auricle stream - --rate 16000",
    ),
    "train": (
        "auricle train --list",
        "auricle train citrinet_256_tiny data.train.0.manifest=rows.jsonl --dry-run",
        "auricle train my.yaml optimizer.lr=0.001 -o runs/first",
        "auricle train my.yaml -o runs/first --resume",
    ),
    "finetune": (
        "auricle finetune my.yaml init_from=nvidia/parakeet-ctc-0.6b adapt.lora.rank=16",
        "auricle finetune my.yaml --dry-run",
        "auricle transcribe talk.flac -m runs/my",
    ),
    "curate": (
        "auricle curate --list",
        "auricle curate clean read.manifest.path=rows.jsonl --dry-run",
        "auricle curate clean read.manifest.path=rows.jsonl -o curated --report",
    ),
    "convert": (
        "auricle convert model.nemo folder/",
        "auricle convert nvidia/parakeet-tdt_ctc-110m folder/ --to huggingface --head ctc",
        "auricle convert model.nemo merged.nemo --merge runs/adapter",
    ),
    "models": (
        "auricle models list --language german",
        "auricle models show nvidia/parakeet-tdt-0.6b-v3",
        "auricle models pull nvidia/parakeet-tdt-0.6b-v3 --verify",
    ),
    "models list": ("auricle models list --language german --streaming",),
    "models show": ("auricle models show parakeet-v3", "auricle models show model.nemo --json"),
    "models pull": ("auricle models pull nvidia/parakeet-ctc-0.6b --verify",),
    "tokenizer": (
        "auricle tokenizer build rows.jsonl -o tokenizer --size 256 --kind bpe",
        "auricle tokenizer show tokenizer 'hello world'",
    ),
    "tokenizer build": ("auricle tokenizer build rows.jsonl -o tokenizer --size 256 --kind bpe",),
    "tokenizer show": ("auricle tokenizer show model.nemo 'hello world'",),
    "": (
        "auricle transcribe talk.mp4",
        "auricle models list --language german",
        "auricle transcribe --help",
    ),
}


def _examples(command: str) -> str:
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in EXAMPLES[command])))


app = typer.Typer(
    name="auricle",
    help="Speech recognition with NVIDIA's open models, without NeMo.",
    epilog=_examples(""),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("transcribe")(transcribe.transcribe)
app.command("stream")(stream.stream)
app.command("train")(training.train)
# What is no option of the command changes the recipe, as with AutoModel: --optimizer.lr 1e-4.
app.command("finetune", context_settings={"ignore_unknown_options": True})(finetune.finetune)
app.command("curate")(curate.curate)
app.command("convert")(convert.convert)
app.add_typer(models.app, name="models", epilog=_examples("models"))
app.add_typer(tokenizer.app, name="tokenizer", epilog=_examples("tokenizer"))
for _group, _before in ((app, ""), (models.app, "models "), (tokenizer.app, "tokenizer ")):
    for _command in _group.registered_commands:
        _command.epilog = _examples(f"{_before}{_command.name}")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"auricle {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show and exit."),
    ] = False,
) -> None:
    """Speech recognition with NVIDIA's open models, without NeMo."""
    help_when_bare(context)
