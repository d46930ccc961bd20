"""From packets to mono sound that stands where its timestamps say.

Gaps become silence, overlaps are dropped, a concatenation (a leap of the clock) is joined.
The decoder has already trimmed encoder priming wherever the container states it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from auricle.audio.containers import MAX_CHANNELS, Track
from auricle.audio.resampling import HIGHEST_RATE, LOWEST_RATE, Samples
from auricle.errors import AudioError

if TYPE_CHECKING:
    from av import AudioFrame


# Containers round timestamps (Matroska and FLV to 1 ms) and muxers jitter by a few more.
# Below this, sound is taken as continuous; the least real loss is a packet of 20 ms.
_JITTER = 0.015
_LONGEST_OVERLAP = 1.0
_LONGEST_GAP = 3600.0
_MOST_SILENCE = 6 * 3600.0
_LEAST_PROMISED = 0.5  # seconds by which headers may be wrong
_WITHOUT_GAPS = ("flac", "ogg", "mp3")  # whatever is missing in these is lost
_MOST_DAMAGED = 0.01  # of the packets, beside one: a tag behind an MP3 is no packet either

_WORTH_SEEKING = 30.0
_PREROLL = 2.0
_SEEK_EXACTLY = ("wav", "w64", "flac", "mov,mp4,m4a,3gp,3g2,mj2")

log = logging.getLogger("auricle")


class Span(NamedTuple):
    """Mono sound [S] at `rate`; `start` is seconds since the container's start."""

    start: float
    rate: int
    samples: Samples


def spans(track: Track, channel: int | None, start: float = 0.0) -> Iterator[Span]:
    """The track's sound without holes, in order; each span begins where the last one ended.

    The first span starts at 0, or anywhere before `start` where the container can seek exactly.

    Raises:
        AudioError: Nothing can be decoded, the channel is not there, the file is cut short, or
            its timestamps ask for hours of silence.
    """
    sought = _seek(track, start)
    base: float | None = None
    clock = silence = 0.0
    for frame in _frames(track):
        rate, samples = frame.sample_rate, _mono(frame, channel, track.name)
        time = frame.time
        if base is None:
            base = _base(track, time or 0.0) if sought is None else sought
            clock = 0.0 if sought is None or time is None else min(time - base, start)
        gap = 0.0 if time is None else time - base - clock
        if not -_LONGEST_OVERLAP <= gap <= _LONGEST_GAP:
            base += gap  # a leap of the clock: files joined end to end, and so is their sound
        elif gap > _JITTER:
            silence += gap
            for quiet in _silence(clock, gap, rate, silence, track.name):
                yield quiet
                clock += len(quiet.samples) / rate
        elif gap < -_JITTER:
            samples = samples[round(-gap * rate) :]
        if len(samples):
            yield Span(clock, rate, samples)
            clock += len(samples) / rate
    assert base is not None  # or there had been an error
    _check_complete(track, base + clock)
    if track.whole and track.container.format.name in _WITHOUT_GAPS and silence > 0.01 * clock:
        raise AudioError(
            f"{track.name}: damaged: {silence:.1f} of {clock:.1f} seconds cannot be decoded; "
            "fetch it again",
            "damaged",
        )


def _frames(track: Track) -> Iterator[AudioFrame]:
    """Decode the track; damaged packets are skipped, and said once."""
    import av

    damaged = packets = frames = 0
    try:
        for packet in track.container.demux(track.stream):
            packets += 1
            try:
                for frame in packet.decode():
                    frames += 1
                    yield frame
            except av.error.FFmpegError:
                damaged += 1
    except IndexError:  # PyAV's, after the last packet, where streams appeared on the way
        pass
    except av.error.FFmpegError:
        damaged += 1
    except OSError as error:
        what = f"{track.name}: reading failed: {error.strerror or error}"
        raise AudioError(what, "cannot be read") from error
    if not frames:
        missing = "truncated" if (track.promised or 0) > _LEAST_PROMISED else "empty"
        raise AudioError(
            f"{track.name}: holds no sound that can be decoded; check that it plays, "
            "or convert it to WAV or FLAC first",
            "cannot be decoded" if damaged else missing,
        )
    if damaged:
        what = "1 packet" if damaged == 1 else f"{damaged} packets"
        if track.whole and damaged > 1 + _MOST_DAMAGED * packets:
            raise AudioError(
                f"{track.name}: damaged: {what} of {packets} cannot be decoded; fetch it again",
                "damaged",
            )
        log.warning("%s: damaged or cut off, %s skipped", track.name, what)


def _mono(frame: AudioFrame, channel: int | None, name: str) -> Samples:
    """The mean of the frame's channels, or one of them, as float32 in [-1, 1]."""
    count = frame.layout.nb_channels
    check_channels(count, channel, name)
    if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
        raise AudioError(f"{name}: {frame.sample_rate} samples per second is no rate of sound")
    try:
        data: npt.NDArray[Any] = frame.to_ndarray()
    except ValueError as error:
        raise AudioError(f"{name}: {error}; convert it to 16-bit WAV or FLAC first") from error
    if not frame.format.is_planar:
        data = data.reshape(-1, count).T  # [1, S*C] -> [C, S]
    return to_mono(data, channel)


def check_channels(count: int, channel: int | None, name: str) -> None:
    """Refuse a channel that is not there, and a count that is no recording's.

    Raises:
        AudioError: `channel` is not below `count`, or `count` is absurd.
    """
    if count > MAX_CHANNELS:
        raise AudioError(f"{name}: has {count} channels; at most {MAX_CHANNELS} can be read")
    if channel is not None and not 0 <= channel < count:
        there = "only channel 0" if count == 1 else f"channels 0 to {count - 1}"
        raise AudioError(f"{name}: has no channel {channel}; it has {there}", "no such channel")


def to_mono(data: npt.NDArray[Any], channel: int | None) -> Samples:
    """Mix [C, S] of any PCM type down to float32 [S]; integers are scaled by their full range."""
    mono: Samples
    with np.errstate(all="ignore"):  # what overflows is found, and refused, as not finite
        if channel is not None or len(data) == 1:
            mono = np.asarray(data[channel or 0], np.float32)
        else:
            mono = np.add.reduce(data, axis=0, dtype=np.float32)
            mono /= len(data)
    if data.dtype.kind == "u":
        mono -= 128.0
    if data.dtype.kind in "iu":
        mono *= np.float32(2.0 ** (1 - 8 * data.dtype.itemsize))
    return mono


def _base(track: Track, first: float) -> float:
    """The container's start in its own clock: where the earliest of sound and picture begins.

    The container's `start_time` would count encoder priming, which nobody hears.
    """
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in (*track.container.streams.video, *track.container.streams.audio)
        if stream.index != track.stream.index
        and stream.start_time is not None
        and stream.time_base is not None
        and not stream.disposition & stream.disposition.attached_pic
    ]
    return min([first, *starts])


def _seek(track: Track, start: float) -> float | None:
    """Go to a little before `start` if that saves work; the clock's base if so, else None."""
    exact = track.container.format.name in _SEEK_EXACTLY
    if not exact or not _WORTH_SEEKING <= start < (track.info.duration or 0.0):
        return None
    stream = track.stream
    first = 0.0
    if stream.start_time is not None and stream.time_base is not None:
        first = float(stream.start_time * stream.time_base)
    base = _base(track, first)
    track.container.seek(int((base + start - _PREROLL) * 1e6))
    return base


def _silence(start: float, seconds: float, rate: int, total: float, name: str) -> Iterator[Span]:
    """Silence in pieces, so that an hour of it never stands in memory at the source's rate."""
    if total > _MOST_SILENCE:
        raise AudioError(
            f"{name}: its timestamps leave more than {_MOST_SILENCE / 3600:.0f} hours without "
            "sound; they are damaged, so rewrite the file (to WAV or FLAC) first"
        )
    left = round(seconds * rate)
    while left > 0:
        count = min(left, 10 * rate)
        yield Span(start, rate, np.zeros(count, np.float32))
        start += count / rate
        left -= count


def _check_complete(track: Track, end: float) -> None:
    """Refuse a file whose sound ends, in the container's clock, long before its header says."""
    if track.within_page:
        raise AudioError(
            f"{track.name}: cut short within a page of Ogg, after {end:.1f} seconds; "
            "fetch it again, or save what is there as a new file",
            "truncated",
        )
    promised = track.promised
    if promised is not None and promised - end > _LEAST_PROMISED + 0.01 * promised:
        raise AudioError(
            f"{track.name}: cut short: {end:.1f} of {promised:.1f} seconds are there; "
            "fetch it again, or save what is there as a new file",
            "truncated",
        )
