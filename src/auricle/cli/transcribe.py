"""`auricle transcribe`: recordings in, text and subtitles out."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auricle.cli.options import (
    Device,
    HeadName,
    Language,
    LocalOnly,
    ModelName,
    Overwrite,
    Precision,
    Quiet,
    Revision,
)
from auricle.errors import AudioError, AuricleError, ConfigError, escaped

if TYPE_CHECKING:
    from auricle.cli.outputs import Destination
    from auricle.cli.reporting import Report
    from auricle.transcribe import Failure, Source
    from auricle.types import Transcript


# What is wrong with the name of one output, and not with the disk.
_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR)


class Task(StrEnum):
    """What to write down."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


def transcribe(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Audio or video files, folders, globs, JSONL manifests, or - (standard input).",
            show_default=False,
        ),
    ],
    *,
    model: ModelName = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder of an adapter of the model (LoRA, DoRA), or of its training."),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "-f",
            "--format",
            help="txt, json, srt, vtt, ctm, tsv; several with commas, or all.  [default: txt]",
            show_default=False,
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Where to write: a folder for the files; or one file (talk.srt); or a manifest "
            "(out.jsonl) whose rows gain pred_text. Without it, standard output.",
        ),
    ] = None,
    output_dir: Annotated[Path | None, typer.Option("--output-dir", hidden=True)] = None,
    language: Language = None,
    task: Annotated[
        Task, typer.Option(help="translate (into English) needs a multilingual Whisper.")
    ] = Task.TRANSCRIBE,
    channel: Annotated[
        str,
        typer.Option(
            help="mix, left, right, a number from 0, or all (each on its own, a speaker)."
        ),
    ] = "mix",
    track: Annotated[
        int | None,
        typer.Option(min=0, help="Audio track of a file that has several, from 0."),
    ] = None,
    head: HeadName = None,
    batch_seconds: Annotated[
        float | None,
        typer.Option(help="Audio seconds in a batch; chosen for the device if absent."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    revision: Revision = None,
    local_only: LocalOnly = False,
    timestamps: Annotated[
        bool, typer.Option(help="Times and confidences of words and segments.")
    ] = True,
    nemo_timestamps: Annotated[
        bool,
        typer.Option(
            "--nemo-timestamps", help="NeMo's own numbers, quirks included (docs/differences.md)."
        ),
    ] = False,
    max_line_width: Annotated[int, typer.Option(help="Columns in a line.")] = 42,
    max_line_count: Annotated[int, typer.Option(help="Lines in a cue.")] = 2,
    highlight_words: Annotated[
        bool,
        typer.Option("--highlight-words", help="Underline each word as it is spoken."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on: skip recordings whose outputs exist."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> int:
    """Transcribe recordings.

    Finished files stay when one fails or when you press Ctrl-C; go on with --resume. The exit code
    is 1 if some recordings failed, 2 if nothing could be begun.
    """
    from auricle.cli import terminable
    from auricle.cli.outputs import TIMED, Wish, plan
    from auricle.cli.reporting import Report, warnings_to
    from auricle.formats import SubtitleOptions

    if resume and overwrite:
        raise ConfigError("--resume skips what is there and --overwrite replaces it: choose one")
    wish = Wish(
        output or output_dir,
        _formats(formats),
        "skip" if resume else "replace" if overwrite else "refuse",
        SubtitleOptions(max_line_width, max_line_count, highlight_words),
        reads=(*filter(os.path.isfile, inputs), model or "", adapter or ""),
    )
    if untimed := [f for f in wish.formats if f in TIMED and not timestamps]:
        raise ConfigError(f"{untimed[0]} needs times: leave --no-timestamps out")
    options: dict[str, Any] = {
        "language": language,
        "task": task.value,
        "channel": _channel(channel),
        "track": track,
        "timestamps": "nemo" if nemo_timestamps and timestamps else timestamps,
        "batch_seconds": batch_seconds,
        "adapter": adapter,
    }
    report = Report(0, quiet=quiet)
    with terminable(), warnings_to(report, quiet=quiet):
        destination = plan(_sources(inputs), wish)
        report.total = len(destination.todo)
        if not destination.todo:
            destination.close()
            return 0
        from auricle import load

        recognizer = load(
            model,
            device=device,
            precision=precision,
            head=head and head.value,
            revision=revision,
            local_only=local_only,
        )
        results = recognizer.transcribe_iter(destination.todo, on_error="return", **options)
        return _deliver(results, destination, report)


def _deliver(
    results: Iterator[Transcript | Failure], destination: Destination, report: Report
) -> int:
    """Write results as they come; the exit code."""
    from auricle.cli import EXIT_PARTIAL, stopped
    from auricle.transcribe import Failure

    try:
        with report:
            for source, result in zip(destination.todo, results, strict=True):
                if isinstance(result, Failure):
                    error = result.error
                elif (wrong := _write(destination, source, result, report)) is None:
                    report.succeed(result.duration)
                    continue
                else:
                    error = wrong
                report.fail(_named(source, error))
                with report.aside() if destination.on_screen else nullcontext():
                    destination.fail(source, error)
    except KeyboardInterrupt as stop:
        code, why = stopped(stop)
        report.say(f"auricle: {why}; {report.summary}; go on with --resume")
        return code
    finally:
        destination.close()
    return EXIT_PARTIAL if report.failed else 0


def _write(
    destination: Destination, source: Source, transcript: Transcript, report: Report
) -> AuricleError | None:
    """Deliver a transcript; what is wrong if it alone cannot be."""
    try:
        with report.aside() if destination.on_screen else nullcontext():
            destination.write(source, transcript)
    except AuricleError as error:
        return error
    except OSError as error:
        if error.errno not in _OF_ONE_NAME:
            raise
        return AudioError(f"{error.filename}: {error.strerror}; rename the recording")
    return None


def _named(source: Source, error: AuricleError) -> str:
    message = str(error)
    names = (source.name, "" if source.path is None else str(source.path))
    known = any(name and escaped(name) in message for name in names)
    return message if known else f"{source.name}: {message}"


def _sources(inputs: Sequence[str]) -> list[Source]:
    """The recordings behind the arguments.

    Raises:
        AudioError: None of them is there.
        ManifestError: No manifest, or none of its rows can be read.
    """
    from auricle.transcribe import Source, sources

    if list(inputs).count("-") > 1:
        raise ConfigError("- (standard input) can be read once only")
    if "" in inputs:
        raise ConfigError("an input is an empty name: give a file, a folder, a manifest or -")
    found: dict[object, Source] = {}  # each file once, each row of a manifest for itself
    for item in _once(inputs):
        if item == "-":
            if sys.stdin is None:
                raise ConfigError("standard input is closed: pipe a recording into it")
            found["-"] = Source(None, "stdin", data=sys.stdin.buffer.read())
            continue
        for source in sources([item]):
            whole = source.row is None and source.path is not None
            found.setdefault(_entry(source.path) if whole else id(source), source)
    return _require_some([*found.values()])


def _once(inputs: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for item in inputs:
        entry = item if item == "-" else _entry(item)
        if entry in seen:
            logging.getLogger("auricle").warning("%s is given twice and done once", escaped(item))
            continue
        seen.add(entry)
        yield item


def _entry(path: str | Path | None) -> str:
    """One name for a file in a folder; a link beside it is a recording of its own."""
    folder, name = os.path.split(os.path.abspath(path or ""))  # noqa: PTH100
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118


def _require_some(found: list[Source]) -> list[Source]:
    from auricle.audio import no_such_file
    from auricle.cli.outputs import all_missing

    if missing := all_missing(found):
        more = f"{len(missing) - 1} more are missing; " if len(missing) > 1 else ""
        raise no_such_file(missing[0], f"{more}check the path")
    return found


def _formats(text: str) -> tuple[str, ...]:
    from auricle.formats import FORMATS

    chosen = tuple(dict.fromkeys(f.strip().lower() for f in text.split(",") if f.strip()))
    if "all" in chosen:
        return FORMATS
    for format_ in chosen:
        if format_ not in FORMATS:
            raise ConfigError(f"unknown format {format_!r}: choose of all, {', '.join(FORMATS)}")
    return chosen


def _channel(text: str) -> int | str | None:
    named: dict[str, int | str | None] = {"mix": None, "all": "all", "left": 0, "right": 1}
    if text.lower() in named:
        return named[text.lower()]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(
            f"--channel is mix, left, right, all, or a number from 0, not {text[:80]!r}"
        )
    return int(text)
