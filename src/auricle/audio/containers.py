"""Opening a media file with FFmpeg so that it can name no other file, and finding its sound.

Three locks, any one of which would do: FFmpeg gets a file object without a usable name, only
containers that hold their own sound are allowed, and every request to open something is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Never, cast

from auricle.audio.headers import Header, read_header
from auricle.audio.sources import Opened
from auricle.errors import AudioError, first_line

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi",
    ".caf", ".flac", ".flv", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2",
    ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".mts", ".mxf", ".oga", ".ogg", ".ogv", ".opus",
    ".ra", ".rm", ".sph", ".spx", ".ts", ".tta", ".vob", ".voc", ".w64", ".wav", ".weba", ".webm",
    ".wma", ".wmv", ".wv",
})
# fmt: on
"""Suffixes that a folder is searched for; a file given by name may have any."""

MAX_CHANNELS = 256

# FFmpeg's demuxers that read nothing but the file they are given. Playlists (hls, dash, concat,
# sdp, imf), pictures, subtitles, devices and text art stay out, as does all of FFmpeg to come.
_FORMATS = (
    "aa,aac,ac3,ac4,act,aea,aiff,amr,amrnb,amrwb,apac,ape,aptx,asf,asf_o,ast,au,avi,avr,bonk,caf,"
    "codec2,dsf,dss,dts,dtshd,dv,eac3,flac,flv,g722,g729,gsm,gxf,hca,iamf,iff,ilbc,ircam,kux,lc3,"
    "loas,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nsv,nut,nuv,ogg,oma,osq,paf,"
    "pvf,qcp,qoa,rka,rm,sbc,sds,shn,sln,sox,spdif,tak,truehd,tta,voc,vqf,w64,wav,wavarc,wsd,wtv,wv,"
    "wve,xa,xwma"
)
# Headers that count the samples, and that FFmpeg does not trim to the bytes that are there.
_COUNTED = ("flac", "ogg", "aiff", "au", "tta", "wv", "rm", "mov,mp4,m4a,3gp,3g2,mj2")
# Lengths of all that a file holds: of its sound, where that is all.
_COUNTED_ALONE = ("flv", "asf", "matroska,webm")
_STATES_PRIMING = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "nut", "caf", "asf")
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<asx", b"<MPD", b"<smil", b"v=0")


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of its sound; `duration` is in seconds, None where the file does not say.

    The duration may be an estimate: `length` measures.
    """

    duration: float | None
    channels: int
    sample_rate: int
    codec: str
    tracks: int = 1  # of sound, of which one is read


@dataclass(frozen=True)
class Track:
    """The one audio stream of an open file that is read."""

    name: str
    container: InputContainer
    stream: AudioStream
    header: Header
    file: Guarded

    @property
    def info(self) -> AudioInfo:
        """What the header says."""
        codec = self.stream.codec_context
        return AudioInfo(
            self._duration(),
            codec.channels,
            codec.sample_rate,
            codec.codec.canonical_name,
            len(self.container.streams.audio),
        )

    @property
    def form(self) -> str:
        """FFmpeg's name of the container."""
        return self.container.format.name

    @property
    def states_priming(self) -> bool:
        """Whether the container says what an encoder put before the sound; it is trimmed then."""
        return self.form in _STATES_PRIMING

    @property
    def promised(self) -> float | None:
        """Seconds of sound that the header counts; None where headers only estimate."""
        return self._promised() or None

    def _promised(self) -> float | None:
        header, form, stream = self.header, self.form, self.stream
        if header.wav is not None:  # of other codecs than PCM, counts are often wrong
            return header.wav.seconds if header.wav.pcm or not header.wav.whole else None
        if form == "matroska,webm" and (stated := _clock(stream.metadata.get("DURATION", ""))):
            return stated
        if form in ("caf", "avi") and stream.frames and stream.time_base:
            unit = stream.time_base if form == "avi" else 1 / stream.codec_context.sample_rate
            return float(stream.frames * unit)
        alone = form in _COUNTED_ALONE and len(self.container.streams) == 1
        if form in _COUNTED or alone or (form == "mp3" and header.mp3_counted):
            return self._duration()
        seconds = self._duration()
        return None if header.grown == 1 or seconds is None else seconds * header.grown

    def _duration(self) -> float | None:
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else self.container.duration / 1e6


@contextmanager
def opened_track(source: Opened, number: int | None = None) -> Iterator[Track]:
    """Open one audio stream of a file, by its number or the best; the others are not even read.

    Raises:
        AudioError: Not a media file, a playlist, one without sound or without such a track.
    """
    import av

    try:
        header = read_header(source.file)
    except OSError as error:
        raise _unreadable(source, error) from error
    file = Guarded(source.file, None if header.wav is None else header.wav.patch)
    try:
        container = av.open(
            file,
            mode="r",
            container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "none"},
            metadata_errors="replace",
            io_open=_refuse,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        file.raise_error(source.name)
        if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
            raise _unreadable(source, error) from error
        raise AudioError(_why_not_media(source)) from error
    with container:
        yield Track(
            source.name, container, _chosen_stream(container, number, source.name), header, file
        )


def _unreadable(source: Opened, error: OSError) -> AudioError:
    what = f"{source.name}: cannot be read: {error.strerror or error}"
    return AudioError(what, "cannot be read")


def _chosen_stream(container: InputContainer, number: int | None, name: str) -> AudioStream:
    import av

    tracks = container.streams.audio
    if not tracks:
        kinds = "video" if container.streams.video else "file"
        raise AudioError(
            f"{name}: the {kinds} has no sound; give a file with an audio track", "no audio stream"
        )
    if number is not None and not 0 <= number < len(tracks):
        there = "only track 0" if len(tracks) == 1 else f"tracks 0 to {len(tracks) - 1}"
        raise AudioError(f"{name}: has no audio track {number}; it has {there}", "no such track")
    if number is None:
        best = cast("AudioStream", container.streams.best("audio") or tracks[0])
    else:
        best = tracks[number]
    if best.codec_context is None or not best.codec_context.sample_rate:
        raise AudioError(
            f"{name}: its sound is in a format that FFmpeg does not know, or is damaged; "
            "convert it to WAV or FLAC first"
        )
    for stream in container.streams:
        if stream.index != best.index and hasattr(stream, "discard"):  # PyAV 18
            stream.discard = av.stream.Discard.all
    return best


def _clock(text: str) -> float | None:
    """Seconds of "hours:minutes:seconds", as Matroska's tags have it; None of anything else."""
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _why_not_media(source: Opened) -> str:
    source.file.seek(0)
    head = source.file.read(1024)
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS) or b"<MPD" in head:
        return f"{source.name}: is a playlist, which is not followed; give the files that it lists"
    return (
        f"{source.name}: not an audio or video file, or cut off before its sound; "
        "check that it plays, or fetch it again"
    )


def _refuse(url: str, flags: int, options: dict[str, str]) -> Never:
    raise PermissionError("a media file may not open another file")


class Guarded:
    """A file for FFmpeg: without a name by which it would guess, and without exceptions.

    PyAV prints what a callback raises while another error waits, so errors are kept here instead:
    reading then ends, and `raise_error` raises what ended it.
    """

    def __init__(self, file: BinaryIO, patch: tuple[int, bytes] | None = None) -> None:
        """`patch` is what FFmpeg shall read at a place instead of what stands there."""
        self.error: BaseException | None = None
        self.file, self._patch = file, patch

    def read(self, count: int = -1) -> bytes:
        """As of a file; nothing after an error."""
        if self.error is not None:
            return b""
        try:
            at = 0 if self._patch is None else self.file.tell()
            content = self.file.read(count)
        except BaseException as error:
            self.error = error
            return b""
        if self._patch is None or not content:
            return content or b""
        place, new = self._patch
        before, after = max(0, place - at), max(0, place + len(new) - at)
        return (content[:before] + new[max(0, at - place) :] + content[after:])[: len(content)]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file; -1 where a damaged one sends FFmpeg before its start."""
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError):
            return -1
        except BaseException as error:
            self.error = error
            return -1

    def tell(self) -> int:
        """As of a file."""
        try:
            return self.file.tell()
        except (OSError, ValueError):
            return -1

    def raise_error(self, name: str) -> None:
        """Raise what ended the reading, if anything did.

        Raises:
            AudioError: The disk failed, or the file object did.
        """
        if self.error is None:
            return
        if not isinstance(self.error, Exception):
            raise self.error  # Ctrl-C
        what = getattr(self.error, "strerror", None) or first_line(self.error)
        raise AudioError(f"{name}: reading failed: {what}", "cannot be read") from self.error
