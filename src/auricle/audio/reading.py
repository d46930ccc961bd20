"""`read`, `blocks` and `probe`: any source as mono float32 at one rate.

A file is never held at its own rate or in all its channels: packets become mono spans, spans are
resampled, and only the result grows.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any, BinaryIO, Never

import numpy as np
import numpy.typing as npt

from auricle.audio.containers import AudioInfo, Track, opened_track
from auricle.audio.resampling import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Resampler,
    Samples,
    check_rate,
    resample,
)
from auricle.audio.sources import opened
from auricle.audio.timeline import (
    LOUDEST,
    Channel,
    ReadReport,
    Span,
    check_channels,
    picked,
    plausible,
    spans,
    unsupported_rate,
)
from auricle.errors import AudioError, ConfigError

SAMPLE_RATE = 16_000

Source = str | PathLike[str] | bytes | BinaryIO | npt.NDArray[Any]

_DTYPES = ("int16", "int32", "float32", "float64")
_TRUSTED_SECONDS = 4 * 3600.0
_END_SECONDS = 1.0  # decoded to see where a file whose header counts samples really ends
# fmt: off
_SNDFILE_PCM = frozenset({
    "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
    "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw",
})
# fmt: on

log = logging.getLogger("auricle")


@dataclass(frozen=True)
class Recording:
    """Sound that was read, float32 [S] for each of `channels`, and what there is to say of it.

    `missing` are the seconds known to be lost from a damaged file, of all of it that was read.
    """

    channels: tuple[Samples, ...]
    warnings: tuple[str, ...] = ()
    missing: float = 0.0


@dataclass(frozen=True)
class _Wanted:
    """What to make of a source: its rate, channels, and which stretch (seconds)."""

    sample_rate: int
    channel: Channel = None
    start: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_rate(self.sample_rate, "sample_rate")
        if self.channel not in (None, "all") and (
            isinstance(self.channel, bool) or not isinstance(self.channel, int | np.integer)
        ):
            raise ConfigError(
                f'channel must be a number, "all", or None to mix, got {self.channel!r}'
            )
        if not (math.isfinite(self.start) and self.start >= 0):
            raise ConfigError(f"start must be 0 or more seconds, got {self.start}")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ConfigError(f"seconds must be more than 0, got {self.seconds}")

    @property
    def first(self) -> int:
        """The stretch's first sample, at `sample_rate`."""
        return round(self.start * self.sample_rate)

    @property
    def stop(self) -> int | None:
        """The sample after the stretch's last one; None reads to the end."""
        if self.seconds is None:
            return None
        return self.first + max(1, round(self.seconds * self.sample_rate))


def probe(source: Source, *, track: int | None = None) -> AudioInfo:
    """What a file's header says of its sound, without decoding it.

    Raises:
        AudioError: See `read`.
    """
    with opened(source) as file, opened_track(file, track) as one:
        return one.info


def length(source: Source) -> float:
    """How many seconds of sound `read` gives for all of a file, measured where headers only guess.

    A header is believed where it counts samples and the file's end is where it says (PCM in WAV);
    FLAC, MP4 and the like are decoded near their end; everything else (MP3, ADTS, Ogg, Matroska,
    MPEG) is decoded from end to end, some hundred times faster than it plays. `probe` is what to
    ask when an estimate will do.

    Raises:
        AudioError: See `read`.
    """
    with opened(source) as file, opened_track(file) as track:
        wav = track.header.wav
        if wav is not None and wav.pcm and wav.whole and wav.seconds:
            return wav.seconds
        report = ReadReport()
        near = max(0.0, (track.info.duration or 0.0) - _END_SECONDS)
        rate = 1
        for span in spans(track, None, report, near):
            rate = span.rate
        return round(report.end * rate) / rate  # of sums, the last digits are dust


def libsndfile_reads(source: Source) -> bool:
    """Whether libsndfile (1.1 or later) reads a file, and so soundfile, Lhotse and NeMo do.

    Told by container and codec, whatever the file's name ends in: PCM in WAV, AIFF, AU or W64, and
    FLAC; MP3; Vorbis or Opus in one Ogg stream. Not a WAV that was piped (its size is 0 or
    0xFFFFFFFF), several Ogg streams in a row, FLAC or Speex in Ogg, G.722 in WAV.

    Raises:
        AudioError: It is no audio at all.
    """
    with opened(source) as file, opened_track(file) as track:
        codec = track.info.codec
        form = track.container.format.name
        if form == "wav":
            sized = track.header.wav is not None and bool(track.header.wav.seconds)
            return sized and codec in _SNDFILE_PCM
        if form == "ogg":
            return codec in ("vorbis", "opus") and not track.header.links
        if form in ("aiff", "au", "w64"):
            return codec in _SNDFILE_PCM
        return (form, codec) in (("flac", "flac"), ("mp3", "mp3"))


def read(
    source: Source,
    *,
    sample_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    channel: int | None = None,
    track: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    strict: bool = False,
) -> Samples:
    """Read a file, bytes, a binary file object or an array as mono float32 [S].

    Time 0 is where the container starts: sound that begins later has silence before it, and gaps
    become silence. The channels are averaged, or `channel` is taken (from 0); of channels that
    would cancel each other, one is taken. `track` is the number of the audio track (from 0), None
    the container's best. `start` and `seconds` choose a stretch; it ends early where the sound
    does. What is missing from a damaged file is logged, and `record` returns it; with `strict`, a
    file that lacks well more than muxers get wrong is refused: as a pair with a text it would be
    wrong.

    An array needs its `source_rate`; it is int16, int32 or a float in [-1, 1], [S], [S, C] or
    [C, S] (the smaller axis is the channels; on a tie the second), and is returned as it is where
    nothing has to be done. Tensors are taken like arrays.

    Raises:
        AudioError: No such file, not audio, without sound, or values that are not finite or far
            beyond full scale; the message names the file and the cure.
        ConfigError: A rate, channel or stretch that makes no sense.
    """
    return record(
        source,
        sample_rate=sample_rate,
        source_rate=source_rate,
        channel=channel,
        track=track,
        start=start,
        seconds=seconds,
        strict=strict,
    ).channels[0]


def record(
    source: Source,
    *,
    sample_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    channel: Channel = None,
    track: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    strict: bool = False,
) -> Recording:
    """`read`, with what there is to say of the sound; `channel` "all" gives each on its own.

    Raises:
        AudioError, ConfigError: See `read`.
    """
    wanted = _Wanted(sample_rate, channel, start, seconds)
    array = as_array(source)
    if array is not None:
        recording = _of_array(array, source_rate, wanted)
        _log("the array", recording.warnings)
        return recording
    report = ReadReport()
    with opened(source) as file, opened_track(file, track) as one:
        room = _capacity(one, wanted)
        buffers: list[Samples] = []
        filled = 0
        for piece in _stretch(one, wanted, report):
            end = filled + piece.shape[1]
            buffers = buffers or [np.empty(room, np.float32) for _ in piece]
            for buffer, samples in zip(buffers, piece, strict=True):
                if end > len(buffer):  # in place where the system can, and little beyond the use
                    buffer.resize(max(end, len(buffer) * 9 // 8), refcheck=False)
                buffer[filled:end] = samples
            filled = end
        for buffer in buffers:
            buffer.resize(filled, refcheck=False)
        if strict:
            report.refuse(file.name)
        said = (*_of_tracks(one, track), *report.warnings)
    _log(file.name, said)
    return Recording(tuple(buffers), said, report.missing)


def blocks(
    source: Source,
    *,
    sample_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    channel: int | None = None,
    track: int | None = None,
    seconds: float = 30.0,
) -> Iterator[Samples]:
    """What `read` gives, in blocks of `seconds` (the last is shorter), holding one at a time.

    Raises:
        AudioError: See `read`; it comes while iterating.
        ConfigError: See `read`.
    """
    _Wanted(sample_rate, channel, seconds=seconds)
    size = max(1, round(seconds * sample_rate))
    wanted = _Wanted(sample_rate, channel)
    array = as_array(source)
    if array is not None:
        whole = read(array, sample_rate=sample_rate, source_rate=source_rate, channel=channel)
        yield from (whole[i : i + size] for i in range(0, len(whole), size))
        return
    report = ReadReport()
    with opened(source) as file, opened_track(file, track) as one:
        _log(file.name, _of_tracks(one, track))
        yield from _in_blocks(_stretch(one, wanted, report), size)
    _log(file.name, report.warnings)


@contextmanager
def opened_blocks(
    source: str | PathLike[str] | bytes | BinaryIO,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    block_seconds: float = 30.0,
    report: ReadReport | None = None,
) -> Iterator[tuple[AudioInfo, Iterator[Samples]]]:
    """A file opened once: what its header says, and what `read` gives in blocks.

    Without a `sample_rate`, samples come at the rate that the header says. Without a `report`, it
    is stricter than `read`: refused are files whose end is missing, or of which more than one
    packet in a hundred is damaged. With one, what is there is given, and what is missing stands in
    the report after the last block.

    Raises:
        AudioError: See `read`; what is wrong behind the header comes with the blocks.
        ConfigError: See `read`.
    """
    with opened(source) as file, opened_track(file) as track:
        header_rate = track.info.sample_rate
        if not LOWEST_RATE <= header_rate <= HIGHEST_RATE:
            raise unsupported_rate(track.name, header_rate)
        rate = sample_rate or header_rate
        found = ReadReport() if report is None else report
        pieces = _stretch(track, _Wanted(rate, channel, start, seconds), found)
        whole = _in_blocks(pieces, max(1, round(block_seconds * rate)))
        yield track.info, (whole if report is not None else _strict(whole, track.name, found))


def _strict(whole: Iterator[Samples], name: str, report: ReadReport) -> Iterator[Samples]:
    yield from whole
    report.refuse(name)
    _log(name, report.warnings)


def _log(name: str, warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        log.warning("%s: %s", name, warning)


def _of_tracks(track: Track, chosen: int | None) -> tuple[str, ...]:
    """A notice where a file has several tracks and none was asked for."""
    tracks = track.container.streams.audio
    if chosen is not None or len(tracks) == 1:
        return ()
    names = ", ".join(
        f"{number}{f' ({language})' if (language := one.metadata.get('language')) else ''}"
        for number, one in enumerate(tracks)
    )
    read = next(i for i, one in enumerate(tracks) if one.index == track.stream.index)
    chosen_by = "choose another with --track (track= in Python)"
    return (f"has {len(tracks)} audio tracks: {names}; {read} is read, {chosen_by}",)


def _in_blocks(pieces: Iterator[Samples], size: int) -> Iterator[Samples]:
    """The same samples in arrays of `size`; the last one is shorter."""
    block, filled = np.empty(size, np.float32), 0
    for (piece,) in pieces:
        while len(piece):
            count = min(size - filled, len(piece))
            block[filled : filled + count] = piece[:count]
            piece, filled = piece[count:], filled + count
            if filled == size:
                yield block
                block, filled = np.empty(size, np.float32), 0
    if filled:
        yield block[:filled]


def _capacity(track: Track, wanted: _Wanted) -> int:
    """Room for what the header promises, up to what a lie may cost."""
    seconds = min(track.info.duration or 60.0, _TRUSTED_SECONDS)
    if wanted.seconds is not None:
        seconds = min(seconds, wanted.seconds)
    return int((max(seconds, 0.0) + 0.1) * wanted.sample_rate)


def _stretch(track: Track, wanted: _Wanted, report: ReadReport) -> Iterator[Samples]:
    """The wanted stretch [C, S] at the wanted rate, in small pieces, every sample plausible."""
    read = spans(track, wanted.channel, report, wanted.start)
    position, read = _aligned(read, wanted.sample_rate)
    empty = True
    for piece in _at_rate(read, wanted.sample_rate):
        _check_values(piece, position, wanted.sample_rate, track.name)
        stop = None if wanted.stop is None else max(0, wanted.stop - position)
        inside = piece[:, max(0, wanted.first - position) : stop]
        position += piece.shape[1]
        if inside.shape[1]:
            empty = False
            yield inside
        if wanted.stop is not None and position >= wanted.stop:
            return
    if empty:
        _raise_empty(track.name, position / wanted.sample_rate, wanted)


def _aligned(found: Iterator[Span], rate: int) -> tuple[int, Iterator[Span]]:
    """Begin on a sample that both rates share, so that a seek moves nothing by a fraction.

    Returns:
        The position, in samples at `rate`, of the first sample, and the spans from there.
    """
    first = next(found, None)
    if first is None:
        return 0, found
    begin = round(first.start * first.rate)
    grain = first.rate // math.gcd(first.rate, rate)
    skip = -begin % grain
    return (begin + skip) * rate // first.rate, _dropped(itertools.chain([first], found), skip)


def _dropped(found: Iterator[Span], skip: int) -> Iterator[Span]:
    for span in found:
        yield span._replace(samples=span.samples[:, skip:]) if skip else span
        skip = max(0, skip - span.samples.shape[1])


def _at_rate(found: Iterator[Span], rate: int) -> Iterator[Samples]:
    """Spans as samples [C, S] at one rate; each run of another rate has its own resamplers."""
    for source_rate, run in itertools.groupby(found, key=lambda span: span.rate):
        if source_rate == rate:
            yield from _gathered(run)
            continue
        resamplers: list[Resampler] = []
        for samples in _gathered(run):
            resamplers = resamplers or [Resampler(source_rate, rate) for _ in samples]
            ready = [one.push(row) for one, row in zip(resamplers, samples, strict=True)]
            yield np.stack(ready)
        yield np.stack([one.finish() for one in resamplers])


def _gathered(run: Iterator[Span]) -> Iterator[Samples]:
    """Join short spans to about a second each: one call of the resampler for forty packets."""
    waiting: list[Samples] = []
    count = 0
    for span in run:
        waiting.append(span.samples)
        count += span.samples.shape[1]
        if count >= span.rate:
            yield np.concatenate(waiting, axis=1)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting, axis=1)


def as_array(source: Any) -> npt.NDArray[Any] | None:
    """A NumPy array of an array or a tensor of any library; None of anything else."""
    if isinstance(source, np.ndarray):
        return source
    if not (hasattr(source, "detach") and hasattr(source, "cpu")):
        return None
    try:
        return np.asarray(source.detach().cpu().numpy())
    except (TypeError, RuntimeError) as error:  # bfloat16, sparse: nothing that NumPy has
        kind = getattr(source, "dtype", type(source).__name__)
        raise AudioError(f"a tensor of {kind} is no audio; give float32") from error


def _of_array(array: npt.NDArray[Any], source_rate: int | None, wanted: _Wanted) -> Recording:
    if source_rate is None:
        raise AudioError("an array does not say its rate; give it in samples per second")
    check_rate(source_rate, "the array's rate")
    _check_dtype(array)
    if array.ndim not in (1, 2) or not array.size:
        raise AudioError(
            f"an array of shape {array.shape} holds no recording; give [samples] or "
            "[samples, channels]"
        )
    data = np.atleast_2d(array)
    if array.ndim == 2 and array.shape[0] >= array.shape[1]:
        data = array.T  # [S, C] -> [C, S]
    number = None if wanted.channel == "all" else wanted.channel
    check_channels(len(data), number, f"the array of shape {array.shape}")
    samples, inverted = picked(data, wanted.channel)
    _check_values(samples, 0, source_rate, "the array")
    report = ReadReport(inverted=inverted / source_rate)
    channels = [resample(row, source_rate, wanted.sample_rate) for row in samples]
    inside = tuple(row[wanted.first : wanted.stop] for row in channels)
    if not len(inside[0]):
        _raise_empty("the array", len(channels[0]) / wanted.sample_rate, wanted)
    return Recording(inside, report.warnings)


def from_array(array: Any, name: str = "the array") -> Samples:
    """Mono sound as float32 [S]: int16, int32 or floats in [-1, 1]; none at all is allowed.

    [S, 1] and [1, S] are mono too, and tensors are taken like arrays. What is float32 already is
    not copied.

    Raises:
        AudioError: Another type or shape, or a sample that is no sound's.
    """
    data = as_array(array)
    data = np.asarray(array) if data is None else data
    _check_dtype(data)
    if data.ndim == 2 and 1 in data.shape:
        data = data.reshape(-1)
    if data.ndim != 1:
        raise AudioError(
            f"{name} has shape {list(data.shape)}; give mono sound, [samples] or [samples, 1]"
        )
    samples, _ = picked(data[None], None)
    _check_values(samples, 0, None, name)
    mono: Samples = samples[0]
    return mono


def _check_dtype(array: npt.NDArray[Any]) -> None:
    if array.dtype.name not in _DTYPES:
        raise AudioError(f"an array of {array.dtype} is no audio; give one of {', '.join(_DTYPES)}")


def _check_values(samples: Samples, position: int, rate: int | None, name: str) -> None:
    """Refuse values [C, S] that no conversion to floats gives; `rate` None counts in samples.

    Raises:
        AudioError: NaN, infinite, or on the scale of integers.
    """
    if plausible(samples):
        return
    wrong = ~(np.abs(samples) <= LOUDEST)
    number = int(np.argmax(wrong.any(axis=0)))
    value = samples[int(np.argmax(wrong[:, number])), number]
    where = f"sample {number} of {samples.shape[1]}"
    if rate is not None:
        where = f"the sample at {(position + number) / rate:.2f} s"
    if not np.isfinite(value):
        raise AudioError(
            f"{name}: {where} is NaN or infinite; write the recording again", "not finite"
        )
    raise AudioError(
        f"{name}: {where} is {value:.6g}, and full scale is 1: if these are 16-bit values as "
        "floats, divide them by 32768 or give int16",
        "not in [-1, 1]",
    )


def _raise_empty(name: str, end: float, wanted: _Wanted) -> Never:
    if end == 0:
        raise AudioError(f"{name}: holds no sound (0 samples); record or copy it again", "empty")
    raise AudioError(
        f"{name}: the stretch begins at {wanted.start:.2f} s, but the sound ends at {end:.2f} s",
        "beyond the end",
    )
