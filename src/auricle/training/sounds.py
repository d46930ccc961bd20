"""Where sound lies: a file, a member of a tar, a row of a dataset, a cut, or several joined.

All are small values that can be sent to a worker, which reads them with Auricle's own reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from auricle import audio
from auricle.training.items import Sound

Samples = npt.NDArray[np.float32]


class MeasuredSound(Sound, Protocol):
    """A sound that can say how long it is, from its header where there is one."""

    def seconds(self) -> float:
        """Its length.

        Raises:
            AudioError: It cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileSound:
    """A file, or the stretch of it from `offset` for `duration` seconds."""

    path: str
    offset: float = 0.0
    duration: float | None = None
    channel: int | None = None

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]."""
        return audio.read(
            self.path,
            sample_rate=sample_rate,
            channel=self.channel,
            start=self.offset,
            seconds=self.duration,
        )

    def seconds(self) -> float:
        """What the header says, from `offset` on."""
        length = audio.probe(self.path).duration
        return _stretch(length, self.offset, self.duration, self)


@dataclass(frozen=True, slots=True)
class JoinedSound:
    """Sounds one after the other, with pauses of so many seconds between them."""

    parts: tuple[Sound, ...]
    pauses: tuple[float, ...]

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]; a pause is digital silence."""
        pieces = [self.parts[0].read(sample_rate)]
        for part, pause in zip(self.parts[1:], self.pauses, strict=True):
            pieces.append(np.zeros(round(pause * sample_rate), np.float32))
            pieces.append(part.read(sample_rate))
        return np.concatenate(pieces)


def _stretch(length: float | None, offset: float, duration: float | None, sound: Sound) -> float:
    """The seconds of a stretch of a file whose header says `length`, or says nothing."""
    if length is None:
        return len(sound.read(audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    left = max(0.0, length - offset)
    return left if duration is None else min(left, duration)
