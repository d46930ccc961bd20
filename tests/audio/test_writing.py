"""Writing sound: the same samples again, and the same bytes in every process."""

from __future__ import annotations

import errno
import hashlib
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.audio import AudioFormat
from auricle.errors import ConfigError
from tests.audio.media import chirp

FORMATS: list[AudioFormat] = ["flac", "wav"]


def sixteen_bits(seconds: float = 3.0, rate: int = 16_000) -> np.ndarray:
    return (np.rint(chirp(seconds, rate) * 32768) / 32768).astype(np.float32)


def written(blocks: list[np.ndarray], audio_format: AudioFormat, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    count = audio.write(file, blocks, rate, audio_format)
    assert count == sum(len(block) for block in blocks)
    return file.getvalue()


@pytest.mark.parametrize("audio_format", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_what_had_sixteen_bits_comes_back_as_it_was(audio_format: AudioFormat, rate: int) -> None:
    samples = sixteen_bits(rate=rate)
    content = written([samples], audio_format, rate)
    assert audio.probe(content).sample_rate == rate
    np.testing.assert_array_equal(audio.read(content, sample_rate=rate), samples)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_bytes_do_not_depend_on_how_the_sound_is_cut(audio_format: AudioFormat) -> None:
    samples = sixteen_bits()
    pieces = [samples[:1], samples[1:1], samples[1:4097], *np.array_split(samples[4097:], 7)]
    assert written([samples], audio_format) == written(pieces, audio_format)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_bytes_are_those_of_another_process(audio_format: AudioFormat) -> None:
    program = (
        "import hashlib, sys; from tests.audio.test_writing import *;"
        f"sys.stdout.write(hashlib.sha256(written([sixteen_bits()], {audio_format!r})).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    here = hashlib.sha256(written([sixteen_bits()], audio_format)).hexdigest()
    assert [run.stdout for run in runs] == [here, here]


@pytest.mark.parametrize("audio_format", FORMATS)
def test_what_is_too_loud_is_clipped(audio_format: AudioFormat) -> None:
    loud = np.array([1.5, -1.5, 0.25] * 4000, np.float32)
    heard = audio.read(written([loud], audio_format))
    np.testing.assert_allclose(heard[:3], [1.0, -1.0, 0.25], atol=1e-4)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="flac or wav, not as 'mp3'"):
        audio.write(io.BytesIO(), [chirp(1.0)], 16_000, "mp3")  # type: ignore[arg-type]


class FullDisk(io.BytesIO):
    """Takes 10 kB."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > 10_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_a_full_disk_is_called_that(audio_format: AudioFormat) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        audio.write(FullDisk(), [chirp(9.0, 16_000)], 16_000, audio_format)
    assert caught.value.errno == errno.ENOSPC


def test_a_disk_that_is_full_from_some_byte_on_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """PyAV prints tracebacks of callbacks that raise twice."""

    class Filling(io.BytesIO):
        def __init__(self, room: int) -> None:
            super().__init__()
            self.room = room

        def write(self, content: bytes) -> int:  # type: ignore[override]
            if self.tell() + len(content) > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    for room in (0, 10, 5_000, 80_000):
        with pytest.raises(OSError, match="No space left"):
            audio.write(Filling(room), [chirp(9.0, 16_000)], 16_000, "flac")
    assert capfd.readouterr().err == ""
