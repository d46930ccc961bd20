"""What the augmentations of sound must do, measured on tones, noise and clicks."""

from __future__ import annotations

import json
import math
import pickle
import wave
from pathlib import Path

import numpy as np
import pytest

from auricle.audio import Samples
from auricle.errors import AudioError, ConfigError, ManifestError
from auricle.training.augment import (
    Gain,
    Noise,
    Room,
    Sounds,
    Speed,
    Waveform,
    active_level,
    made_response,
)
from auricle.training.recipe import (
    AugmentRecipe,
    GainRecipe,
    NoiseRecipe,
    RoomRecipe,
    SpeedRecipe,
    TelephoneRecipe,
)

RATE = 16_000


def tone(frequency: float, seconds: float = 1.0, level: float = 0.3) -> Samples:
    """A sine [S]."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def hiss(seconds: float = 1.0, seed: int = 0, level: float = 0.1) -> Samples:
    """White noise [S]."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (level * noise).astype(np.float32)


def pitch(samples: Samples) -> float:
    """The strongest frequency in hertz."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(power.argmax() * RATE / len(samples))


def decibels(samples: Samples) -> float:
    return 20 * math.log10(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))))


def manifest(folder: Path, *sounds: Samples) -> str:
    """The path of a manifest of 16-bit WAV files."""
    rows = []
    for number, sound in enumerate(sounds):
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
        rows.append({"audio_filepath": f"{number}.wav", "duration": len(sound) / RATE})
    path = folder / "sounds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def everything(tmp_path: Path) -> AugmentRecipe:
    """Every augmentation, always."""
    return AugmentRecipe(
        speed=SpeedRecipe(prob=1),
        gain=GainRecipe(prob=1),
        noise=NoiseRecipe(manifest(tmp_path, hiss(0.5), tone(200, 3)), prob=1),
        room=RoomRecipe(prob=1),
        telephone=TelephoneRecipe(prob=1),
    )


def test_speed_moves_length_and_pitch_by_one_factor() -> None:
    clip = tone(1000, 2)
    for factor in (0.9, 1.1, 1.07):
        faster = Speed(SpeedRecipe(factors=(factor, factor)))(clip, rng())
        assert len(faster) == round(len(clip) / factor)
        assert pitch(faster) == pytest.approx(1000 * factor, abs=1)
        assert decibels(faster[200:-200]) == pytest.approx(decibels(clip), abs=0.05)


def test_speed_draws_hundredths_over_the_whole_range() -> None:
    change, generator = Speed(SpeedRecipe(factors=(0.98, 1.02))), rng()
    lengths = {len(change(hiss(1), generator)) for _ in range(60)}
    assert lengths == {round(RATE * 100 / factor) for factor in range(98, 103)}


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5])
@pytest.mark.parametrize("noise_seconds", [0.3, 20.0])
def test_noise_has_the_ratio_asked_for(tmp_path: Path, snr: float, noise_seconds: float) -> None:
    change = Noise(NoiseRecipe(manifest(tmp_path, hiss(noise_seconds)), snr=(snr, snr)), RATE)
    clip = np.concatenate([np.zeros(RATE, np.float32), tone(440, 2), np.zeros(RATE, np.float32)])
    added = change(clip, rng()) - clip
    found = decibels(clip[RATE : 3 * RATE]) - decibels(added)
    assert found == pytest.approx(snr, abs=0.1)
    assert len(added) == len(clip) and np.abs(added[-100:]).max() > 0  # looped to the end


def test_noise_begins_at_a_random_place(tmp_path: Path) -> None:
    ramp = np.linspace(-0.5, 0.5, 5 * RATE, dtype=np.float32)
    change = Noise(NoiseRecipe(manifest(tmp_path, ramp), snr=(0, 0)), RATE)
    generator = rng()
    starts = {round(float((change(tone(440), generator) - tone(440))[0]), 3) for _ in range(20)}
    assert len(starts) > 15


def test_long_noise_is_read_in_pieces_that_reach_its_end(tmp_path: Path) -> None:
    change = Noise(NoiseRecipe(manifest(tmp_path, hiss(65)), snr=(0, 0)), RATE)
    generator, heard = rng(), set()
    for _ in range(30):
        heard.add(len(change._sounds.draw(generator)))
    assert heard == {30 * RATE} and len(change._sounds._kept._sounds) == 3


def test_pauses_do_not_count_towards_the_level() -> None:
    clip = tone(440, 1)
    padded = np.concatenate([np.zeros(3 * RATE, np.float32), clip])
    assert active_level(padded, RATE) == pytest.approx(active_level(clip, RATE), rel=1e-6)
    assert active_level(clip, RATE) == pytest.approx(0.3 / math.sqrt(2), rel=1e-3)
    assert active_level(np.zeros(0, np.float32), RATE) == 0


def test_gain_is_in_decibels_and_stops_at_full_scale() -> None:
    clip = tone(440, level=0.3)
    quieter = Gain(GainRecipe(db=(-10, -10)))(clip, rng())
    assert decibels(quieter) - decibels(clip) == pytest.approx(-10, abs=1e-3)
    louder = Gain(GainRecipe(db=(6, 6)))(clip, rng())
    assert decibels(louder) - decibels(clip) == pytest.approx(6, abs=1e-3)
    assert np.abs(Gain(GainRecipe(db=(20, 20)))(clip, rng())).max() == pytest.approx(1, rel=1e-5)
    over = tone(440, level=1.5)
    assert np.array_equal(Gain(GainRecipe(db=(6, 6)))(over, rng()), over)


@pytest.mark.parametrize("rt60", [0.15, 0.6])
def test_a_made_room_decays_by_60_db_in_rt60(rt60: float) -> None:
    energy = sum(
        np.square(made_response(rt60, RATE, rng(seed)).astype(np.float64)) for seed in range(20)
    )
    energy[: RATE // 100] = 0  # the direct sound
    left = 10 * np.log10(np.cumsum(energy[::-1])[::-1] / energy.sum())
    first, last = int(np.argmax(left < -5)), int(np.argmax(left < -25))
    assert 3 * (last - first) / RATE == pytest.approx(rt60, rel=0.1)


def test_a_room_keeps_times_and_level() -> None:
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.5
    change = Room(RoomRecipe(), RATE)
    for seed in range(20):
        heard = change(click, rng(seed))
        assert np.abs(heard).argmax() == 5000
        assert np.abs(heard[:5000]).max() < 1e-6  # nothing is heard before it is said
        assert decibels(heard) == pytest.approx(decibels(click), abs=0.01)
        assert np.count_nonzero(np.abs(heard) > 1e-4) > 100


def test_a_recorded_room_is_taken_from_its_peak(tmp_path: Path) -> None:
    response = np.zeros(4000, np.float32)
    response[[700, 1500]] = 0.8, 0.4
    change = Room(RoomRecipe(manifest(tmp_path, response)), RATE)
    clip = hiss(0.5)
    late = np.concatenate([np.zeros(800, np.float32), clip[:-800]])
    expected = clip + 0.5 * late
    expected *= np.linalg.norm(clip) / np.linalg.norm(expected)
    assert np.abs(change(clip, rng()) - expected).max() < 1e-3


def test_only_speed_changes_the_length(everything: AugmentRecipe) -> None:
    still = AugmentRecipe(
        gain=everything.gain,
        noise=everything.noise,
        room=everything.room,
        telephone=everything.telephone,
    )
    for length in (1, 2, 3, 159, 160, 16_001):
        assert len(Waveform(still, RATE)(hiss(2)[:length], rng())) == length


def test_the_same_generator_gives_the_same_sound(everything: AugmentRecipe) -> None:
    change, clip = Waveform(everything, RATE), hiss(1.3)
    before = clip.copy()
    first = change(clip, rng(5))
    sent: Waveform = pickle.loads(pickle.dumps(change))
    change(clip, rng(6))  # what was read in between does not matter
    assert np.array_equal(change(clip, rng(5)), first) and np.array_equal(sent(clip, rng(5)), first)
    assert not np.array_equal(change(clip, rng(6))[:1000], first[:1000])
    assert np.array_equal(clip, before)


def test_sounds_that_were_read_are_not_sent_to_workers(everything: AugmentRecipe) -> None:
    change = Waveform(everything, RATE)
    size = len(pickle.dumps(change))
    change(hiss(1), rng())
    assert len(pickle.dumps(change)) < size + 1000


@pytest.mark.parametrize("length", [0, 1, 2, 100, RATE])
def test_silence_and_tiny_clips_stay_finite(everything: AugmentRecipe, length: int) -> None:
    change = Waveform(everything, RATE)
    for clip in (np.zeros(length, np.float32), hiss(1)[:length]):
        for seed in range(5):
            heard = change(clip, rng(seed))
            assert np.isfinite(heard).all() and heard.dtype == np.float32
            assert len(heard) >= min(length, 1)


def test_silence_gets_no_noise(tmp_path: Path) -> None:
    silence = np.zeros(RATE, np.float32)
    change = Noise(NoiseRecipe(manifest(tmp_path, hiss(1))), RATE)
    assert not change(silence, rng()).any()
    quiet = Noise(NoiseRecipe(manifest(tmp_path, silence)), RATE)
    assert np.array_equal(quiet(tone(440), rng()), tone(440))


@pytest.mark.parametrize("left", [1e-45, 1e-39, 1e-6])
def test_what_a_decoder_leaves_of_silence_is_no_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    """Made as loud as speech it would be rubble, or infinite where it is smaller than 1e-38."""
    change = Noise(NoiseRecipe(manifest(tmp_path, hiss(1))), RATE)
    monkeypatch.setattr(Sounds, "draw", lambda self, rng: np.full(RATE, left, np.float32))
    assert np.array_equal(change(tone(440), rng()), tone(440))


def test_each_happens_as_often_as_its_probability() -> None:
    change, clip = Waveform(AugmentRecipe(gain=GainRecipe(prob=0.3)), RATE), tone(440, 0.01)
    generator = rng()
    changed = sum(change(clip, generator) is not clip for _ in range(1000))
    assert 250 < changed < 350
    assert Waveform(AugmentRecipe(), RATE)(clip, generator) is clip


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (AugmentRecipe(speed=SpeedRecipe(prob=1.5)), r"augment.speed.prob must be 0 to 1, got 1.5"),
        (AugmentRecipe(speed=SpeedRecipe(factors=(1.1, 0.9))), r"must be \[low, high\]"),
        (AugmentRecipe(speed=SpeedRecipe(factors=(0.01, 0.9))), "must be 0.5 to 2, got 0.01"),
        (AugmentRecipe(gain=GainRecipe(db=(math.nan, 0))), "augment.gain.db must be"),
        (AugmentRecipe(room=RoomRecipe(rt60=(0, 0.5))), "rt60 must be more than 0"),
    ],
)
def test_refuses_what_makes_no_sense(recipe: AugmentRecipe, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Waveform(recipe, RATE)


def test_a_missing_manifest_is_found_before_training(tmp_path: Path) -> None:
    recipe = AugmentRecipe(noise=NoiseRecipe(str(tmp_path / "no.jsonl")))
    with pytest.raises(ManifestError, match=r"augment.noise.manifest: .*no.jsonl: no such"):
        Waveform(recipe, RATE)


def test_a_missing_or_absent_noise_is_named(tmp_path: Path) -> None:
    path = Path(manifest(tmp_path, hiss(1)))
    (tmp_path / "0.wav").unlink()
    with pytest.raises(AudioError, match=r"augment.noise.manifest: .*0.wav: no such file"):
        Noise(NoiseRecipe(str(path)), RATE)(tone(440), rng())
    path.write_text("\n")
    with pytest.raises(ManifestError, match="has no rows"):
        Noise(NoiseRecipe(str(path)), RATE)(tone(440), rng())
