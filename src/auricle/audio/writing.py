"""Sound out: mono samples as 16-bit FLAC or WAV, streamed, the same bytes each time.

The bytes of FLAC are those of one version of FFmpeg's encoder; nothing else has a say in them.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt

from auricle.audio.resampling import Samples, check_rate
from auricle.errors import ConfigError

AudioFormat = Literal["flac", "wav"]

AUDIO_FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)

_FULL_SCALE = 32768.0
_HIGHEST_FLAC = 655_350  # samples per second
_LARGEST_WAV = 2**32 - 64  # bytes


def write(
    file: BinaryIO, blocks: Iterable[Samples], sample_rate: int, audio_format: AudioFormat = "flac"
) -> int:
    """Write samples, float32 [S] each, into an empty seekable file; what is too loud is clipped.

    What was read from 16 bits at the same rate becomes the same 16 bits again.

    Returns:
        The number of samples.

    Raises:
        ConfigError: A rate or format that cannot be written, or a WAV of more than 4 GiB.
        OSError: The disk is full.
    """
    check_rate(sample_rate, "sample_rate")
    pieces = (_sixteen_bits(block) for block in blocks)
    if audio_format == "wav":
        return _write_wav(file, pieces, sample_rate)
    if audio_format != "flac":
        raise ConfigError(
            f"sound is written as {' or '.join(AUDIO_FORMATS)}, not as {audio_format!r}"
        )
    return _write_flac(file, pieces, sample_rate)


def _sixteen_bits(samples: Samples) -> npt.NDArray[np.int16]:
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    sixteen: npt.NDArray[np.int16] = scaled.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    return sixteen


def _write_wav(file: BinaryIO, pieces: Iterator[npt.NDArray[np.int16]], rate: int) -> int:
    count = 0
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        for piece in pieces:
            count += len(piece)
            if 2 * count > _LARGEST_WAV:
                raise ConfigError("a WAV holds at most 4 GiB; write FLAC, or cut the sound first")
            out.writeframesraw(piece.astype("<i2", copy=False).tobytes())
    return count


def _write_flac(file: BinaryIO, pieces: Iterator[npt.NDArray[np.int16]], rate: int) -> int:
    import av

    if rate > _HIGHEST_FLAC:
        raise ConfigError(f"FLAC has at most {_HIGHEST_FLAC} samples per second, not {rate}")
    disk = _Disk(file)
    try:
        count = _encode_flac(disk, pieces, rate)
    except av.error.FFmpegError as error:
        raise disk.error or error from None
    if disk.error is not None:
        raise disk.error
    return count


def _encode_flac(disk: _Disk, pieces: Iterator[npt.NDArray[np.int16]], rate: int) -> int:
    import av

    count = 0
    # bitexact: no names and versions of the libraries in the file.
    with av.open(disk, "w", format="flac", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("flac", rate=rate, layout="mono", options={"flags": "+bitexact"})
        stream.codec_context.thread_count = 1
        for piece in pieces:
            if disk.error is not None:
                break
            if not len(piece):
                continue
            frame = av.AudioFrame.from_ndarray(piece[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), count
            count += len(piece)
            out.mux(stream.encode(frame))
        if count:
            out.mux(stream.encode(None))
    return count


class _Disk:
    """A file that FFmpeg writes to; it keeps errors, which PyAV would print or forget."""

    def __init__(self, file: BinaryIO) -> None:
        self.error: BaseException | None = None
        self._file = file

    def write(self, content: bytes) -> int:
        self._attempt(self._file.write, content)
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._attempt(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._attempt(self._file.tell)

    def _attempt(self, call: Callable[..., int], *given: Any) -> int:
        """What a call gives; -1 where it raises, and after it has."""
        if self.error is not None:
            return -1
        try:
            return call(*given)
        except BaseException as error:
            self.error = error
            return -1
