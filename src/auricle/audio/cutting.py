"""Cutting a long recording into pieces at its quietest moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from auricle.audio.resampling import Samples
from auricle.errors import ConfigError

_FRAME_SECONDS = 0.02
_QUIET_SECONDS = 0.2
_SEARCH = 0.5


def cut_at_silence(
    samples: Samples, sample_rate: int = 16_000, *, max_seconds: float = 60.0
) -> list[tuple[int, int]]:
    """Cut [S] into pieces of at most `max_seconds`: (first, stop) samples that cover everything.

    A cut falls in the middle of the quietest 0.2 s of the second half of what a piece may hold,
    the later one of equals, so that pieces are long.

    Raises:
        ConfigError: `max_seconds` is less than a second.
    """
    if not max_seconds >= 1:
        raise ConfigError(f"max_seconds must be 1 or more, got {max_seconds}")
    limit = int(max_seconds * sample_rate)
    if len(samples) <= limit:
        return [(0, len(samples))]
    frame = max(1, round(_FRAME_SECONDS * sample_rate))
    loudness = _loudness(samples, frame)
    pieces, start = [], 0
    while len(samples) - start > limit:
        low = -(-(start + int(limit * (1 - _SEARCH))) // frame)
        high = min((start + limit) // frame, len(loudness) - 1)
        latest = loudness[low : high + 1][::-1]
        stop = (high - int(np.argmin(latest))) * frame
        pieces.append((start, stop))
        start = stop
    return [*pieces, (start, len(samples))]


def _loudness(samples: Samples, frame: int) -> npt.NDArray[np.float64]:
    """Mean power of the 0.2 s around each frame's first sample: [S // frame + 1]."""
    count = len(samples) // frame
    power = np.empty(count)
    step = 1 << 12  # frames at once, so that no float64 copy of the recording is made
    for i in range(0, count, step):
        block = samples[i * frame : min(count, i + step) * frame].reshape(-1, frame)
        power[i : i + step] = np.einsum("fs,fs->f", block, block, dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(power)])
    half = max(1, round(_QUIET_SECONDS / _FRAME_SECONDS / 2))
    edges = np.arange(count + 1)
    left, right = np.maximum(edges - half, 0), np.minimum(edges + half, count)
    quiet: npt.NDArray[np.float64] = (total[right] - total[left]) / (right - left)
    return quiet
