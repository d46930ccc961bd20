"""`auricle stream`: words while they are spoken, from a file, a pipe or the microphone.

A manifest's rows are many streams at once: `rows`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from enum import StrEnum
from functools import partial
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
from auricle.errors import AuricleError, ConfigError

if TYPE_CHECKING:
    from auricle.cli.hearing import Sound
    from auricle.cli.live import Display
    from auricle.cli.outputs import Destination, Existing
    from auricle.cli.pacing import Block
    from auricle.cli.rows import Load
    from auricle.streaming.stream import Stream
    from auricle.streaming.utterances import Endpointing

MICROPHONE = "mic"


class Encoding(StrEnum):
    """How raw samples are written."""

    S16LE = "s16le"
    F32LE = "f32le"


def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="An audio or video file, a JSONL manifest, - (raw PCM on standard input) or mic.",
            show_default=False,
        ),
    ],
    *,
    model: ModelName = None,
    latency_ms: Annotated[
        int | None,
        typer.Option(
            help="Of those that the model was trained with, which the error lists; others take any."
        ),
    ] = None,
    lookahead: Annotated[
        str | None,
        typer.Option(help="Instead: steps seen ahead, R or L,R.", metavar="R"),
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Allow a latency that was not trained.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Files: as fast as can be, not as they were spoken.")
    ] = False,
    silence_ms: Annotated[
        int, typer.Option(help="A pause that ends an utterance; 0 for none.")
    ] = 800,
    vad: Annotated[
        bool, typer.Option("--vad", help="Hear pauses by voice activity (extra vad).")
    ] = False,
    max_seconds: Annotated[
        float, typer.Option(help="A longer utterance is cut between words; 0 for never.")
    ] = 30.0,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Where to write: the whole transcript by suffix, talk.srt; of a manifest "
            "out.jsonl, whose rows gain pred_text and latency.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[
        bool, typer.Option("--jsonl", help="Every event as a line of JSON, for programs.")
    ] = False,
    latency_report: Annotated[
        bool, typer.Option("--latency-report", help="At the end, the words' latency on stderr.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", hidden=True)] = False,  # its old name
    batch: Annotated[
        int | None, typer.Option(help="Of a manifest: streams at once.  [default: 32]")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Of -: samples per second; else the model's.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Of -: interleaved channels, to be mixed.  [default: 1]")
    ] = None,
    encoding: Annotated[
        Encoding | None, typer.Option(help="Of -.  [default: s16le]", show_default=False)
    ] = None,
    language: Language = None,
    head: HeadName = None,
    device: Device = "auto",
    precision: Precision = "auto",
    revision: Revision = None,
    local_only: LocalOnly = False,
    quiet: Quiet = False,
) -> int:
    """Show what is said while it is spoken.

    A terminal shows the utterance as it grows, a pipe gets a line for each that has ended. Ctrl-C
    ends the stream: what was said is still shown and written.
    """
    import auricle
    from auricle import manifests

    if not source:
        raise ConfigError("the input is an empty name: give a file, a manifest, - or mic")
    report = report or latency_report
    options = {
        "latency_ms": latency_ms,
        "lookahead": _lookahead(lookahead, latency_ms),
        "untrained": untrained,
        "language": language,
        "endpointing": _endpointing(silence_ms, max_seconds, vad=vad),
    }
    load = partial(
        auricle.load,
        model,
        device=device,
        precision=precision,
        head=head and head.value,
        revision=revision,
        local_only=local_only,
    )
    raw = {"--rate": rate, "--channels": channels, "--encoding": encoding}
    if source not in ("-", MICROPHONE) and manifests.is_manifest(source):
        from auricle.cli.rows import Rows, stream_rows

        _refuse(raw, "is for - (raw PCM on standard input): files say their own")
        _refuse({"--jsonl": as_json}, "is for one stream: a manifest gives rows of JSON anyway")
        rows = Rows(Path(source), output, overwrite, 32 if batch is None else batch, fast)
        return stream_rows(rows, load, options, report=report, quiet=quiet)
    from auricle.cli.live import display

    _refuse({"--batch": batch}, "is for a manifest: this is one stream")
    if source != "-":
        _refuse(raw, "is for - (raw PCM on standard input): other sources say their own")
    if source in ("-", MICROPHONE):
        _refuse({"--fast": fast}, "is for files: this is heard as it comes")
    sound = _sound(source, rate, channels, encoding, fast=fast)
    destination = _destination(sound, output, overwrite=overwrite)
    screen = display(as_json=as_json)
    try:
        return _stream_one(sound, load, options, screen, destination, report=report, quiet=quiet)
    finally:
        screen.close()


def _stream_one(
    sound: Sound,
    load: Load,
    options: Mapping[str, Any],
    screen: Display,
    destination: Destination | None,
    *,
    report: bool,
    quiet: bool,
) -> int:
    """Hear one source to its end, or to Ctrl-C; the exit code."""
    from auricle.cli.reporting import warnings_to

    with warnings_to(screen, quiet=quiet):
        asr = load()
        rate = sound.rate(asr.sample_rate)
        spoken = asr.stream(**options, sample_rate=rate, keep=destination is not None)
        if sound.name == MICROPHONE and sys.stderr.isatty() and not quiet:
            screen.say("auricle: listening; Ctrl-C ends")
        try:
            with closing(sound.blocks(rate)) as blocks:
                code = _hear(spoken, blocks, rate, screen, watch=sound.live and not quiet)
        except (AuricleError, BrokenPipeError):
            _finish(spoken, screen, destination)
            raise
        _finish(spoken, screen, destination)
        if report:
            screen.say(spoken.latency().render())
    return code


def _hear(
    spoken: Stream, blocks: Iterator[Block], rate: int, screen: Display, *, watch: bool
) -> int:
    from auricle.cli import stopped
    from auricle.cli.pacing import SLOW, Backlog, CtrlC

    # A chunk's work comes all at once: it may take as long as the chunk.
    backlog = Backlog(spoken.latency_ms / 1000 + 1.0)
    with CtrlC() as ctrl_c:
        try:
            while (block := ctrl_c.take(blocks)) is not None:
                began = time.monotonic()
                for event in spoken.push(block):
                    screen.show(event)
                if backlog.grows(len(block) / rate, time.monotonic() - began) and watch:
                    screen.say(SLOW)
        except KeyboardInterrupt as stop:
            return stopped(stop)[0]
    return 0


def _finish(spoken: Stream, screen: Display, destination: Destination | None) -> None:
    """Show and write what has been said so far."""
    try:
        for event in spoken.flush():
            screen.show(event)
    finally:  # also where nobody reads what is shown
        if destination is not None:
            destination.write(destination.todo[0], spoken.finish())
            destination.close()


def _sound(
    source: str, rate: int | None, channels: int | None, encoding: Encoding | None, *, fast: bool
) -> Sound:
    from auricle.cli.hearing import File, Microphone, Pcm, Pipe

    if source == MICROPHONE:
        return Microphone()
    if source == "-":
        floats = encoding is Encoding.F32LE
        return Pipe(Pcm(rate, 1 if channels is None else channels, floats=floats))
    return File(Path(source), fast=fast)


def _destination(sound: Sound, output: Path | None, *, overwrite: bool) -> Destination | None:
    if output is None:
        return None
    from auricle.cli.outputs import Wish, plan
    from auricle.formats import SubtitleOptions
    from auricle.transcribe import Source

    existing: Existing = "replace" if overwrite else "refuse"
    recording = Source(sound.path, sound.name)
    return plan([recording], Wish(output, (), existing, SubtitleOptions(), resumable=False))


def _endpointing(silence_ms: int, max_seconds: float, *, vad: bool) -> Endpointing:
    from auricle.streaming.utterances import Endpointing

    if silence_ms < 0:
        raise ConfigError(f"--silence-ms must be 1 or more, or 0 for none; got {silence_ms}")
    if not max_seconds >= 0:
        raise ConfigError(f"--max-seconds must be above 0, or 0 for never; got {max_seconds:g}")
    if vad and not silence_ms:
        raise ConfigError("--vad hears the pauses that --silence-ms tells; 0 is none")
    return Endpointing(silence_ms=silence_ms or None, vad=vad, max_seconds=max_seconds or None)


def _lookahead(text: str | None, latency_ms: int | None) -> int | list[int] | None:
    """R, or L,R with or without NeMo's brackets."""
    if text is None:
        return None
    if latency_ms is not None:
        raise ConfigError("--lookahead and --latency-ms say the same: give one")
    try:
        steps = [
            int(number) for number in text.strip().removeprefix("[").removesuffix("]").split(",")
        ]
    except ValueError:
        steps = []
    if len(steps) not in (1, 2):
        raise ConfigError(f"--lookahead is R, or L,R, in steps, not {text!r}")
    return steps[0] if len(steps) == 1 else steps


def _refuse(given: Mapping[str, Any], reason: str) -> None:
    for option, value in given.items():
        if value is not None and value is not False:
            raise ConfigError(f"{option} {reason}")
