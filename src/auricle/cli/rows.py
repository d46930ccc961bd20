"""`auricle stream MANIFEST`: the rows as many speakers at once, as one busy server would hear them.

At most so many streams are open; a row joins as another ends. Rows come out in the manifest's
order, with what was heard, how late, and the WER where the manifest has texts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle import audio, formats, metrics, transcribe
from auricle.audio import Samples
from auricle.cli import EXIT_PARTIAL, stopped, terminable
from auricle.cli.hearing import BLOCK_SECONDS
from auricle.cli.outputs import Existing, Manifest, Wish, all_missing, failed_in, heard_in, said_of
from auricle.cli.pacing import SLOW, Backlog, Pace
from auricle.cli.reporting import Report, warnings_to
from auricle.errors import AuricleError, ConfigError, ManifestError
from auricle.text import spaced
from auricle.transcribe import Source
from auricle.types import Transcript

if TYPE_CHECKING:
    from auricle import Recognizer
    from auricle.streaming.latency import LatencyReport
    from auricle.streaming.pool import Streams
    from auricle.streaming.stream import Stream

Load = Callable[[], "Recognizer"]

_PATIENCE = 5.0  # seconds: the work of many streams' chunks comes all at once


@dataclass(frozen=True)
class Rows:
    """Which manifest, where to, how many rows at once, and how fast."""

    manifest: Path
    output: Path | None
    overwrite: bool = False
    batch: int = 32
    fast: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"--batch must be 1 or more, got {self.batch}")
        if self.output is not None and self.output.suffix != ".jsonl":
            raise ConfigError(f"{self.output}: a manifest's rows go to a .jsonl, or to stdout")


@dataclass(frozen=True)
class Heard:
    """What came of a row: a transcript and its latency, or an error."""

    place: int
    transcript: Transcript | None = None
    latency: LatencyReport | None = None
    error: AuricleError | None = None


def stream_rows(
    rows: Rows, load: Load, options: Mapping[str, Any], *, report: bool, quiet: bool
) -> int:
    """Stream all rows; the exit code."""
    sources = list(transcribe.sources([rows.manifest]))
    _require_some(sources, rows.manifest)
    writer = _Writer(sources, rows, Report(len(sources), quiet=quiet))
    with terminable(), warnings_to(writer.report, quiet=quiet):
        asr = load()
        code = _stream(asr, sources, rows, options, writer)
    writer.say_errors()
    if report and writer.latencies:
        from auricle.streaming import latency

        writer.report.say(latency.combine(writer.latencies).render())
    return code


def _stream(
    asr: Recognizer,
    sources: Sequence[Source],
    rows: Rows,
    options: Mapping[str, Any],
    writer: _Writer,
) -> int:
    try:
        with writer.report:
            for heard in _hear(asr, sources, rows, options, writer.report):
                writer.take(heard)
    except KeyboardInterrupt as stop:
        code, why = stopped(stop)
        writer.report.say(f"auricle: {why}; {writer.report.summary}")
        return code
    finally:
        writer.close()
    return EXIT_PARTIAL if writer.report.failed else 0


class _Line:
    """A row that is being heard."""

    def __init__(self, place: int, samples: Samples, stream: Stream) -> None:
        self.place, self.stream = place, stream
        self._samples, self._pushed = samples, 0

    def push(self, count: int) -> None:
        """The next block; the last one is shorter, and ends the stream."""
        if self.stream.ended:
            return
        self.stream.push(self._samples[self._pushed : self._pushed + count])
        self._pushed += count
        if self._pushed >= len(self._samples):
            self.stream.end()

    def finish(self) -> Heard:
        return Heard(self.place, self.stream.finish(), self.stream.latency())


class _Hall:
    """The open streams of a pool, and the rows that wait to join."""

    def __init__(
        self,
        asr: Recognizer,
        pool: Streams,
        sources: Sequence[Source],
        options: Mapping[str, Any],
        batch: int,
    ) -> None:
        self._asr, self._pool = asr, pool
        self._waiting = iter(enumerate(sources))
        self._options, self._batch = options, batch
        self._block = max(1, round(asr.sample_rate * BLOCK_SECONDS))
        self._blocks_per_chunk = 1
        self._blocks = 0
        self._lines: list[_Line] = []

    @property
    def empty(self) -> bool:
        return not self._lines

    def join(self) -> Iterator[Heard]:
        """Open streams while there is room; what comes of rows that cannot be read.

        Rows join where the others' chunks begin, so that their chunks stay together in batches.
        """
        if self._lines and self._blocks % self._blocks_per_chunk:
            return
        while len(self._lines) < self._batch and (row := next(self._waiting, None)) is not None:
            place, source = row
            if source.error is not None:
                yield Heard(place, error=source.error)
                continue
            try:
                samples = audio.read(
                    source.path or b"",
                    sample_rate=self._asr.sample_rate,
                    start=source.offset,
                    seconds=source.duration,
                )
            except AuricleError as error:
                yield Heard(place, error=error)
                continue
            stream = self._pool.open(**self._options)
            self._blocks_per_chunk = max(1, round(stream.latency_ms / 1000 / BLOCK_SECONDS))
            self._lines.append(_Line(place, samples, stream))

    def step(self) -> Iterator[Heard]:
        """Give every stream a block, decode what is ready; the rows that have ended."""
        for line in self._lines:
            line.push(self._block)
        self._pool.step()
        self._blocks += 1
        for line in [line for line in self._lines if line.stream.closed]:
            self._lines.remove(line)
            yield line.finish()


def _hear(
    asr: Recognizer,
    sources: Sequence[Source],
    rows: Rows,
    options: Mapping[str, Any],
    report: Report,
) -> Iterator[Heard]:
    """All rows, as they end."""
    pace, backlog = Pace(), Backlog(_PATIENCE)
    blocks = 0
    with asr.streams(max_delay_ms=0, max_batch=rows.batch) as pool:
        hall = _Hall(asr, pool, sources, options, rows.batch)
        while True:
            yield from hall.join()
            if hall.empty:
                return
            blocks += 1
            if not rows.fast:
                pace.wait(blocks * BLOCK_SECONDS)
            began = time.monotonic()
            yield from hall.step()
            if backlog.grows(BLOCK_SECONDS, time.monotonic() - began) and not rows.fast:
                report.say(SLOW)


class _Writer:
    """Writes rows in the manifest's order, each as soon as those before it are there."""

    def __init__(self, sources: Sequence[Source], rows: Rows, report: Report) -> None:
        self.report = report
        self.latencies: list[LatencyReport] = []
        self._sources = sources
        self._errors = metrics.Errors()
        self._scored = self._unspaced = 0
        self._early: dict[int, dict[str, Any]] = {}
        self._written = 0
        self._manifest: Manifest | None = None
        if rows.output is not None:
            existing: Existing = "replace" if rows.overwrite else "refuse"
            wish = Wish(
                rows.output, (), existing, formats.SubtitleOptions(), False, (rows.manifest,)
            )
            self._manifest = Manifest(sources, rows.output, wish)

    def take(self, heard: Heard) -> None:
        """Count a row's errors, and write what is in turn."""
        source = self._sources[heard.place]
        if heard.error is not None:
            self._early[heard.place] = failed_in(heard.error)
            self.report.fail(str(heard.error))
        elif heard.transcript is not None and heard.latency is not None:
            self.latencies.append(heard.latency)
            said = heard_in(source, heard.transcript)
            self._early[heard.place] = {**said, "latency": _spreads(heard.latency)}
            self._score(source, heard.transcript)
            self.report.succeed(heard.transcript.duration)
        while self._written in self._early:
            self._write(self._written)
            self._written += 1

    def close(self) -> None:
        """Write the rest too, before which rows are missing."""
        for place in sorted(self._early):
            self._write(place)
        if self._manifest is not None:
            self._manifest.close()

    def say_errors(self) -> None:
        """The WER of all rows that have a text and were heard."""
        if not self._scored:
            return
        errors = self._errors
        self.report.say(
            f"auricle: WER {100 * errors.rate:.2f} % ({errors.substitutions} substitutions, "
            f"{errors.deletions} deletions, {errors.insertions} insertions in {errors.words} words "
            f"of {self._scored} rows)"
            f"{'; in scripts without spaces each character is a word' * bool(self._unspaced)}"
        )

    def _score(self, source: Source, transcript: Transcript) -> None:
        text = (source.row or {}).get("text")
        if isinstance(text, str):
            self._errors += metrics.word_errors(text, transcript.text)
            self._scored += 1
            self._unspaced += spaced(text) != text

    def _write(self, place: int) -> None:
        source, said = self._sources[place], self._early.pop(place)
        if self._manifest is not None:
            self._manifest.add(source, said)
            return
        with self.report.aside():
            sys.stdout.write(json.dumps(said_of(source.row or {}, said), ensure_ascii=False) + "\n")
            sys.stdout.flush()


def _spreads(latency: LatencyReport) -> dict[str, dict[str, float]]:
    """What a row says of its words' latencies: milliseconds, to a tenth."""
    spreads = latency.to_dict()
    del spreads["words"]
    return {
        name: {key: round(value, 1) for key, value in spread.items()}
        for name, spread in spreads.items()
    }


def _require_some(sources: Sequence[Source], manifest: Path) -> None:
    """Tell at once when no recording can be there.

    Raises:
        AudioError: All are missing.
        ManifestError: There are no rows.
    """
    if not sources:
        raise ManifestError(f"{manifest}: no rows; each line names a recording")
    if missing := all_missing(sources):
        raise audio.no_such_file(missing[0], f"nor is any other that {manifest} names")
