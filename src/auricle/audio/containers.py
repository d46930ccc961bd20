"""Opening a media file with FFmpeg so that it can name no other file, and finding its sound.

Three locks, any one of which would do: FFmpeg gets a file object without a usable name, only
containers that hold their own sound are allowed, and every request to open something is refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Never, cast

from auricle.audio.sources import Opened
from auricle.errors import AudioError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi",
    ".caf", ".flac", ".flv", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2",
    ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm",
    ".sph", ".spx", ".ts", ".tta", ".vob", ".voc", ".w64", ".wav", ".weba", ".webm", ".wma",
    ".wmv", ".wv",
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
# Headers that count the samples (a WAV's is read here: FFmpeg trims its count to the file).
_COUNTED = ("w64", "flac", "aiff", "mov,mp4,m4a,3gp,3g2,mj2")
_UNKNOWN_SIZE = 0x7F000000  # a WAV that was piped states a size of 2 or 4 GiB, or 0
_PAGE_HEAD, _LARGEST_PAGE = 27, 27 + 255 + 255 * 255  # bytes of an Ogg page (RFC 3533)
_PCM_TAGS = (1, 3, 0xFFFE)
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<asx", b"<MPD", b"<smil", b"v=0")


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of its sound; `duration` is in seconds, None where the file does not say."""

    duration: float | None
    channels: int
    sample_rate: int
    codec: str


@dataclass(frozen=True)
class Track:
    """The one audio stream of an open file that is read."""

    name: str
    container: InputContainer
    stream: AudioStream
    wav_seconds: float | None = None
    wav_whole: bool = False  # all the bytes that a WAV says it has are there
    chained: bool = False  # an Ogg file of several streams, one after the other
    whole: bool = False  # what is damaged is refused rather than passed over
    mp3_counted: bool = False
    within_page: bool = False  # an Ogg file that ends there lacks its end

    @property
    def info(self) -> AudioInfo:
        """What the header says."""
        codec = self.stream.codec_context
        return AudioInfo(
            self._duration(), codec.channels, codec.sample_rate, codec.codec.canonical_name
        )

    @property
    def promised(self) -> float | None:
        """Seconds of sound that the header counts; None where headers only estimate."""
        form = self.container.format.name
        if form == "wav":
            return self.wav_seconds
        alone = len(self.container.streams) == 1
        if (
            form in _COUNTED
            or (form == "mp3" and self.mp3_counted)
            or (form.startswith("matroska") and alone)
        ):
            return self._duration()
        return None

    def _duration(self) -> float | None:
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else self.container.duration / 1e6


@contextmanager
def opened_track(source: Opened, *, whole: bool = False) -> Iterator[Track]:
    """Open the best audio stream of a file; the others are not even read.

    With `whole`, MP3 and Ogg files too are refused where their end is missing, and all where more
    than one packet in a hundred is damaged; else they are read as far as can be.

    Raises:
        AudioError: Not a media file, a playlist, or one without sound.
    """
    import av

    wav_seconds, wav_whole = _wav_seconds(source.file)
    chained = _chained(source.file)
    mp3_counted = whole and _mp3_counted(source.file)
    within_page = whole and _within_page(source.file)
    try:
        container = av.open(
            _Nameless(source.file),
            mode="r",
            container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "none"},
            metadata_errors="replace",
            io_open=_refuse,
        )
    except OSError as error:
        if not isinstance(error, av.error.FFmpegError):
            what = f"{source.name}: cannot be read: {error.strerror}"
            raise AudioError(what, "cannot be read") from error
        raise AudioError(_why_not_media(source)) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(_why_not_media(source)) from error
    with container:
        stream = _best_stream(container, source.name)
        yield Track(
            source.name,
            container,
            stream,
            wav_seconds,
            wav_whole,
            chained,
            whole,
            mp3_counted,
            within_page,
        )


def _best_stream(container: InputContainer, name: str) -> AudioStream:
    import av

    if not container.streams.audio:
        kinds = "video" if container.streams.video else "file"
        raise AudioError(
            f"{name}: the {kinds} has no sound; give a file with an audio track", "no audio stream"
        )
    best = cast("AudioStream", container.streams.best("audio") or container.streams.audio[0])
    if best.codec_context is None or not best.codec_context.sample_rate:
        raise AudioError(
            f"{name}: its sound is in a format that FFmpeg does not know, or is damaged; "
            "convert it to WAV or FLAC first"
        )
    for stream in container.streams:
        if stream.index != best.index and hasattr(stream, "discard"):  # PyAV 18
            stream.discard = av.stream.Discard.all
    return best


def _wav_seconds(file: BinaryIO) -> tuple[float | None, bool]:
    """How long a PCM WAV says it is, and whether all of that is there.

    None for all else, and for a size that was never filled in.
    """
    head = file.read(12)
    bytes_per_second, seconds, whole = 0, None, False
    while head[:4] == b"RIFF" and head[8:] == b"WAVE":
        kind, size = file.read(4), int.from_bytes(file.read(4), "little")
        if kind == b"fmt ":
            tag, _, rate, _, frame = struct.unpack("<HHIIH", file.read(14).ljust(14, b"\0"))
            bytes_per_second = rate * frame if tag in _PCM_TAGS else 0
            size -= 14
        elif kind == b"data" or not size:
            if bytes_per_second and 0 < size < _UNKNOWN_SIZE:
                seconds = size / bytes_per_second
                whole = file.tell() + size <= file.seek(0, os.SEEK_END)
            break
        file.seek(size + size % 2, os.SEEK_CUR)
    file.seek(0)
    return seconds, whole


def _chained(file: BinaryIO) -> bool:
    """Whether an Ogg file holds several streams one after the other."""
    at, begun, chained = 0, False, False
    while not chained:
        file.seek(at)
        head = file.read(_PAGE_HEAD + 255)
        if head[:4] != b"OggS" or len(head) < _PAGE_HEAD:
            break
        first = bool(head[5] & 2)  # a first page; those of the streams of one link come together
        chained = first and begun
        begun = begun or not first
        segments = head[_PAGE_HEAD - 1]
        at += _PAGE_HEAD + segments + sum(head[_PAGE_HEAD : _PAGE_HEAD + segments])
    file.seek(0)
    return chained


def _mp3_counted(file: BinaryIO) -> bool:
    """Whether an MP3's first frame counts all frames, as encoders of variable rates write it."""
    head = file.read(10)
    skip = 0
    if head[:3] == b"ID3" and len(head) == 10:
        sizes = zip(head[6:], (21, 14, 7, 0), strict=True)
        skip = 10 + sum((byte & 0x7F) << shift for byte, shift in sizes)
    file.seek(skip)
    frame = file.read(256)
    file.seek(0)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    return frame[:1] == b"\xff" and at > 0 and len(frame) >= at + 8 and bool(frame[at + 7] & 1)


def _within_page(file: BinaryIO) -> bool:
    """Whether a file is Ogg and ends within a page: nothing else says that its end is missing."""
    ogg = file.read(4) == b"OggS"
    within = False
    if ogg:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LARGEST_PAGE))
        tail = file.read()
        page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
        lengths = page[_PAGE_HEAD : _PAGE_HEAD + page[_PAGE_HEAD - 1]] if page[_PAGE_HEAD:] else b""
        within = bool(page) and (
            len(page) <= _PAGE_HEAD or len(page) < _PAGE_HEAD + page[_PAGE_HEAD - 1] + sum(lengths)
        )
    file.seek(0)
    return within


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


class _Nameless:
    """A file without the name by which FFmpeg would guess a format or look for neighbours."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell
