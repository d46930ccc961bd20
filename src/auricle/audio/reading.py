"""`read`, `blocks` and `probe`: any source as mono float32 at one rate.

A file is never held at its own rate or in all its channels: packets become mono spans, spans are
resampled, and only the result grows.
"""

from __future__ import annotations

import itertools
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
from auricle.audio.timeline import Span, check_channels, spans, to_mono
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


@dataclass(frozen=True)
class _Wanted:
    """What to make of a source: its rate, one channel or the mix, and which stretch (seconds)."""

    sample_rate: int
    channel: int | None = None
    start: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_rate(self.sample_rate, "sample_rate")
        if self.channel is not None and (
            isinstance(self.channel, bool) or not isinstance(self.channel, int | np.integer)
        ):
            raise ConfigError(f"channel must be a number, or None to mix, got {self.channel!r}")
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


def probe(source: Source) -> AudioInfo:
    """What a file's header says of its sound, without decoding it.

    Raises:
        AudioError: See `read`.
    """
    with opened(source) as file, opened_track(file) as track:
        return track.info


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
        if track.wav_seconds is not None and track.wav_whole:
            return track.wav_seconds
        start = max(0.0, (track.info.duration or 0.0) - _END_SECONDS)
        end = 0.0
        for span in spans(track, None, start):
            end = span.start + len(span.samples) / span.rate
    return end


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
            return codec in _SNDFILE_PCM and track.wav_seconds is not None
        if form == "ogg":
            return codec in ("vorbis", "opus") and not track.chained
        if form in ("aiff", "au", "w64"):
            return codec in _SNDFILE_PCM
        return (form, codec) in (("flac", "flac"), ("mp3", "mp3"))


def read(
    source: Source,
    *,
    sample_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    channel: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
) -> Samples:
    """Read a file, bytes, a binary file object or an array as mono float32 [S].

    Time 0 is where the container starts: sound that begins later has silence before it, and gaps
    become silence. The channels are averaged, or `channel` is taken (from 0). `start` and
    `seconds` choose a stretch; it ends early where the sound does.

    An array needs its `source_rate`; it is int16, int32, float32 or float64, [S], [S, C] or
    [C, S] (the smaller axis is the channels; on a tie the second), and is returned as it is where
    nothing has to be done.

    Raises:
        AudioError: No such file, not audio, without sound, cut short, or not finite; the message
            names the file and the cure.
        ConfigError: A rate, channel or stretch that makes no sense.
    """
    wanted = _Wanted(sample_rate, channel, start, seconds)
    if isinstance(source, np.ndarray):
        return _read_array(source, source_rate, wanted)
    with opened(source) as file, opened_track(file) as track:
        buffer, length = np.empty(_capacity(track, wanted), np.float32), 0
        for piece in _stretch(track, wanted):
            end = length + len(piece)
            if end > len(buffer):  # in place where the system can, and little beyond what is used
                buffer.resize(max(end, len(buffer) * 9 // 8), refcheck=False)
            buffer[length:end] = piece
            length = end
        buffer.resize(length, refcheck=False)
    return buffer


def blocks(
    source: Source,
    *,
    sample_rate: int = SAMPLE_RATE,
    source_rate: int | None = None,
    channel: int | None = None,
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
    if isinstance(source, np.ndarray):
        whole = _read_array(source, source_rate, wanted)
        yield from (whole[i : i + size] for i in range(0, len(whole), size))
        return
    with opened(source) as file, opened_track(file) as track:
        yield from _in_blocks(_stretch(track, wanted), size)


@contextmanager
def opened_blocks(
    source: str | PathLike[str] | bytes | BinaryIO,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    block_seconds: float = 30.0,
) -> Iterator[tuple[AudioInfo, Iterator[Samples]]]:
    """A file opened once: what its header says, and what `read` gives in blocks.

    Without a `sample_rate`, samples come at the rate that the header says. Stricter than `read`:
    refused are an Ogg file that ends within a page, an MP3 with fewer frames than it counts, and
    sound of which more than one packet in a hundred is damaged.

    Raises:
        AudioError: See `read`; what is wrong behind the header comes with the blocks.
        ConfigError: See `read`.
    """
    with opened(source) as file, opened_track(file, whole=True) as track:
        rate = sample_rate or track.info.sample_rate
        if not LOWEST_RATE <= track.info.sample_rate <= HIGHEST_RATE:
            raise AudioError(f"{track.name}: {rate} samples per second is no rate of sound")
        pieces = _stretch(track, _Wanted(rate, channel, start, seconds))
        yield track.info, _in_blocks(pieces, max(1, round(block_seconds * rate)))


def _in_blocks(pieces: Iterator[Samples], size: int) -> Iterator[Samples]:
    """The same samples in arrays of `size`; the last one is shorter."""
    block, filled = np.empty(size, np.float32), 0
    for piece in pieces:
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


def _stretch(track: Track, wanted: _Wanted) -> Iterator[Samples]:
    """The wanted stretch of a track at the wanted rate, in small pieces, every sample finite."""
    position, found = _aligned(spans(track, wanted.channel, wanted.start), wanted.sample_rate)
    empty = True
    for piece in _at_rate(found, wanted.sample_rate):
        _check_finite(piece, position, wanted.sample_rate, track.name)
        stop = None if wanted.stop is None else max(0, wanted.stop - position)
        inside = piece[max(0, wanted.first - position) : stop]
        position += len(piece)
        if len(inside):
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
        yield span._replace(samples=span.samples[skip:]) if skip else span
        skip = max(0, skip - len(span.samples))


def _at_rate(found: Iterator[Span], rate: int) -> Iterator[Samples]:
    """Spans as samples at one rate; each run of another rate has its own resampler."""
    for source_rate, run in itertools.groupby(found, key=lambda span: span.rate):
        if source_rate == rate:
            yield from _gathered(run)
            continue
        resampler = Resampler(source_rate, rate)
        for samples in _gathered(run):
            yield resampler.push(samples)
        yield resampler.finish()


def _gathered(run: Iterator[Span]) -> Iterator[Samples]:
    """Join short spans to about a second each: one call of the resampler for forty packets."""
    waiting: list[Samples] = []
    count = 0
    for span in run:
        waiting.append(span.samples)
        count += len(span.samples)
        if count >= span.rate:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _read_array(array: npt.NDArray[Any], source_rate: int | None, wanted: _Wanted) -> Samples:
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
    check_channels(len(data), wanted.channel, f"the array of shape {array.shape}")
    mono = to_mono(data, wanted.channel)
    _check_finite(mono, 0, source_rate, "the array")
    whole = resample(mono, source_rate, wanted.sample_rate)
    inside = whole[wanted.first : wanted.stop]
    if not len(inside):
        _raise_empty("the array", len(whole) / wanted.sample_rate, wanted)
    return inside


def from_array(array: npt.NDArray[Any], name: str = "the array") -> Samples:
    """Mono sound [S] of int16, int32, float32 or float64 as float32; none at all is allowed.

    What is float32 already is not copied.

    Raises:
        AudioError: Another type or shape, or a sample that is no finite number.
    """
    _check_dtype(array)
    if array.ndim != 1:
        raise AudioError(f"{name} has shape {list(array.shape)}; give mono sound, [samples]")
    mono = to_mono(array[None], None)
    finite = np.isfinite(mono)
    if not finite.all():
        number = int(np.argmin(finite))
        raise AudioError(f"{name}: sample {number} of {len(mono)} is NaN or infinite")
    return mono


def _check_dtype(array: npt.NDArray[Any]) -> None:
    if array.dtype.name not in _DTYPES:
        raise AudioError(f"an array of {array.dtype} is no audio; give one of {', '.join(_DTYPES)}")


def _check_finite(samples: Samples, position: int, rate: int, name: str) -> None:
    finite = np.isfinite(samples)
    if not finite.all():
        seconds = (position + int(np.argmin(finite))) / rate
        raise AudioError(
            f"{name}: the sample at {seconds:.2f} s is NaN or infinite; write the recording again",
            "not finite",
        )


def _raise_empty(name: str, end: float, wanted: _Wanted) -> Never:
    if end == 0:
        raise AudioError(f"{name}: holds no sound (0 samples); record or copy it again", "empty")
    raise AudioError(
        f"{name}: the stretch begins at {wanted.start:.2f} s, but the sound ends at {end:.2f} s",
        "beyond the end",
    )
