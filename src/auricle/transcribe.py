"""From many recordings to many transcripts: inputs listed, read ahead, cut, batched, merged.

Clips are sorted by length inside a window, run in batches under a budget of audio seconds, and
handed out in the order of the inputs. Knows an engine only by its Protocol.
"""

from __future__ import annotations

import glob
import itertools
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from auricle import audio, manifests
from auricle.audio import Samples
from auricle.engines import Engine, EngineOptions
from auricle.errors import AudioError, AuricleError, ConfigError
from auricle.types import Segment, Transcript

AudioInput = str | Path | bytes | BinaryIO | npt.NDArray[Any] | Mapping[str, Any]
Channel = int | Literal["all"] | None
OnError = Literal["raise", "return"]

LONG_SECONDS = 480.0
PIECE_SECONDS = 60.0
_WINDOW_BATCHES = 8
_WINDOW_CLIPS = 512
_READ_AHEAD = 8

log = logging.getLogger("auricle")


@dataclass(frozen=True)
class Source:
    """One recording to transcribe: a file (or a stretch of it), or audio in memory.

    `sample_rate` is that of an array which brings its own. `engine` stands in for the run's own;
    it hears the same rate. `error` says why there is nothing to hear, of a row that cannot be read.
    """

    path: Path | None
    name: str
    offset: float = 0.0
    duration: float | None = None
    row: Mapping[str, Any] | None = None
    data: Any = field(default=None, repr=False)
    sample_rate: int | None = None
    error: AuricleError | None = None
    engine: Engine | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Failure:
    """Stands where a transcript would, for a recording that could not be transcribed."""

    source: str
    error: AuricleError

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "source": self.source,
            "error": type(self.error).__name__,
            "message": str(self.error),
        }


@dataclass(frozen=True)
class Job:
    """How to run a list of sources; `batch_seconds` None takes the engine's own budget.

    `track` is the number of a file's audio track, from 0; None is the file's own choice.
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    sample_rate: int | None = None
    channel: Channel = None
    track: int | None = None
    batch_seconds: float | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "return"):
            raise ConfigError(f"unknown on_error {self.on_error!r}: use 'raise' or 'return'")
        counted = isinstance(self.channel, int) and not isinstance(self.channel, bool)
        if self.channel not in (None, "all") and not (counted and int(self.channel) >= 0):
            raise ConfigError(
                f"unknown channel {self.channel!r}: use None, 'all' or a number from 0"
            )


@dataclass(frozen=True)
class _Clip:
    """A piece of one channel of a source, short enough for the engine."""

    samples: Samples
    start: float
    speaker: str | None


@dataclass(frozen=True)
class _Reading:
    """A source's clips, or why there are none."""

    source: Source
    clips: tuple[_Clip, ...] = ()
    duration: float = 0.0
    warnings: tuple[str, ...] = ()
    error: AuricleError | None = None


def sources(inputs: Any) -> Iterator[Source]:
    """The recordings behind files, folders, globs, manifests, arrays and streams, lazily.

    Folders are searched for audio and video files in all depths; a `.json` or `.jsonl` file is a
    manifest. The order is that of the inputs, sorted within folders and globs. A `Source` among
    the inputs stands for itself.

    Raises:
        AudioError: A folder or glob that holds no audio.
        ManifestError: No such manifest; a row that cannot be read is a source with an `error`.
    """
    for item in inputs if is_many(inputs) else [inputs]:
        if isinstance(item, Source):
            yield item
        else:
            yield from _sources_of(item)


def is_many(inputs: Any) -> bool:
    """Whether `inputs` is a collection of recordings rather than one."""
    one = isinstance(inputs, str | Path | bytes | bytearray | memoryview | Mapping)
    one = one or hasattr(inputs, "read") or hasattr(inputs, "get_all_samples")
    return not one and audio.as_array(inputs) is None and isinstance(inputs, Iterable)


def is_listing(item: Any) -> bool:
    """Whether one input stands for several recordings: a folder, a glob or a manifest."""
    if not isinstance(item, str | Path):
        return False
    path = Path(item)
    if audio.is_address(item) and not path.exists():
        return False
    return path.is_dir() or manifests.is_manifest(path) or _is_glob(path)


def run(engine: Engine, recordings: Iterable[Source], job: Job) -> Iterator[Transcript | Failure]:
    """Transcribe `recordings` lazily, in their order.

    Raises:
        AuricleError: With `on_error="raise"`, the first recording's error; always for options
            that the engine cannot honour.
    """
    budget = engine.batch_seconds if job.batch_seconds is None else job.batch_seconds
    if not 0 < budget < math.inf:
        raise ConfigError(f"batch_seconds must be a number above 0, got {budget:g}")
    for window in _windows(_read_ahead(recordings, engine, job), budget):
        for reading in window:
            if reading.error is not None and job.on_error == "raise":
                raise reading.error
        yield from _transcribe_window(engine, window, budget, job)


def _sources_of(item: Any) -> Iterator[Source]:
    if not isinstance(item, str | Path):
        yield _in_memory(item)
        return
    path = Path(item)
    if audio.is_address(item) and not path.exists():  # no glob, and reading it says what it is
        yield Source(path, path.name)
    elif path.is_dir():
        yield from _sources_in(path)
    elif manifests.is_manifest(path):
        for row in manifests.read_each(path):
            yield _of_row(row)
    elif _is_glob(path):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - may be absolute
        if not matches:
            raise AudioError(f"no file matches {str(path)!r}")
        for match in matches:
            yield from _sources_of(match)
    else:
        yield Source(path, path.name)


def _of_row(row: manifests.Row | manifests.BadRow) -> Source:
    if isinstance(row, manifests.Row):
        return Source(row.path, row.path.stem, row.offset, row.duration, row.data)
    name = f"{row.path}, line {row.line}"
    named = None if row.recording is None else {"audio_filepath": row.recording}
    path = None if row.recording is None else row.path.parent / row.recording
    return Source(path, name, row=named, error=row)


def _in_memory(item: Any) -> Source:
    """An array, a stream, or what the audio column of `datasets` gives, in any of its forms."""
    if hasattr(item, "get_all_samples"):  # torchcodec's decoder
        decoded = item.get_all_samples()
        item = {"array": decoded.data, "sampling_rate": decoded.sample_rate}
    if not isinstance(item, Mapping):
        known = isinstance(item, bytes | bytearray | memoryview) or hasattr(item, "read")
        if not known and audio.as_array(item) is None:
            raise AudioError(
                f"a {type(item).__name__} is no recording: give a path, bytes, an open file, an "
                "array or a tensor"
            )
        return Source(None, "stream" if audio.as_array(item) is None else "array", data=item)
    path = item.get("path")
    name = Path(path).name if path else "array"
    if (array := item.get("array")) is not None:
        rate = item.get("sampling_rate")
        if rate is None:
            raise AudioError('a mapping with "array" needs its "sampling_rate" too')
        data = array if audio.as_array(array) is not None else np.asarray(array)
        return Source(None, name, data=data, sample_rate=rate)
    if item.get("bytes") is not None:
        return Source(None, name, data=item["bytes"])
    if path:
        return Source(Path(path), name)
    keys = ", ".join(map(str, item)) or "nothing"
    raise AudioError(
        f'a mapping with {keys} is no audio; give "array" and "sampling_rate", "bytes" or "path"'
    )


def _sources_in(folder: Path) -> Iterator[Source]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in files if path.suffix.lower() in audio.AUDIO_SUFFIXES]
    nameless = [path for path in files if not path.suffix and not path.name.startswith(".")]
    if nameless:
        what = "1 file" if len(nameless) == 1 else f"{len(nameless)} files"
        log.warning(
            "%s: skipped %s without a suffix (%s): give them by name if they are audio",
            *(folder, what, ", ".join(path.name for path in nameless[:3])),
        )
    if not found:
        raise AudioError(f"{folder}: the folder holds no audio or video files")
    for path in found:
        yield Source(path, path.relative_to(folder).as_posix())


def _is_glob(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _read_ahead(recordings: Iterable[Source], engine: Engine, job: Job) -> Iterator[_Reading]:
    """Decode the next few files on a thread while the engine works; order is kept."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="auricle-read")
    waiting: deque[Future[_Reading]] = deque()
    try:
        for source in recordings:
            waiting.append(pool.submit(_read, source, engine, job))
            if len(waiting) >= _READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(source: Source, engine: Engine, job: Job) -> _Reading:
    rate = engine.sample_rate
    if source.error is not None:
        return _Reading(source, error=source.error)
    try:
        recording = _recording(source, rate, job)
    except AuricleError as error:
        return _Reading(source, error=error)
    labelled = job.channel == "all"
    clips = [
        _Clip(samples[start:stop], start / rate, f"channel {number}" if labelled else None)
        for number, samples in enumerate(recording.channels)
        for start, stop in _pieces(samples, source, engine)
    ]
    return _Reading(source, tuple(clips), len(recording.channels[0]) / rate, recording.warnings)


def _recording(source: Source, rate: int, job: Job) -> audio.Recording:
    data = source.data if source.path is None else source.path
    source_rate = source.sample_rate or job.sample_rate
    if source_rate is None and audio.as_array(data) is not None:
        raise AudioError("an array needs its rate: pass sample_rate=, in samples per second")
    return audio.record(
        data,
        sample_rate=rate,
        source_rate=source_rate,
        channel=job.channel,
        track=job.track,
        start=source.offset,
        seconds=source.duration,
    )


def _pieces(samples: Samples, source: Source, engine: Engine) -> Sequence[tuple[int, int]]:
    rate = engine.sample_rate
    if engine.any_length or len(samples) <= LONG_SECONDS * rate:
        return [(0, len(samples))]
    minutes, seconds = divmod(len(samples) // rate, 60)
    log.warning(
        "%s is %d:%02d long: transcribed in pieces of at most %d s, cut at silence",
        source.name,
        minutes,
        seconds,
        PIECE_SECONDS,
    )
    return audio.cut_at_silence(samples, rate, max_seconds=PIECE_SECONDS)


def _windows(readings: Iterable[_Reading], budget: float) -> Iterator[list[_Reading]]:
    """Group readings so that sorting by length pays, and memory stays bounded."""
    window: list[_Reading] = []
    seconds, clips = 0.0, 0
    for reading in readings:
        window.append(reading)
        seconds += reading.duration
        clips += max(1, len(reading.clips))
        if seconds >= _WINDOW_BATCHES * budget or clips >= _WINDOW_CLIPS:
            yield window
            window, seconds, clips = [], 0.0, 0
    if window:
        yield window


def _transcribe_window(
    engine: Engine, window: list[_Reading], budget: float, job: Job
) -> Iterator[Transcript | Failure]:
    clips = [clip for reading in window for clip in reading.clips]
    engines = [reading.source.engine or engine for reading in window for _ in reading.clips]
    done: dict[int, Transcript] = {}
    for one in dict.fromkeys(engines):
        mine = [i for i, other in enumerate(engines) if other is one]
        lengths = [len(clips[i].samples) for i in mine]
        for places in batches(lengths, int(budget * engine.sample_rate)):
            batch = [mine[place] for place in places]
            results = one.transcribe([clips[i].samples for i in batch], job.options)
            done.update(zip(batch, results, strict=True))
    transcripts = iter([done[i] for i in range(len(clips))])
    for reading in window:
        if reading.error is not None:
            yield Failure(reading.source.name, reading.error)
        else:
            pieces = list(itertools.islice(transcripts, len(reading.clips)))
            if not job.options.timestamps and job.channel != "all":
                pieces = [replace(p, segments=(), words=(), tokens=()) for p in pieces]
            yield _merge(reading, pieces)


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices grouped longest first, so that count x longest stays within `budget` samples.

    A clip longer than the budget makes a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _merge(reading: _Reading, pieces: list[Transcript]) -> Transcript:
    """One transcript of a recording's pieces and channels, in the order of time."""
    if len(pieces) == 1 and reading.clips[0].speaker is None:
        return replace(pieces[0], duration=reading.duration, warnings=reading.warnings)
    placed = [
        _spoken_by(piece.shifted(clip.start), clip.speaker)
        for clip, piece in zip(reading.clips, pieces, strict=True)
    ]
    segments = tuple(sorted((s for t in placed for s in t.segments), key=lambda s: s.start))
    by_channel = reading.clips[0].speaker is not None
    texts = [s.text for s in segments] if by_channel and segments else [t.text for t in placed]
    return Transcript(
        text=" ".join(text.strip() for text in texts if text.strip()),
        segments=segments,
        words=tuple(sorted((w for t in placed for w in t.words), key=lambda w: w.start)),
        tokens=tuple(sorted((k for t in placed for k in t.tokens), key=lambda k: k.start)),
        language=next((t.language for t in placed if t.language), None),
        duration=reading.duration,
        model=placed[0].model,
        warnings=reading.warnings,
    )


def _spoken_by(transcript: Transcript, speaker: str | None) -> Transcript:
    if speaker is None:
        return transcript
    segments = transcript.segments
    if not segments and transcript.text.strip():
        segments = (Segment(transcript.text, 0.0, transcript.duration),)
    return replace(
        transcript,
        segments=tuple(
            replace(s, speaker=speaker, words=tuple(replace(w, speaker=speaker) for w in s.words))
            for s in segments
        ),
        words=tuple(replace(w, speaker=speaker) for w in transcript.words),
    )
