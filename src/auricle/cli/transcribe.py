"""`auricle transcribe`: recordings in, text and subtitles out."""

from __future__ import annotations

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
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.cli.outputs import Destination
    from auricle.cli.reporting import Report
    from auricle.transcribe import Failure, Source
    from auricle.types import Transcript


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
    destination = plan(_sources(inputs), wish)
    report = Report(len(destination.todo), quiet=quiet)
    with warnings_to(report, quiet=quiet):
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
    from auricle.cli import EXIT_INTERRUPTED, EXIT_PARTIAL
    from auricle.transcribe import Failure

    try:
        with report:
            for source, result in zip(destination.todo, results, strict=True):
                if isinstance(result, Failure):
                    report.fail(_named(source, result))
                    continue
                with report.aside() if destination.on_screen else nullcontext():
                    destination.write(source, result)
                report.succeed(result.duration)
    except KeyboardInterrupt:
        report.say(f"auricle: interrupted; {report.summary}; go on with --resume")
        return EXIT_INTERRUPTED
    finally:
        destination.close()
    return EXIT_PARTIAL if report.failed else 0


def _named(source: Source, failure: Failure) -> str:
    message = str(failure.error)
    known = source.name in message or (source.path is not None and str(source.path) in message)
    return message if known else f"{source.name}: {message}"


def _sources(inputs: Sequence[str]) -> list[Source]:
    """The recordings behind the arguments.

    Raises:
        AudioError: None of them is there.
        ManifestError: A manifest row that cannot be read.
    """
    from auricle.audio import no_such_file
    from auricle.transcribe import Source, sources

    if list(inputs).count("-") > 1:
        raise ConfigError("- (standard input) can be read once only")
    if "" in inputs:
        raise ConfigError("an input is an empty name: give a file, a folder, a manifest or -")
    found: list[Source] = []
    for item in inputs:
        if item == "-":
            if sys.stdin is None:
                raise ConfigError("standard input is closed: pipe a recording into it")
            found.append(Source(None, "stdin", data=sys.stdin.buffer.read()))
        else:
            found += sources([item])
    missing = [s.path for s in found if s.path is not None and not s.path.exists()]
    if missing and len(missing) == len(found):
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
