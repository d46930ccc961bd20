"""Where the frames of an MP3 stand, so that a row far inside a file is not decoded from its start.

An MP3 has no index of its own, and FFmpeg's seeking in it is a guess. Its frames are counted once
a file, which decodes nothing, and remembered for the rows to come.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auricle.audio.containers import Track, opened_track
from auricle.audio.sources import FilePart, Opened

_MOST_FILES = 16  # remembered: an hour takes 2 MB
_known: dict[tuple[int, ...], FrameIndex | None] = {}


@dataclass(frozen=True)
class FrameIndex:
    """Of each frame: the byte it begins at, and its time in seconds from the file's start."""

    bytes: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]

    def before(self, seconds: float) -> int:
        """The last frame that begins no later than `seconds`."""
        return max(0, int(np.searchsorted(self.times, seconds, side="right")) - 1)


def frame_index(track: Track) -> FrameIndex | None:
    """The frames of an MP3 on the disk; None of one that is damaged, or in memory."""
    key = _identity(track.file.file)
    if key is None:
        return None
    if key not in _known:
        place = track.file.file.tell()
        found = _count(track)
        track.file.file.seek(place)  # the track's own container reads on from there
        while len(_known) >= _MOST_FILES:
            _known.pop(next(iter(_known)), None)
        _known[key] = found
    return _known[key]


def _count(track: Track) -> FrameIndex | None:
    import av

    places: list[int] = []
    stamps: list[int] = []
    length: int | None = None
    with opened_track(Opened(track.file.file, track.name)) as again:
        stream = again.stream
        try:
            for packet in again.container.demux(stream):
                if not packet.size:
                    continue
                following = places[-1] + length if places and length else packet.pos
                if packet.pos is None or packet.pts is None or packet.pos != following:
                    return None
                places.append(packet.pos)
                stamps.append(packet.pts)
                length = packet.size
        except av.error.FFmpegError:
            return None
        if not places or stream.time_base is None:
            return None
        steps = np.diff(stamps)
        if len(steps) and steps.min() != steps.max():
            return None
        times = np.asarray(stamps, np.float64) * float(stream.time_base)
        return FrameIndex(np.asarray(places, np.int64), times)


def _identity(file: Any) -> tuple[int, ...] | None:
    """What tells a file on the disk, and its state, from all others."""
    start = 0
    while isinstance(file, FilePart):
        start, file = start + file.start, file.file
    try:
        facts = os.fstat(file.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, start
