"""What a recording's samples say of its quality, block by block, whatever its length.

Everything rests on frames of 20 ms at the file's own rate: their power, and the mean of their
spectra. Letters in shapes: S samples, F frames, N samples of a frame, K bins of 50 Hz.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from auricle.audio import Samples

FRAME_SECONDS = 0.02

# Frames are silent below the loudest twentieth by so much, or below a level that nothing said has.
_BELOW_SPEECH, _SILENT = 35.0, -60.0  # dB, dBFS
_NO_SIGNAL = 1e-10  # mean square: less than the rounding to 16 bits leaves
_FULL_SCALE = 0.999
_BACKGROUND = 15.0  # percent of the frames
_LEAST_FRAMES = 10
_LOWEST_SNR, _HIGHEST_SNR = -20.0, 100.0
_BELOW_PEAK = 60.0  # dB
_SIXTEEN_BITS = 2.0**-30 / 12  # mean square of the rounding to 16 bits (its unit is 2 ** -15)
_AT_ONCE = 250  # frames whose spectra fit into a core's cache


@dataclass
class Measures:
    """Figures of one recording, of which blocks of samples come in by `push`."""

    sample_rate: int
    samples: int = 0
    _clipped: int = 0
    _rest: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    _powers: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _spectrum: npt.NDArray[np.float64] | float = 0.0  # [K], summed over frames

    @property
    def frame(self) -> int:
        """Samples of a frame."""
        return max(2, round(FRAME_SECONDS * self.sample_rate))

    @property
    def seconds(self) -> float:
        """How much has come."""
        return self.samples / self.sample_rate

    def push(self, samples: Samples) -> None:
        """More of the recording, [S]."""
        self.samples += len(samples)
        self._clipped += int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
        sound = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        count = len(sound) // self.frame
        frames = sound[: count * self.frame].reshape(count, self.frame)  # [F, N]
        self._rest = sound[count * self.frame :].copy()
        for first in range(0, count, _AT_ONCE):
            self._measure(frames[first : first + _AT_ONCE])

    def powers(self) -> npt.NDArray[np.float32]:
        """The mean square of each whole frame without its mean: [F]."""
        return np.concatenate(self._powers) if self._powers else np.zeros(0, np.float32)

    def values(self) -> dict[str, Any]:
        """The figures, rounded; what cannot be told is None."""
        powers = self.powers()
        return {
            "silence_ratio": silence_ratio(powers),
            "clipping_ratio": round(self._clipped / self.samples, 4) if self.samples else None,
            "snr_db": snr_db(powers),
            "bandwidth_hz": self._bandwidth(len(powers)),
        }

    def _measure(self, frames: npt.NDArray[np.float32]) -> None:
        centred = frames - frames.mean(axis=1, keepdims=True)
        self._powers.append(np.einsum("fn,fn->f", centred, centred) / np.float32(self.frame))
        window = np.blackman(self.frame).astype(np.float32)  # leaks 60 dB less beyond 3 bins
        bins = np.fft.rfft(centred * window)  # [F, K]
        power = np.square(bins.real) + np.square(bins.imag)
        self._spectrum = self._spectrum + power.sum(axis=0, dtype=np.float64)

    def _bandwidth(self, frames: int) -> int | None:
        """The highest frequency within 60 dB of the strongest, in the mean spectrum.

        Nothing counts that is no stronger than what the rounding to 16 bits leaves.
        """
        if not frames:
            return None
        window = np.blackman(self.frame)
        spectrum = self._spectrum / (frames * np.square(window).sum())  # [K], mean square of a bin
        least = max(spectrum.max() * 10 ** (-_BELOW_PEAK / 10), 4 * _SIXTEEN_BITS)
        strong = np.flatnonzero(spectrum >= least)
        if not len(strong):
            return 0
        return round(min(float(strong[-1]) / self.frame, 0.5) * self.sample_rate)


def silence_ratio(powers: npt.NDArray[np.float32]) -> float | None:
    """The share of frames [F] that are 35 dB below the loudest twentieth, or below -60 dBFS."""
    if not len(powers):
        return None
    loud = float(np.percentile(powers, 95))
    least = max(loud * 10 ** (-_BELOW_SPEECH / 10), 10 ** (_SILENT / 10))
    return round(float(np.mean(powers < least)), 4)


def snr_db(powers: npt.NDArray[np.float32]) -> float | None:
    """Signal to background noise by the energy percentiles of frames [F].

    The noise is the level under which 15 % of the frames lie: there nobody speaks. All above it is
    signal, so that it is of background noise only: what barks now and then counts as speech, and
    speech without a pause as noise. Digital silence is left out. That this beats the amplitude
    statistics of WADA (Kim and Stern, Interspeech 2008) on speech with recorded noise, and by how
    much it is wrong, stands in `tests/curation/steps/test_measuring.py`.
    """
    sounding = powers[powers > _NO_SIGNAL]
    if len(sounding) < _LEAST_FRAMES:
        return None
    noise = float(np.percentile(sounding, _BACKGROUND))
    signal = max(float(sounding.mean(dtype=np.float64)) - noise, 1e-12)
    decibels = 10 * float(np.log10(signal / noise))
    return round(min(max(decibels, _LOWEST_SNR), _HIGHEST_SNR), 2)
