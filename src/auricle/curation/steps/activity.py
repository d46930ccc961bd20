"""Where in a recording somebody speaks, block by block, and how that is cut into segments.

Silero's network (extra `vad`) knows speech from other sound; energy alone only knows loud from
quiet. Letters in shapes: S samples, F frames of 20 ms. Times are seconds from the first sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from auricle.audio import Samples

Span = tuple[float, float]
Detector = Literal["silero", "energy"]

RATE = 16_000
FRAME = 320  # samples
_SECONDS = FRAME / RATE

# Of the way from the background's level to that of loud speech; speech ends 3 dB below.
_ON, _HYSTERESIS = 0.35, 3.0
_BELOW_LOUD, _SILENT = 35.0, -60.0  # dB, dBFS
_SMOOTHED = 5  # frames
_QUIET = 10  # frames: as long a moment must be quiet for a cut


@dataclass(frozen=True)
class Limits:
    """How speech becomes segments, in seconds."""

    shortest: float
    longest: float
    padding: float
    merge: float


class Activity(Protocol):
    """Something that blocks of a recording at 16 kHz are pushed through."""

    def push(self, samples: Samples) -> None:
        """More of the recording, [S]; all but the last push are of whole frames."""
        ...

    def speech(self) -> list[Span]:
        """Where there was speech, in order, when everything has been pushed."""
        ...


def installed() -> Detector:
    """Silero where its extra is installed."""
    there = find_spec("onnxruntime") is not None and find_spec("silero_vad") is not None
    return "silero" if there else "energy"


def powers_of(samples: Samples) -> npt.NDArray[np.float32]:
    """The mean square of each whole frame of [S], without its mean: [F]."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power: npt.NDArray[np.float32] = frames.var(axis=1)
    return power


class Energy:
    """Speech is what is well louder than the quietest tenth; it needs no network."""

    def __init__(self) -> None:
        self._powers: list[npt.NDArray[np.float32]] = []

    def push(self, samples: Samples) -> None:
        """More of the recording, [S]."""
        self._powers.append(powers_of(samples))

    def speech(self) -> list[Span]:
        """With hysteresis, from levels that are means over 0.1 s."""
        powers = np.concatenate(self._powers) if self._powers else np.zeros(0, np.float32)
        if not len(powers):
            return []
        level = 10 * np.log10(_smoothed(powers, _SMOOTHED) + 1e-12)  # [F]
        quiet, loud = np.percentile(level, [10, 95])
        begins = max(quiet + _ON * (loud - quiet), loud - _BELOW_LOUD, _SILENT)
        # 1 and 0 are decided; in between, what was decided last holds.
        decided = (level >= begins) | (level < begins - _HYSTERESIS)
        last = np.maximum.accumulate(np.where(decided, np.arange(len(level)), 0))
        active = (level >= begins)[last]
        edges = np.flatnonzero(np.diff(active, prepend=False, append=False)).reshape(-1, 2)
        return [(first * _SECONDS, stop * _SECONDS) for first, stop in edges.tolist()]


class Silero:
    """Speech is what `auricle.vad` hears as such."""

    def __init__(self, threshold: float) -> None:
        """Load the network if this is its first use in the process.

        Raises:
            MissingExtra: The extra `vad` is not installed.
        """
        from auricle.vad import VoiceActivity

        self._voice = VoiceActivity(RATE, threshold=threshold, min_silence_ms=0)
        self._silences: dict[float, float] = {}
        self._samples = 0

    def push(self, samples: Samples) -> None:
        """More of the recording, [S]."""
        self._samples += len(samples)
        for silence in self._voice.push(samples):  # those of one silence grow
            self._silences[silence.start] = silence.end

    def speech(self) -> list[Span]:
        """What lies between the silences."""
        end = self._samples / RATE
        self.push(np.zeros(-self._samples % 512, np.float32))  # fill up the last window
        starts = [0.0, *self._silences.values()]
        stops = [*self._silences, end]
        spans = zip(starts, stops, strict=True)
        return [(start, min(stop, end)) for start, stop in spans if start < min(stop, end)]


def segments(
    speech: Sequence[Span], powers: npt.NDArray[np.float32], seconds: float, limits: Limits
) -> list[Span]:
    """Speech in a recording of so many seconds as segments of it.

    Pauses shorter than `merge` are bridged as long as the whole stays short enough; what is too
    long is cut where it is quietest, by the frames' `powers` [F]; speech that is too short is
    dropped. Then each segment is padded, but no further than to the middle of a pause.
    """
    longest = limits.longest - 2 * limits.padding
    merged: list[Span] = []
    for start, stop in speech:
        if merged and start - merged[-1][1] < limits.merge and stop - merged[-1][0] <= longest:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    quiet = _smoothed(powers, _QUIET)
    pieces = [piece for span in merged for piece in _cut(span, quiet, longest)]
    pieces = [(start, stop) for start, stop in pieces if stop - start >= limits.shortest]
    padded = []
    for number, (start, stop) in enumerate(pieces):
        before = (pieces[number - 1][1] + start) / 2 if number else 0.0
        after = (stop + pieces[number + 1][0]) / 2 if number + 1 < len(pieces) else seconds
        padded.append((max(start - limits.padding, before), min(stop + limits.padding, after)))
    return padded


def _cut(span: Span, quiet: npt.NDArray[np.float64], longest: float) -> list[Span]:
    """A span in pieces that are not too long, each as long as a quiet moment allows."""
    start, stop = span
    pieces = []
    while stop - start > longest:
        low = math.ceil((start + longest / 2) / _SECONDS)
        high = max(low + 1, math.floor((start + longest) / _SECONDS))
        latest = quiet[low:high][::-1]  # of equals, the last
        middle = (high - 1 - int(np.argmin(latest))) * _SECONDS if len(latest) else start + longest
        pieces.append((start, middle))
        start = middle
    return [*pieces, (start, stop)]


def _smoothed(powers: npt.NDArray[np.float32], frames: int) -> npt.NDArray[np.float64]:
    """The mean over so many frames around each: [F]."""
    total = np.concatenate([[0.0], np.cumsum(powers, dtype=np.float64)])
    middle = np.arange(len(powers))
    first = np.maximum(middle - frames // 2, 0)
    stop = np.minimum(middle + frames - frames // 2, len(powers))
    mean: npt.NDArray[np.float64] = (total[stop] - total[first]) / (stop - first)
    return np.maximum(mean, 0.0)
