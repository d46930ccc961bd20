"""What the bytes of a file say that FFmpeg does not pass on.

How long it was meant to be, whether its end is there, where its parts begin, how much of its
beginning an encoder put there. Reads bytes only, and knows no decoder.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

_PCM, _EXTENSIBLE = 1, 0xFFFE
_PCM_TAGS = (_PCM, 3, _EXTENSIBLE)
_UNKNOWN_SIZE = 0x7F000000  # a WAV that was piped states a size of 2 or 4 GiB, or 0
_PAGE_HEAD = 27  # bytes of an Ogg page before its lengths (RFC 3533)
_TS_PACKET = 188
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_MP3_KBITS = {  # layer III, by the version bits of the frame's header (ISO 11172-3, 13818-3)
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_TAGS = ((b"TAG", 128), (b"APETAGEX", 32))  # behind an MP3: the mark, how far from the end
_SPEEX = {8_000: 80, 16_000: 223, 32_000: 508}  # encoder and decoder together, in samples


@dataclass(frozen=True)
class Wav:
    """A WAV's header: `seconds` is None where a pipe left the size open, `whole` if all is there.

    `patch` is a place in the file and the bytes that belong there: FFmpeg takes 24 valid bits in
    32 for a float format of its own, though the sample is simply padded.
    """

    seconds: float | None = None
    pcm: bool = False
    whole: bool = False
    patch: tuple[int, bytes] | None = None


@dataclass(frozen=True)
class Header:
    """What was read of a file's bytes; what does not apply to its format is empty."""

    size: int
    wav: Wav | None = None
    mp3_counted: bool = False
    links: tuple[tuple[int, int], ...] = ()  # of a chained Ogg: where each begins, and its bytes
    first_page: int | None = None  # where an Ogg's first page of sound ends, in samples
    headless: bool = False  # there were others before it
    cut: bool = False  # the file ends within a page, a packet, or the bytes that it announces
    grown: float = field(default=1.0)  # by how many times it was meant to be longer


def read_header(file: BinaryIO) -> Header:
    """Look at the beginning of a file, and at as much of the rest as its format asks for."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    header = Header(size)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RF64", b"BW64"):
        header = Header(size, wav=_wav(file, size))
    elif head[:4] == b"OggS":
        header = _ogg(file, size)
    elif head[:16] == _W64 and (stated := int.from_bytes(head[16:24], "little")) > size:
        header = Header(size, cut=True, grown=stated / size)
    elif head[:1] == b"\x47" and size > _TS_PACKET:
        file.seek(_TS_PACKET)
        header = Header(size, cut=file.read(1) == b"\x47" and bool(size % _TS_PACKET))
    elif head[:3] == b"ID3" or head[:1] == b"\xff":
        header = Header(size, mp3_counted=_mp3_counted(file, head))
    file.seek(0)
    return header


def _wav(file: BinaryIO, size: int) -> Wav:
    rate = per_second = fact = long = 0
    pcm, patch = False, None
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        kind, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        at = file.tell()
        if kind == b"ds64":
            long = int.from_bytes(file.read(16)[8:], "little")
        elif kind == b"fmt ":
            fmt = file.read(min(length, 40)).ljust(40, b"\0")
            tag, channels, rate, per_second, frame, bits = struct.unpack("<HHIIHH", fmt[:16])
            pcm = tag in _PCM_TAGS
            padded = tag == _EXTENSIBLE and fmt[24:26] == b"\x01\0" and fmt[18:20] != fmt[14:16]
            if padded and 8 * frame == bits * channels:
                patch = (at + 18, fmt[14:16])
        elif kind == b"fact":
            fact = int.from_bytes(file.read(4), "little")
        elif kind == b"data" or not length:
            data = long if length == 0xFFFFFFFF else 0 if length >= _UNKNOWN_SIZE else length
            seconds = data / per_second if per_second and data else None
            if not pcm and fact and rate and data:
                seconds = fact / rate
            return Wav(seconds, pcm, bool(data) and at + data <= size, patch)
        file.seek(at + length + length % 2)
    return Wav(patch=patch)


def _ogg(file: BinaryIO, size: int) -> Header:
    """Where the links of a chain begin, whether the last page is cut, whether the first are there.

    A page (RFC 3533): a head of 27 bytes with flags, position, stream, number; lengths; content.
    """
    at, begun, starts, cut = 0, False, [0], False
    numbers: dict[bytes, int] = {}
    first_page, headless = None, False
    while at < size:
        file.seek(at)
        head = file.read(_PAGE_HEAD + 255)
        if head[:4] != b"OggS":  # damaged: go on at the next page
            following = (head + file.read(1 << 16)).find(b"OggS", 1)
            cut, at = following < 0, size if following < 0 else at + following
            continue
        lengths = head[_PAGE_HEAD : _PAGE_HEAD + head[26]] if len(head) >= _PAGE_HEAD else b""
        # First pages of the streams that play together stand together; one that follows others
        # begins a new link. Its number and position are 0, else it is a flipped bit.
        first = bool(head[5:6] and head[5] & 2) and not any(head[6:14]) and not any(head[18:22])
        if first and begun:
            starts.append(at)
        begun = not first
        number = int.from_bytes(head[18:22], "little")
        if not any(head[6:14]):
            numbers[head[14:18]] = number
        elif first_page is None and head[14:18] in numbers and head[6:14] != b"\xff" * 8:
            first_page = int.from_bytes(head[6:14], "little")
            headless = number - numbers[head[14:18]] > 1
        following = at + _PAGE_HEAD + len(lengths) + sum(lengths)
        cut = following > size or len(head) < _PAGE_HEAD or len(lengths) < head[26]
        at = following
    ends = [*starts[1:], size]
    links = [(start, end - start) for start, end in zip(starts, ends, strict=True)]
    chain = tuple(links) if len(links) > 1 else ()
    return Header(size, links=chain, first_page=first_page, headless=headless, cut=cut)


def _mp3_counted(file: BinaryIO, head: bytes) -> bool:
    """Whether an MP3's first frame counts all frames, as encoders of variable rates write it."""
    skip = 0
    if head[:3] == b"ID3":
        sizes = zip(head[6:10], (21, 14, 7, 0), strict=True)
        skip = 10 + sum((byte & 0x7F) << shift for byte, shift in sizes)
    file.seek(skip)
    frame = file.read(256)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    return frame[:1] == b"\xff" and at > 0 and len(frame) >= at + 8 and bool(frame[at + 7] & 1)


def mp3_frame(content: bytes) -> int:
    """How long the layer III frame is that `content` begins with, in bytes; 0 if it is none."""
    if len(content) < 4 or content[0] != 0xFF or content[1] & 0xE6 != 0xE2:
        return 0
    version, place = content[1] >> 3 & 3, content[2] >> 2 & 3
    kbits = _MP3_KBITS.get(version or 2, (0,) * 16)[content[2] >> 4]
    if version not in _MP3_RATES or place == 3 or not kbits:
        return 0
    words = 144 if version == 3 else 72
    return words * 1000 * kbits // _MP3_RATES[version][place] + (content[2] >> 1 & 1)


def tags_behind(file: BinaryIO, size: int) -> int:
    """How many bytes at a file's end are titles and names, not sound."""
    at = size
    for mark, back in _TAGS:
        file.seek(max(0, at - back))
        tail = file.read(back)
        if tail.startswith(mark):
            at -= back if mark == b"TAG" else int.from_bytes(tail[12:16], "little") + back
    return size - max(0, at)


def priming(codec: str, rate: int, first: bytes) -> int:
    """Samples before the sound that are known to be there though no container states them.

    `first` is the first packet. FFmpeg's own AAC encoder names itself there; Speex has one delay
    for each of its rates, whoever encoded it (both measured: docs/audio.md).
    """
    if codec == "aac" and b"Lavc" in first[:64]:
        return 1024
    if codec == "speex":
        return _SPEEX.get(rate, 0)
    return 0
