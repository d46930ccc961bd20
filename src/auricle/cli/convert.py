"""`auricle convert`: a model from one format to another."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from auricle.cli.options import HeadName, Overwrite, Quiet
from auricle.cli.outputs import refuse_file_name
from auricle.errors import ConfigError


class Format(StrEnum):
    """What to write."""

    AURICLE = "auricle"
    NEMO = "nemo"
    HUGGINGFACE = "huggingface"
    CTRANSLATE2 = "ctranslate2"


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A .nemo file, a folder, or a model's name."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A file that ends in .nemo, or a folder.")
    ],
    *,
    to: Annotated[
        Format | None,
        typer.Option(help="The format; else nemo for a .nemo, and auricle for a folder."),
    ] = None,
    head: HeadName = None,
    merge: Annotated[
        Path | None,
        typer.Option(
            metavar="ADAPTER", help="Folder of an adapter (LoRA, DoRA) to put into the weights."
        ),
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="For ctranslate2: int8, int8_float16, float16, ...")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Convert a model.

    NVIDIA's models between .nemo, Hugging Face and Auricle's own format; Whisper between Hugging
    Face and CTranslate2.
    """
    format_ = to or (Format.NEMO if target.suffix == ".nemo" else None)
    if target.suffix != ".nemo":
        refuse_file_name(target, "what this writes")
    if target.exists() and not overwrite and (target.is_file() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already: --overwrite replaces it")
    if quantization is not None and format_ not in (None, Format.CTRANSLATE2):
        raise ConfigError("--quantization is for --to ctranslate2")
    if head is not None and format_ is not Format.HUGGINGFACE:
        raise ConfigError("--head is for --to huggingface: the other formats keep all heads")
    from auricle.checkpoints import whisper
    from auricle.cli.reporting import Report, warnings_to
    from auricle.recognizer import locate

    with warnings_to(Report(1, quiet=True), quiet=quiet):
        path = locate(source)
        if path.resolve() == target.resolve():
            raise ConfigError(f"{target} is the source itself: give another name")
        kind = whisper.folder_kind(path) if path.is_dir() else None
        if kind is not None and merge is not None:
            written = _merge_whisper(path, target, format_, quantization, merge)
        elif kind is not None:
            written = _convert_whisper(path, kind, target, format_, quantization)
        else:
            if quantization is not None or format_ is Format.CTRANSLATE2:
                raise ConfigError(f"{path} is no Whisper model: ctranslate2 holds Whisper only")
            written = _convert_checkpoint(path, target, format_, head and head.value, merge)
    typer.echo(f"{target}\t{written.value}")


def _convert_whisper(
    path: Path, kind: str, target: Path, to: Format | None, quantization: str | None
) -> Format:
    from auricle.checkpoints import whisper

    other = Format.CTRANSLATE2 if kind == "huggingface" else Format.HUGGINGFACE
    if to not in (None, other):
        raise ConfigError(
            f"{path} is a Whisper model in {kind} form and becomes {other.value} only"
        )
    if other is Format.CTRANSLATE2:
        whisper.to_ctranslate2(path, target, quantization=quantization)
    elif quantization is None:
        whisper.to_huggingface(path, target)
    else:
        raise ConfigError("--quantization is for --to ctranslate2")
    return other


def _merge_whisper(
    path: Path, target: Path, to: Format | None, quantization: str | None, adapter: Path
) -> Format:
    """Both forms are merged in Hugging Face's, which adapters are for."""
    from auricle.checkpoints import whisper
    from auricle.checkpoints.adapters import merge_huggingface

    to = to or Format.HUGGINGFACE
    if to not in (Format.HUGGINGFACE, Format.CTRANSLATE2):
        raise ConfigError(f"{path} is a Whisper model: --to huggingface or ctranslate2")
    if quantization is not None and to is not Format.CTRANSLATE2:
        raise ConfigError("--quantization is for --to ctranslate2")
    with TemporaryDirectory() as room:
        base, changed = path, Path(room, "changed")
        if whisper.folder_kind(path) == "ctranslate2":
            base = Path(room, "base")
            whisper.to_huggingface(path, base)
        merge_huggingface(base, adapter, target if to is Format.HUGGINGFACE else changed)
        if to is Format.CTRANSLATE2:
            whisper.to_ctranslate2(changed, target, quantization=quantization)
    return to


def _convert_checkpoint(
    path: Path, target: Path, to: Format | None, head: str | None, adapter: Path | None
) -> Format:
    from auricle import checkpoints
    from auricle.checkpoints.adapters import load_adapter, merged

    to = to or Format.AURICLE
    checkpoint = checkpoints.load(path)
    if adapter is not None:
        blank = checkpoint.tokenizer.spec.get("blank")
        checkpoint = merged(checkpoint, load_adapter(adapter, checkpoint.config, blank=blank))
    checkpoints.save(checkpoint, target, format=to.value, head=head)
    return to
