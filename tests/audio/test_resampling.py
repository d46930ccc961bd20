"""Length, frequency, phase and purity of resampled sound."""

from __future__ import annotations

import numpy as np
import pytest

from auricle import audio
from auricle.audio.resampling import Resampler
from auricle.errors import ConfigError

RATES = [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 12_345]


def tone(frequency: float, rate: int, count: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(count) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_length_phase_and_purity(rate: int) -> None:
    count = 2 * rate + 37
    out = audio.resample(tone(1000, rate, count), rate, 16_000)
    assert out.dtype == np.float32
    assert len(out) == round(count * 16_000 / rate)
    inside = slice(200, -200)
    expected = tone(1000, 16_000, len(out))[inside]
    error = out[inside] - expected
    assert 10 * np.log10(np.mean(expected**2) / np.mean(error**2)) > 90


def test_what_lies_above_the_new_nyquist_is_removed_and_speech_is_kept() -> None:
    def gain(frequency: float) -> float:
        out = audio.resample(tone(frequency, 44_100, 44_100), 44_100, 16_000)[500:-500]
        return float(10 * np.log10(2 * np.mean(out**2)))

    assert abs(gain(100)) < 0.01
    assert abs(gain(7_000)) < 0.1
    assert gain(8_500) < -80
    assert gain(12_000) < -90


@pytest.mark.parametrize("count", [1, 2, 5, 31, 64, 100, 1000])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_short_clips_have_the_right_length_and_level(count: int, rate: int) -> None:
    out = audio.resample(np.ones(count, np.float32), rate, 16_000)
    assert len(out) == round(count * 16_000 / rate)
    if count >= 31:
        assert out[len(out) // 2] == pytest.approx(1.0, abs=0.15)


def test_pieces_of_any_size_give_the_same() -> None:
    samples = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    whole = audio.resample(samples, 44_100, 16_000)
    for size in (97, 441, 7777):
        resampler = Resampler(44_100, 16_000)
        pieces = [resampler.push(samples[i : i + size]) for i in range(0, len(samples), size)]
        assert np.array_equal(np.concatenate([*pieces, resampler.finish()]), whole)


def test_equal_rates_change_nothing() -> None:
    samples = np.arange(10, dtype=np.float32)
    assert audio.resample(samples, 16_000, 16_000) is samples


@pytest.mark.parametrize("rate", [0, -1, 16_000.5, "16k", True, 10**9])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    with pytest.raises(ConfigError, match="sample_rate must be"):
        audio.resample(np.zeros(10, np.float32), 8000, rate)  # type: ignore[arg-type]
