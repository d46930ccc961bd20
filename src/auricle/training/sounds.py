"""Where sound lies: a file, a member of a tar, a row of a dataset, a cut, or several joined.

All are small values that can be sent to a worker, which reads them with Auricle's own reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np

from auricle import audio
from auricle.audio import FilePart, Samples
from auricle.errors import AudioError
from auricle.training.items import Sound


class MeasuredSound(Sound, Protocol):
    """A sound that can tell how long it is: see `audio.length` for files."""

    def seconds(self) -> float:
        """How much sound `read` gives; headers that only guess are not believed.

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
            strict=True,
        )

    def seconds(self) -> float:
        """From `offset` on."""
        return _stretch(audio.length(self.path), self.offset, self.duration)


@dataclass(frozen=True, slots=True)
class TarSound:
    """A member of a plain tar: `size` bytes at `position`; a stretch of it, as with a file."""

    path: str
    position: int
    size: int
    name: str
    offset: float = 0.0
    duration: float | None = None

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.path}: {self.name}"

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]."""
        return _read_bytes(self._bytes(), self.where, sample_rate, self.offset, self.duration)

    def seconds(self) -> float:
        """From `offset` on; of a WAV, no more than the header is read."""
        with self._opened() as file:
            part = cast(BinaryIO, FilePart(file, self.position, self.size))
            return _stretch(_length(part, self.where), self.offset, self.duration)

    def _bytes(self) -> bytes:
        with self._opened() as file:
            try:
                file.seek(self.position)
                content = file.read(self.size)
            except OSError as error:
                raise AudioError(f"{self.where}: cannot be read: {error.strerror}") from error
        if len(content) < self.size:
            raise AudioError(f"{self.where}: the shard is cut short; fetch it again", "truncated")
        return content

    def _opened(self) -> BinaryIO:
        try:
            return Path(self.path).open("rb")
        except OSError as error:
            raise AudioError(f"{self.where}: cannot be opened: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class BytesSound:
    """The content of a file in memory, as streams bring it."""

    content: bytes = field(repr=False)
    name: str

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]."""
        return _read_bytes(self.content, self.name, sample_rate)

    def seconds(self) -> float:
        """All of it."""
        return _length(self.content, self.name)


@dataclass(frozen=True, slots=True)
class JoinedSound:
    """Sounds one after the other, with pauses of so many seconds between them."""

    parts: tuple[Sound, ...]
    pauses: tuple[float, ...]

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]; a pause is digital silence."""
        return self.joined([part.read(sample_rate) for part in self.parts], sample_rate)

    def joined(self, parts: Sequence[Samples], sample_rate: int) -> Samples:
        """`read`, where the samples of the parts are there already."""
        pieces = [parts[0]]
        for part, pause in zip(parts[1:], self.pauses, strict=True):
            pieces += [np.zeros(round(pause * sample_rate), np.float32), part]
        return np.concatenate(pieces)


def _stretch(length: float, offset: float, duration: float | None) -> float:
    """The seconds that a stretch has in a file of so many."""
    left = max(0.0, length - offset)
    return left if duration is None else min(left, duration)


def _read_bytes(
    content: bytes,
    name: str,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
) -> Samples:
    """The samples [S] of a file's content; errors call it by its name."""
    try:
        return audio.read(
            content, sample_rate=sample_rate, start=offset, seconds=duration, strict=True
        )
    except AudioError as error:
        raise AudioError(_renamed(error, name), error.reason) from None


def _length(content: bytes | BinaryIO, name: str) -> float:
    try:
        return audio.length(content)
    except AudioError as error:
        raise AudioError(_renamed(error, name), error.reason) from None


def _renamed(error: AudioError, name: str) -> str:
    said = str(error)
    for nameless in ("the audio bytes", "the audio stream"):
        said = said.removeprefix(nameless + ": ")
    return f"{name}: {said}"
