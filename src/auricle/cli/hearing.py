"""Where a stream's samples come from: a file, raw PCM on standard input, or the microphone.

Each gives short blocks as they can be had. Knows neither models nor what is shown.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, BinaryIO, Protocol

import numpy as np

from auricle import audio
from auricle.audio import Samples
from auricle.audio.resampling import check_rate
from auricle.cli.pacing import Block, paced
from auricle.errors import AudioError, ConfigError, MissingExtra, first_line

BLOCK_SECONDS = 0.02  # what a block adds to the latency
_MICROPHONE_BLOCKS = 3000  # a minute may wait for the model, then sound is lost
_STALLED_SECONDS = 1.0
MOST_CHANNELS = 256
_CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"caff": "CAF"}

log = logging.getLogger("auricle")


class Sound(Protocol):
    """One speaker's sound."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def path(self) -> Path | None:
        """Of a file."""

    @property
    def live(self) -> bool:
        """Whether it comes at the speaker's pace."""

    def rate(self, wanted: int) -> int:
        """The rate at which it can be had, `wanted` if possible."""

    def blocks(self, rate: int) -> Generator[Block]:
        """Short blocks at that rate, each as soon as it is there."""


class File:
    """An audio or video file, its channels mixed, at the pace of its speaker or at once."""

    def __init__(self, path: Path, *, fast: bool) -> None:
        if not path.exists():
            raise audio.no_such_file(path, "give a file, a manifest, - or mic")
        if path.is_dir():
            raise AudioError(f"{path}: a folder; auricle stream takes one file, or a manifest")
        self.path, self.name, self.live = path, path.name, not fast

    def rate(self, wanted: int) -> int:
        """As wanted: files are resampled while they are read."""
        return wanted

    def blocks(self, rate: int) -> Generator[Block]:
        """Never the whole file at once."""
        blocks = audio.blocks(self.path, sample_rate=rate, seconds=BLOCK_SECONDS)
        yield from paced(blocks, rate) if self.live else blocks


@dataclass(frozen=True)
class Pcm:
    """How raw samples are written: a rate (None is the model's), channels, s16le or f32le."""

    rate: int | None = None
    channels: int = 1
    floats: bool = False

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_rate(self.rate, "--rate")
        if not 1 <= self.channels <= MOST_CHANNELS:
            bound = "1 or more" if self.channels < 1 else f"at most {MOST_CHANNELS}"
            raise ConfigError(f"--channels must be {bound}, got {self.channels}")

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.type.itemsize

    @property
    def type(self) -> np.dtype[Any]:
        """Of one sample."""
        return np.dtype("<f4" if self.floats else "<i2")


class Pipe:
    """Raw samples on standard input, interleaved channels averaged.

    Part of a sample at the end is dropped, and said.
    """

    name, path, live = "stdin", None, True

    def __init__(self, pcm: Pcm) -> None:
        if sys.stdin is None:  # closed before the start: `<&-`
            raise ConfigError("standard input is closed: pipe raw PCM into it, or stream mic")
        if sys.stdin.isatty():
            raise ConfigError("standard input is a terminal: pipe raw PCM into it, or stream mic")
        self._file: BinaryIO = sys.stdin.buffer
        self._pcm = pcm

    def rate(self, wanted: int) -> int:
        """The one that was given, else as wanted."""
        return self._pcm.rate or wanted

    def blocks(self, rate: int) -> Generator[Block]:
        """Samples as they arrive.

        Raises:
            AudioError: No samples at all, an audio file instead of raw samples, or NaN.
        """
        frame = self._pcm.frame
        size = frame * max(1, round(rate * BLOCK_SECONDS))
        read = getattr(self._file, "read1", self._file.read)
        rest, heard = b"", 0
        while more := read(size):
            if not heard:
                _refuse_containers(more)
            data = rest + more
            whole = len(data) - len(data) % frame
            rest = data[whole:]
            if whole:
                block = _mono(data[:whole], self._pcm)
                _require_finite(block, heard, rate)
                heard += len(block)
                yield block
        if not heard:
            raise AudioError("standard input holds no sound (0 samples); pipe raw PCM into it")
        if rest:
            log.warning(
                "standard input ends within a sample, %d byte(s) of which were dropped: "
                "is it %s with %d channel(s)?",
                len(rest),
                "f32le" if self._pcm.floats else "s16le",
                self._pcm.channels,
            )


class Microphone:
    """The default input device."""

    name, path, live = "mic", None, True

    def __init__(self) -> None:
        """Find the device.

        Raises:
            MissingExtra: sounddevice is not installed.
            AudioError: PortAudio or a device is missing.
        """
        self._sounddevice = _sounddevice()
        try:
            self._own_rate: int = round(
                self._sounddevice.query_devices(kind="input")["default_samplerate"]
            )
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(
                f"there is no microphone ({first_line(error)}): connect one, or pipe raw PCM "
                "into auricle stream -"
            ) from None

    def rate(self, wanted: int) -> int:
        """As wanted where the device has that, else its own."""
        try:
            self._sounddevice.check_input_settings(channels=1, dtype="float32", samplerate=wanted)
        except self._sounddevice.PortAudioError:
            return self._own_rate
        return wanted

    def blocks(self, rate: int) -> Generator[Block]:
        """What is heard from now on, without end; sound that finds no room is lost, and said.

        Raises:
            AudioError: The device cannot be opened, or has gone.
        """
        waiting: Queue[Samples] = Queue(_MICROPHONE_BLOCKS)
        lost: list[bool] = []

        def hear(data: Samples, frames: int, when: Any, status: Any) -> None:
            # Runs on PortAudio's thread, whose array is only lent.
            try:
                waiting.put_nowait(data[:, 0].copy())
            except Full:
                lost.append(True)
            if status.input_overflow:
                lost.append(True)

        size = round(rate * BLOCK_SECONDS)
        try:
            with self._sounddevice.InputStream(
                samplerate=rate, channels=1, dtype="float32", blocksize=size, callback=hear
            ) as device:
                told = False
                while True:
                    if (block := _next(waiting)) is not None:
                        yield block
                    elif not device.active:
                        raise AudioError("the microphone has gone; connect it and begin again")
                    if lost and not told:
                        told = True
                        log.warning("the microphone was not heard in time: some sound is lost")
        except self._sounddevice.PortAudioError as error:
            raise AudioError(f"the microphone failed: {first_line(error)}") from None


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise MissingExtra(
            "the microphone needs the extra 'mic': pip install auricle[mic]"
        ) from None
    except OSError as error:
        raise AudioError(
            f"the microphone needs PortAudio ({first_line(error)}): apt install libportaudio2, or "
            "your system's package of it"
        ) from None
    return sounddevice


def _next(waiting: Queue[Samples]) -> Samples | None:
    try:
        return waiting.get(timeout=_STALLED_SECONDS)
    except Empty:
        return None


def _refuse_containers(first: bytes) -> None:
    for mark, kind in _CONTAINERS.items():
        if first.startswith(mark):
            raise AudioError(
                f"standard input is a {kind} file, not raw samples: name the file instead, or "
                "decode it first (ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -)"
            )


def _require_finite(block: Block, before: int, rate: int) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        seconds = (before + int(np.argmin(finite))) / rate
        raise AudioError(
            f"standard input: the sample at {seconds:.2f} s is NaN or infinite; is it f32le?"
        )


def _mono(data: bytes, pcm: Pcm) -> Block:
    samples = np.frombuffer(data, pcm.type)
    if pcm.channels == 1:
        return samples.astype(np.float32 if pcm.floats else np.int16)
    mixed: Samples = samples.reshape(-1, pcm.channels).mean(axis=1, dtype=np.float32)  # [S]
    return mixed if pcm.floats else mixed / np.float32(32768)
