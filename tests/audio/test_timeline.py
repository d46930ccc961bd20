"""Sound stands where its timestamps say: codecs, late starts, gaps, overlaps, leaps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from media import chirp, delay, encode

from auricle import audio
from auricle.errors import AudioError

RATE = 16_000

# Container, codec, rate, and what the file may be longer by: a last packet that is padded.
STATED = [
    ("wav", "pcm_s16le", 44_100, 0.0),
    ("wav", "pcm_u8", 8_000, 0.0),
    ("wav", "pcm_f32le", 96_000, 0.0),
    ("wav", "pcm_f64le", 22_050, 0.0),
    ("wav", "pcm_s24le", 48_000, 0.0),
    ("flac", "flac", 44_100, 0.0),
    ("mp3", "libmp3lame", 44_100, 0.0),
    ("mp3", "libmp3lame", 16_000, 0.0),
    ("ipod", "aac", 44_100, 0.024),
    ("mp4", "aac", 48_000, 0.024),
    ("mov", "pcm_s16le", 44_100, 0.0),
    ("matroska", "aac", 44_100, 0.024),
    ("matroska", "libmp3lame", 44_100, 0.0),
    ("ogg", "libopus", 48_000, 0.0),
    ("webm", "libopus", 48_000, 0.0),
]


@pytest.mark.parametrize(("container", "codec", "rate", "longer"), STATED)
def test_priming_is_trimmed_and_nothing_is_lost(
    container: str, codec: str, rate: int, longer: float
) -> None:
    original = chirp(3.0, rate)
    expected = audio.resample(original, rate, RATE)
    heard = audio.read(encode(original, container, codec, rate))
    assert abs(delay(heard, expected)) <= 0.001 * RATE
    assert 0 <= len(heard) - len(expected) <= longer * RATE
    error = heard[: len(expected)] - expected
    assert np.mean(error**2) < 0.02 * np.mean(expected**2)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("container", ["adts", "mpegts", "flv"])
def test_priming_that_no_header_states_is_known_of_an_encoder_that_names_itself(
    container: str, rate: int
) -> None:
    """One AAC packet (docs/audio.md); without the encoder's name nothing says so, and it stays."""
    original = chirp(3.0, rate)
    expected = audio.resample(original, rate, RATE)
    content = encode(original, container, "aac", rate)
    heard = audio.read(content)
    assert abs(delay(heard, expected)) <= 0.001 * RATE
    assert 0 <= len(heard) - len(expected) <= 0.07 * RATE
    nameless = audio.read(content.replace(b"Lavc", b"Abcd"))
    assert delay(nameless, expected) / RATE == pytest.approx(1024 / rate, abs=0.001)


def test_speex_starts_where_its_sound_does() -> None:
    """`chirp(0.8, 16_000)` by speexenc 1.2.1 --quality 4: 223 samples stand before it."""
    heard = audio.read(Path(__file__).with_name("chirp_16k.spx"))
    assert abs(delay(heard, chirp(0.8, RATE))) <= 8
    assert audio.length(Path(__file__).with_name("chirp_16k.spx")) == len(heard) / RATE


def test_a_clock_that_stands_still_says_nothing() -> None:
    """FFmpeg gives every packet of RealAudio 14.4 the time 0."""
    heard = audio.read(encode(chirp(3.02, 8000), "rm", "real_144", 8000))
    assert len(heard) / RATE == pytest.approx(3.02, abs=0.04)


@pytest.mark.parametrize(("container", "codec"), [("matroska", "pcm_s16le"), ("mp4", "aac")])
def test_sound_that_starts_after_the_picture_has_silence_before_it(
    container: str, codec: str
) -> None:
    original = chirp(1.0)
    heard = audio.read(encode(original, container, codec, starts=(2.0,), video_seconds=4.0))
    assert delay(heard, audio.resample(original, 44_100, RATE)) / RATE == pytest.approx(
        2, abs=0.002
    )
    assert np.abs(heard[: int(1.95 * RATE)]).max() < 1e-3


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("matroska", "pcm_s16le", 44_100), ("mp4", "aac", 44_100), ("webm", "libopus", 48_000)],
)
def test_a_gap_is_silence_of_its_length(container: str, codec: str, rate: int) -> None:
    original = chirp(1.0, rate)
    expected = audio.resample(original, rate, RATE)
    heard = audio.read(encode(original, container, codec, rate, starts=(0.0, 3.5)))
    assert len(heard) / RATE == pytest.approx(4.5, abs=0.05)
    assert abs(delay(heard[: 2 * RATE], expected)) <= 0.001 * RATE
    assert delay(heard[2 * RATE :], expected) / RATE == pytest.approx(1.5, abs=0.002)
    assert np.abs(heard[int(1.2 * RATE) : int(3.4 * RATE)]).max() < 1e-3


def test_an_overlap_is_heard_once() -> None:
    original = chirp(1.0)
    heard = audio.read(encode(original, "matroska", "pcm_s16le", starts=(0.0, 0.6)))
    assert len(heard) / RATE == pytest.approx(1.6, abs=0.03)
    assert (
        delay(heard[int(1.1 * RATE) :], audio.resample(original, 44_100, RATE)[RATE // 2 :]) <= 16
    )


@pytest.mark.parametrize("second", [7200.0, 2_000_000.0])
def test_a_leap_of_the_clock_joins_instead_of_filling_memory(second: float) -> None:
    heard = audio.read(encode(chirp(1.0), "matroska", "pcm_s16le", starts=(0.0, second)))
    assert len(heard) / RATE == pytest.approx(2.0, abs=0.01)


def test_hours_of_silence_made_of_many_gaps_are_refused() -> None:
    starts = tuple(i * 3000.0 for i in range(10))
    data = encode(chirp(0.2, 8000), "matroska", "pcm_s16le", 8000, starts=starts)
    with pytest.raises(AudioError, match="more than 6 hours without sound"):
        for _ in audio.blocks(data, sample_rate=8000):
            pass


def test_channels_are_averaged_or_chosen() -> None:
    left, right = chirp(1.0, RATE), np.roll(chirp(1.0, RATE), 5000)
    wav = encode(np.stack([left, right]), codec="pcm_f32le", rate=RATE)
    assert np.array_equal(audio.read(wav, channel=0), left)
    assert np.array_equal(audio.read(wav, channel=1), right)
    assert np.allclose(audio.read(wav), (left + right) / 2, atol=1e-7)
    for channel in (2, -1):
        with pytest.raises(AudioError, match=f"no channel {channel}; it has channels 0 to 1"):
            audio.read(wav, channel=channel)
    six = np.stack([left * (i + 1) / 10 for i in range(6)])
    assert np.allclose(audio.read(encode(six, "flac", "flac", RATE)), left * 0.35, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    samples = np.stack([chirp(4.0, RATE)] * 2)
    samples[:, 3 * RATE] = bad
    wav = encode(samples, codec="pcm_f32le", rate=RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError, match=r"the sample at 3\.00 s is NaN or infinite"):
            audio.read(wav)
        with pytest.raises(AudioError, match="NaN or infinite"):
            audio.read(wav, sample_rate=8000)
