"""What is done to the sound of training speech: speed, rooms, noise, gain and telephones.

Everything random comes from the generator that is handed in. Times move only with the speed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import numpy as np

from auricle import manifests
from auricle.audio import Samples, check_rate, read, resample
from auricle.errors import AudioError, ConfigError, ManifestError
from auricle.training.kept import Kept
from auricle.training.recipe import (
    AugmentRecipe,
    GainRecipe,
    NoiseRecipe,
    RoomRecipe,
    SpeedRecipe,
)
from auricle.training.telephone import Telephone, fast_size

_PIECE_SECONDS = 30.0  # of a long noise that are read at once
_ACTIVE_DB = 30.0  # how far below the loudest frame speech still is speech
_SILENT = 2.0**-15  # one step of 16 bits: what a decoder leaves of silence must not be made loud
_DIRECT_TO_REVERBERANT = (-3.0, 9.0)  # decibels: a microphone one to three metres away
_DIRECT_SECONDS = 0.0025  # before the first reflection


class Change(Protocol):
    """One thing that may be done to a clip, with the probability that it is."""

    prob: float

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S] changed; the input is left alone."""
        ...


class Waveform:
    """Everything that a recipe does to sound, in the order in which the world does it.

    Deterministic in the generator. Can be sent to a worker; the sounds it has read stay behind.
    The level may exceed 1 but for telephones, which clip.

    Raises:
        ConfigError: A probability, range or codec that cannot be.
        ManifestError: No such manifest of noises or rooms.
    """

    def __init__(self, recipe: AugmentRecipe, sample_rate: int) -> None:
        check_rate(sample_rate, "sample_rate")
        for name in ("speed", "room", "noise", "gain", "telephone"):
            if (part := getattr(recipe, name)) is not None and not 0 <= part.prob <= 1:
                raise ConfigError(f"augment.{name}.prob must be 0 to 1, got {part.prob}")
        changes: list[Change] = []
        if recipe.speed is not None:
            changes.append(Speed(recipe.speed))
        if recipe.room is not None:
            changes.append(Room(recipe.room, sample_rate))
        if recipe.noise is not None:
            changes.append(Noise(recipe.noise, sample_rate))
        if recipe.gain is not None:
            changes.append(Gain(recipe.gain))
        if recipe.telephone is not None:
            changes.append(Telephone(recipe.telephone, sample_rate))
        self.changes = tuple(changes)

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S], of another length only where the speed has changed."""
        for change in self.changes:
            if rng.random() < change.prob and len(samples):
                samples = change(samples, rng)
        return samples


class Speed:
    """Faster or slower by a factor in hundredths, so that the filters are short."""

    def __init__(self, recipe: SpeedRecipe) -> None:
        self.prob = recipe.prob
        low, high = _ordered(recipe.factors, "augment.speed.factors")
        if not 0.5 <= low <= high <= 2:
            raise ConfigError(f"augment.speed.factors must be 0.5 to 2, got {low} to {high}")
        self._low, self._high = round(100 * low), round(100 * high)

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S / factor]."""
        factor = int(rng.integers(self._low, self._high + 1))
        faster = resample(samples, 160 * factor, 160 * 100)
        return faster if len(faster) else samples


class Gain:
    """Louder or softer; louder only as far as the peak reaches 1."""

    def __init__(self, recipe: GainRecipe) -> None:
        self.prob, self._db = recipe.prob, _ordered(recipe.db, "augment.gain.db")

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S]."""
        factor = _ratio(rng.uniform(*self._db))
        if factor > 1:
            peak = float(np.abs(samples).max())
            factor = max(1.0, min(factor, 1 / peak)) if peak > 0 else 1.0
        return samples * np.float32(factor)


class Noise:
    """A sound of a manifest under the speech, from a random place, over again where it is short.

    The level is that of the active parts of both. Silence stays silent.
    """

    def __init__(self, recipe: NoiseRecipe, sample_rate: int) -> None:
        self.prob, self._snr = recipe.prob, _ordered(recipe.snr, "augment.noise.snr")
        self._rate = sample_rate
        self._sounds = Sounds(recipe.manifest, sample_rate, "augment.noise.manifest")

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S]."""
        snr, noise = rng.uniform(*self._snr), self._sounds.draw(rng)
        spare = len(noise) - len(samples)
        start = int(rng.integers(spare + 1 if spare > 0 else len(noise)))
        if spare < 0:
            noise = np.tile(noise, 2 + len(samples) // len(noise))
        noise = noise[start : start + len(samples)]
        speech_level, noise_level = (active_level(x, self._rate) for x in (samples, noise))
        if min(speech_level, noise_level) < _SILENT:
            return samples
        return samples + noise * np.float32(_ratio(-snr) * speech_level / noise_level)


class Room:
    """Echoes, with the direct sound where and the level what it was.

    Recorded responses are taken from their peak; a made one is noise that decays by 60 dB in `rt60`
    seconds, behind a direct sound.
    """

    def __init__(self, recipe: RoomRecipe, sample_rate: int) -> None:
        self.prob, self._rate = recipe.prob, sample_rate
        self._rt60 = _ordered(recipe.rt60, "augment.room.rt60")
        if self._rt60[0] <= 0 or self._rt60[1] > 10:
            raise ConfigError(
                "augment.room.rt60 must be more than 0 and at most 10 seconds, "
                f"got {self._rt60[0]} to {self._rt60[1]}"
            )
        self._sounds = (
            Sounds(recipe.manifest, sample_rate, "augment.room.manifest")
            if recipe.manifest is not None
            else None
        )

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S]."""
        if self._sounds is None:
            response = made_response(rng.uniform(*self._rt60), self._rate, rng)
        else:
            response = self._sounds.draw(rng)
        direct = int(np.abs(response).argmax())
        size = fast_size(len(samples) + len(response) - 1)
        spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
        heard = np.fft.irfft(spectrum, size)[direct : direct + len(samples)].astype(np.float32)
        level = _rms(heard)
        if not level > 0:
            return samples
        return heard * np.float32(_rms(samples) / level)


def made_response(rt60: float, sample_rate: int, rng: np.random.Generator) -> Samples:
    """A room's response [S]: the direct sound at sample 0, then decaying noise."""
    count = max(2, round(rt60 * sample_rate))
    time = np.arange(count) / sample_rate
    tail = rng.standard_normal(count) * np.exp(-math.log(1000) * time / rt60)
    tail[: max(1, round(_DIRECT_SECONDS * sample_rate))] = 0
    energy = float(np.linalg.norm(tail))
    if energy > 0:
        tail *= _ratio(-rng.uniform(*_DIRECT_TO_REVERBERANT)) / energy
    tail[0] = 1
    return tail.astype(np.float32)


def active_level(samples: Samples, sample_rate: int) -> float:
    """RMS over the 20 ms frames that are within 30 dB of the loudest: pauses do not count."""
    if not len(samples):
        return 0.0
    starts = np.arange(0, len(samples), max(1, sample_rate // 50))
    energy = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    counts = np.diff(starts, append=len(samples))
    active = energy / counts >= (energy / counts).max() * _ratio(-_ACTIVE_DB) ** 2
    return math.sqrt(float(energy[active].sum() / counts[active].sum()))


class Sounds:
    """The sounds of a manifest, read when they are drawn; the last ones used are kept."""

    def __init__(self, manifest: str, sample_rate: int, key: str) -> None:
        self._manifest, self._rate, self._key = Path(manifest), sample_rate, key
        if not self._manifest.is_file():
            raise ManifestError(f"{key}: {manifest}: no such manifest; check the path")
        self._rows: list[tuple[Path, float, float | None]] = []
        self._kept = Kept()

    def draw(self, rng: np.random.Generator) -> Samples:
        """One of them [S], or a piece of it where it is long.

        Raises:
            AudioError: It cannot be read.
            ManifestError: A row that cannot be read, or no row at all.
        """
        if not self._rows:
            self._rows = [(row.path, row.offset, row.duration) for row in self._read_manifest()]
        number = int(rng.integers(len(self._rows)))
        duration = self._rows[number][2] or _PIECE_SECONDS
        piece = int(rng.integers(max(1, math.ceil(duration / _PIECE_SECONDS))))
        return self._kept.get((number, piece), lambda: self._load(number, piece))

    def _read_manifest(self) -> list[manifests.Row]:
        rows = list(manifests.read(self._manifest))
        if not rows:
            raise ManifestError(f"{self._key}: {self._manifest} has no rows; put a sound in it")
        return rows

    def _load(self, number: int, piece: int) -> Samples:
        path, offset, duration = self._rows[number]
        length = min(_PIECE_SECONDS, duration or _PIECE_SECONDS)
        start = min(piece * _PIECE_SECONDS, (duration or length) - length)
        try:
            return read(path, sample_rate=self._rate, start=offset + start, seconds=length)
        except AudioError as error:
            raise AudioError(f"{self._key}: {error}") from None


def _ordered(span: tuple[float, float], key: str) -> tuple[float, float]:
    low, high = span
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"{key} must be [low, high], got [{low}, {high}]")
    return low, high


def _ratio(db: float) -> float:
    return float(10 ** (db / 20))


def _rms(samples: Samples) -> float:
    return math.sqrt(float(np.square(samples, dtype=np.float64).mean()))
