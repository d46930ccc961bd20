"""From packets to sound that stands where its timestamps say, and what is missing from it.

Gaps become silence, overlaps are dropped, a concatenation (a leap of the clock) is joined, what
cannot be decoded is counted. The decoder has already trimmed encoder priming wherever the
container states it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from auricle.audio.containers import MAX_CHANNELS, Track, opened_track
from auricle.audio.headers import mp3_frame, priming, tags_behind
from auricle.audio.indexing import FrameIndex, frame_index
from auricle.audio.resampling import HIGHEST_RATE, LOWEST_RATE, Samples
from auricle.audio.sources import FilePart, Opened
from auricle.errors import AudioError

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream

Channel = int | Literal["all"] | None

# Containers round timestamps (Matroska and FLV to 1 ms) and muxers jitter by a few more.
# Below this, sound is taken as continuous; the least real loss is a packet of 20 ms.
_JITTER = 0.015
_LONGEST_OVERLAP = 1.0
_LONGEST_GAP = 3600.0
_MOST_SILENCE = 6 * 3600.0
_LEAST_PROMISED = 0.5  # seconds by which headers may be wrong
_FEW_PAGES = 10.0  # seconds: an Ogg that begins later was cut from a stream
_LEAST_SAID = 0.1  # seconds: an encoder's last packet may be padded, or not
_LEAST_LOST = 0.005  # seconds: less is no packet
_WITHOUT_GAPS = ("flac", "ogg", "mp3", "aac", "ac3", "eac3")  # what is missing in these is lost
_FRAMES_ALONE = ("mp3", "aac", "ac3", "eac3")  # nothing stands between the frames
_STEADY = ("mp2", "ac3", "eac3")  # frames of one length
_MOST_DAMAGED = 0.01  # of the packets, beside one: a tag behind an MP3 is no packet either
_TAG_MARKS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")

_WORTH_SEEKING = 30.0
_PREROLL = 2.0
_SEEK_EXACTLY = ("wav", "w64", "flac", "mov,mp4,m4a,3gp,3g2,mj2")
_MOST_PLANES = 8  # from here on PyAV 18's own conversion is not safe
_SOMETHING = 1e-6  # seconds: what is missing says nothing of its length
_MOST_ERRORS = 100  # of a container, before reading on is given up

LOUDEST = 64.0
"""Full scale is 1. Nothing that converts sound to floats goes beyond this, 36 dB above it."""

# A mix that is 20 dB below its channels: they are one sound with its sign turned.
_CANCELLED = 0.02
_AUDIBLE = 1e-7  # power, -70 dB below full scale
_PIECE = 1 << 14


class Span(NamedTuple):
    """Sound [C, S] at `rate`; `start` is seconds since the container's start."""

    start: float
    rate: int
    samples: Samples


@dataclass
class ReadReport:
    """What was noticed while a file was read; complete when its last sample is out.

    All in seconds: `end` is where the sound ends, `cut` is missing behind it (None: something is,
    but no header says how much), `lost` could not be decoded, `gaps` are the pauses that the
    file's timestamps leave, and in `inverted` the channels would have cancelled each other.
    """

    end: float = 0.0
    cut: float | None = 0.0
    lost: float = 0.0
    gaps: float = 0.0
    inverted: float = 0.0
    packets: int = 0
    damaged: int = 0
    channels: int = 0
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> float:
        """Seconds of sound that are known to be missing."""
        return self.lost + (self.cut or 0.0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to say, in sentences."""
        said = list(self.notes)
        if self.cut is None:
            said.append(f"cut off after {self.end:.1f} seconds; how much is missing is not known")
        elif self.cut > _LEAST_SAID:
            said.append(f"cut short: {self.end:.1f} of {self.end + self.cut:.1f} seconds are there")
        lost = self.lost >= _LEAST_LOST
        if lost or (self.damaged and not said):  # a cut leaves half a packet
            packets = "1 packet" if self.damaged == 1 else f"{self.damaged} packets"
            parts = [f"{self.lost:.2f} seconds are missing"] if lost else []
            parts += [f"{packets} cannot be decoded"] if self.damaged else []
            said.append(f"damaged: {', '.join(parts)}")
        if self.gaps:
            said.append(f"its timestamps leave {self.gaps:.2f} seconds without sound")
        if self.inverted > _LEAST_SAID:
            said.append(
                f"its channels cancel each other when mixed: for {self.inverted:.1f} seconds "
                "one of them is heard alone"
            )
        return tuple(said)

    def refuse(self, name: str) -> None:
        """Be strict: a file of which well more is missing than muxers get wrong.

        Raises:
            AudioError: Its end is missing ("truncated"), or more than a hundredth ("damaged").
        """
        cut = self.cut is None or self.cut > _LEAST_PROMISED + 0.01 * (self.end + self.cut)
        many = self.damaged > 1 + _MOST_DAMAGED * self.packets
        if cut or many or self.lost > _MOST_DAMAGED * self.end + _LEAST_SAID:
            raise AudioError(
                f"{name}: {'; '.join(self.warnings)}; fetch it again, or save what is there as a "
                "new file",
                "truncated" if cut else "damaged",
            )


def spans(track: Track, channel: Channel, report: ReadReport, start: float = 0.0) -> Iterator[Span]:
    """The track's sound without holes, in order; each span begins where the last one ended.

    The first span starts at 0, or anywhere before `start` where the container can seek exactly.

    Raises:
        AudioError: Nothing can be decoded, the channel is not there, or the timestamps ask for
            hours of silence.
    """
    if track.header.links:
        yield from _chained(track, channel, report)
    elif track.form == "mp3" and start >= _WORTH_SEEKING and (index := frame_index(track)):
        yield from _from_frame(track, index, channel, report, start)
    else:
        yield from _placed(track, channel, report, start)


def _from_frame(
    track: Track, index: FrameIndex, channel: Channel, report: ReadReport, start: float
) -> Iterator[Span]:
    """An MP3 from a frame on that stands well before `start`, since a frame builds on others."""
    begin = 0.0
    if track.stream.start_time is not None and track.stream.time_base is not None:
        begin = float(track.stream.start_time * track.stream.time_base)
    number = index.before(min(start + begin, float(index.times[-1])) - _PREROLL)
    first, earlier = int(index.bytes[number]), float(index.times[number]) - begin
    part = cast(BinaryIO, FilePart(track.file.file, first, track.header.size - first))
    with opened_track(Opened(part, track.name)) as rest:
        for span in _placed(rest, channel, report):
            place, samples = earlier + span.start, span.samples
            if track.promised is not None:  # what pads the last frame is told by the first one
                samples = samples[:, : max(0, round((track.promised - place) * span.rate))]
            yield Span(place, span.rate, samples)
    report.end += earlier
    if track.promised is not None:
        report.end = min(report.end, track.promised)
        report.cut = track.promised - report.end


def _chained(track: Track, channel: Channel, report: ReadReport) -> Iterator[Span]:
    """The links of a chained Ogg, one after the other."""
    end = 0.0
    for number, (first, size) in enumerate(track.header.links):
        part = cast(BinaryIO, FilePart(track.file.file, first, size))
        try:
            with opened_track(Opened(part, track.name)) as link:
                for span in _placed(link, channel, report):
                    yield span._replace(start=end + span.start)
        except AudioError as error:
            if error.reason == "no such channel" and not number:
                raise
            report.notes += (f"part {number + 1}, after {end:.1f} seconds: {error}",)
            report.damaged += 1
        end = end + report.end
    report.end = end


def _placed(
    track: Track, channel: Channel, report: ReadReport, start: float = 0.0
) -> Iterator[Span]:
    """The spans of one container."""
    sought = _seek(track, start)
    decoder = _Decoder(track, report)
    base: float | None = None
    before: float | None = None
    latest = max(track.promised or 0.0, (track.container.duration or 0) / 1e6) + _LEAST_PROMISED
    clock = silence = 0.0
    skip = 0
    for frame in decoder.frames():
        rate, samples = frame.sample_rate, _picked(frame, channel, track, report)
        if samples is None:
            decoder.spoiled(frame)
            continue
        time = None if frame.time == before else frame.time  # a clock that stands says nothing
        before = frame.time
        if base is None:
            skip = decoder.priming if sought is None else 0
            base = _base(track, (time or 0.0) + skip / rate) if sought is None else sought
            clock = 0.0 if sought is None or time is None else min(time - base, start)
        if skip:
            dropped = min(skip, samples.shape[1])
            skip, samples = skip - dropped, samples[:, dropped:]
            time = None if time is None else time + dropped / rate
        gap = 0.0 if time is None else time - base - clock
        if not -_LONGEST_OVERLAP <= gap <= _LONGEST_GAP or clock + gap > latest > _LEAST_PROMISED:
            base += gap  # a leap of the clock: files joined end to end, and so is their sound
        elif gap > _JITTER:
            silence += gap
            if decoder.pending or track.form in _WITHOUT_GAPS:
                report.lost += gap
            elif clock:  # a late start is no gap
                report.gaps += gap
            if silence > _MOST_SILENCE:
                raise AudioError(
                    f"{track.name}: its timestamps leave more than {_MOST_SILENCE / 3600:.0f} "
                    "hours without sound; they are damaged, so convert it to WAV or FLAC first"
                )
            for quiet in _silence(clock, gap, rate, len(samples)):
                yield quiet
                clock += quiet.samples.shape[1] / rate
        elif gap < -_JITTER:
            samples = samples[:, round(-gap * rate) :]
        decoder.pending = 0.0
        if samples.shape[1]:
            yield Span(clock, rate, samples)
            clock += samples.shape[1] / rate
    if base is None:
        missing = "truncated" if (track.promised or 0) > _LEAST_PROMISED else "empty"
        raise AudioError(
            f"{track.name}: holds no sound that can be decoded; check that it plays, "
            "or convert it to WAV or FLAC first",
            "cannot be decoded" if report.damaged else missing,
        )
    _conclude(track, decoder, report, clock, base)


def _conclude(track: Track, decoder: _Decoder, report: ReadReport, end: float, base: float) -> None:
    """What is missing, now that the sound ends at `end`."""
    report.end = end
    promised = track.promised
    cut: float | None = 0.0
    if promised is not None:
        padded = base if track.form == "mp3" else 0.0  # which its count leaves out
        cut = max(0.0, promised + padded - base - end)
    elif decoder.broke_off and (track.info.duration or 0.0) > end + _LEAST_PROMISED:
        cut = (track.info.duration or 0.0) - end
    else:
        report.lost += decoder.lost_at_end()
        cut = None if decoder.broke_off or decoder.ends_within() else 0.0
    if track.header.cut and cut is not None and cut <= _LEAST_SAID:
        cut = None
    report.cut = None if cut is None or report.cut is None else report.cut + cut


class _Decoder:
    """Decodes a track, and counts what could not be decoded."""

    def __init__(self, track: Track, report: ReadReport) -> None:
        self._track, self._report = track, report
        codec = track.stream.codec_context
        if codec.codec.canonical_name == "flac":  # whose frames carry a sum that shows damage
            codec.options = {"err_detect": "crccheck+explode"}
        self._heard_bytes = 0
        self._heard_seconds = 0.0
        self._first: int | None = None  # where the first packet stands in the file
        self._last = b""
        self._shortest = 1 << 30  # bytes of a packet, but for the last
        self.pending = 0.0  # seconds that could not be decoded since the last good frame
        self.broke_off = False
        self.priming = 0

    def frames(self) -> Iterator[AudioFrame]:
        """What can be decoded; damaged packets are passed over."""
        import av

        for packet in self._packets():
            if not packet.size:  # the end, where a decoder may still hold frames
                with suppress(av.error.FFmpegError):
                    yield from packet.decode()
                continue
            self._report.packets += 1
            if self._first is None:
                self._begin(packet)
            self._shortest = min(self._shortest, len(self._last) or packet.size)
            self._last = bytes(packet)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if self._track.form != "mp3" or not self._last.startswith(_TAG_MARKS):
                    self._fail(packet)
                continue
            self._heard_bytes += packet.size
            for frame in frames:
                self._heard_seconds += frame.samples / max(1, frame.sample_rate)
                yield frame

    def spoiled(self, frame: AudioFrame) -> None:
        """A frame decoded to values that no sound has."""
        self._report.damaged += 1
        self.pending += frame.samples / frame.sample_rate

    def lost_at_end(self) -> float:
        """Seconds behind the last good frame; of frames without timestamps, all that is missing."""
        if self._track.form not in _FRAMES_ALONE or not self._heard_bytes:
            return self.pending if self.pending > _SOMETHING * self._report.damaged else 0.0
        header = self._track.header
        sound = header.size - tags_behind(self._track.file.file, header.size) - (self._first or 0)
        unread = max(0, sound - self._heard_bytes)
        seconds = unread * self._heard_seconds / self._heard_bytes
        return max(0.0, seconds - self._report.lost) if seconds > _JITTER else 0.0

    def ends_within(self) -> bool:
        """Whether the last frame is shorter than its header, or all those before it, say."""
        steady = self._track.stream.codec_context.codec.canonical_name in _STEADY
        return len(self._last) < mp3_frame(self._last) or (
            steady and len(self._last) < self._shortest - 2  # a byte of padding comes and goes
        )

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        """The packets; reading goes on behind damage of the container, where FFmpeg can."""
        import av

        track = self._track
        for _ in range(_MOST_ERRORS):
            try:
                for packet in track.container.demux(track.stream):
                    track.file.raise_error(track.name)
                    self.broke_off = False
                    yield packet
                break
            except IndexError:  # PyAV's, after the last packet, where streams appeared on the way
                break
            except av.error.FFmpegError:
                self.broke_off = True
                self._fail(None)
        track.file.raise_error(track.name)

    def _begin(self, packet: Packet[AudioStream]) -> None:
        self._first = packet.pos or 0
        if not self._track.states_priming:
            codec = self._track.stream.codec_context
            self.priming = priming(codec.codec.canonical_name, codec.sample_rate, bytes(packet))

    def _fail(self, packet: Packet[AudioStream] | None) -> None:
        self._report.damaged += 1
        length = 0.0
        if packet is not None and packet.duration and packet.time_base:
            length = float(packet.duration * packet.time_base)
        self.pending += max(length, _SOMETHING)


def _picked(
    frame: AudioFrame, channel: Channel, track: Track, report: ReadReport
) -> Samples | None:
    """The wanted channels of a frame as float32 [C, S]; None if it is nothing that sound is."""
    count = frame.layout.nb_channels
    if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
        raise unsupported_rate(track.name, frame.sample_rate)
    wanted = channel
    if not report.channels:
        check_channels(count, None if channel == "all" else channel, track.name)
        report.channels = count
    elif count != report.channels:  # they change on the way: what follows is mixed
        check_channels(count, None, track.name)
        wanted = None
    data = _values(frame, track.name)
    if data is None:
        return None
    samples, inverted = picked(data, wanted)
    if data.dtype.kind == "f" and not _stores_floats(track) and not plausible(samples):
        return None
    report.inverted += inverted / frame.sample_rate
    if channel == "all" and wanted is None:
        samples = np.repeat(samples, report.channels, axis=0)
    return samples


def _values(frame: AudioFrame, name: str) -> npt.NDArray[Any] | None:
    """A frame's samples [C, S] as they are stored; None if FFmpeg cannot arrange them."""
    import av

    count = frame.layout.nb_channels
    if frame.format.is_planar and count >= _MOST_PLANES:
        packed = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
        try:
            (frame,) = packed.resample(frame)
        except (av.error.FFmpegError, ValueError):
            return None
    try:
        data: npt.NDArray[Any] = frame.to_ndarray()
    except ValueError as error:
        raise AudioError(f"{name}: {error}; convert it to 16-bit WAV or FLAC first") from error
    return data if frame.format.is_planar else data.reshape(-1, count).T  # [1, S*C] -> [C, S]


def _stores_floats(track: Track) -> bool:
    """Whether a codec stores the values themselves, so that strange ones are no damage."""
    codec = track.stream.codec_context.codec.canonical_name
    return codec.startswith("pcm_") or codec == "wavpack"


def unsupported_rate(name: str, rate: int) -> AudioError:
    """The error for a rate of samples that no recording has."""
    return AudioError(
        f"{name}: unsupported sample rate: {rate} per second; {LOWEST_RATE} to {HIGHEST_RATE} "
        "can be read"
    )


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


def plausible(samples: Samples) -> bool:
    """Whether all samples are numbers of a size that conversion to floats gives."""
    return not samples.size or bool(np.abs(samples).max() <= LOUDEST)  # NaN is not


def picked(data: npt.NDArray[Any], channel: Channel) -> tuple[Samples, int]:
    """One channel, all of them, or their mean: [C, S] of any PCM type to float32 [C', S].

    Integers are scaled by their full range. Where the mean would be silent because the channels
    are one sound with its sign turned, one of them is taken.

    Returns:
        The samples, and how many of them are of one channel because of that.
    """
    if channel == "all" or len(data) == 1:
        return _floats(data), 0
    if channel is not None:
        return _floats(data[channel : channel + 1]), 0
    floats = _floats(data)
    with np.errstate(all="ignore"):  # what overflows is found, and refused, as not finite
        mixed: Samples = np.add.reduce(floats, axis=0, dtype=np.float32, keepdims=True)
        mixed /= len(floats)
        inverted = 0
        for first in range(0, floats.shape[1], _PIECE):
            piece, mix = floats[:, first : first + _PIECE], mixed[0, first : first + _PIECE]
            power = np.einsum("cs,cs->c", piece, piece)
            loud = power.max() > _AUDIBLE * len(mix)
            if loud and float(np.dot(mix, mix)) * len(floats) ** 2 < _CANCELLED * power.sum():
                mix[:] = piece[np.argmax(power >= power.max() / 2)]  # the same one every time
                inverted += len(mix)
    return mixed, inverted


def _floats(data: npt.NDArray[Any]) -> Samples:
    with np.errstate(all="ignore"):
        floats: Samples = np.asarray(data, np.float32)
    if data.dtype.kind == "u":
        floats = floats - np.float32(128.0)
    if data.dtype.kind in "iu":
        floats = floats * np.float32(2.0 ** (1 - 8 * data.dtype.itemsize))
    return floats


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
    if 0 < first < _FEW_PAGES and track.header.first_page is not None:
        codec = track.stream.codec_context
        rate = 48_000 if codec.codec.canonical_name == "opus" else codec.sample_rate
        if track.header.headless or first >= track.header.first_page / rate - _JITTER:
            return 0.0  # the first page is missing, or damaged
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


def _silence(start: float, seconds: float, rate: int, channels: int) -> Iterator[Span]:
    """Silence in pieces, so that an hour of it never stands in memory at the source's rate."""
    left = round(seconds * rate)
    while left > 0:
        count = min(left, 10 * rate)
        yield Span(start, rate, np.zeros((channels, count), np.float32))
        start += count / rate
        left -= count
