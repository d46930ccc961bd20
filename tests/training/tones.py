"""Speech that any machine can make: every word is a chord, and a text is its words in turn."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 16_000
WORDS = ("do", "re", "mi", "fa", "so", "la")


def utterance(text: str, seed: int = 0, seconds: float = 0.24) -> npt.NDArray[np.int16]:
    """The chords of `text` with short pauses between them, and a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pause = np.zeros(int(0.08 * RATE))
    parts = [pause]
    for word in text.split():
        pitch = 300 * 2 ** (WORDS.index(word) / 3)
        chord = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
        parts += [0.2 * chord * np.hanning(len(time)), pause]
    samples = np.concatenate(parts)
    samples += 0.002 * rng.standard_normal(len(samples))
    return np.asarray(samples * 32767, np.int16)


def write(path: Path, samples: npt.NDArray[np.int16]) -> float:
    """A mono WAV file; its seconds."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return len(samples) / RATE


def corpus(folder: Path, count: int, *, words: tuple[int, int] = (3, 5), seed: int = 0) -> Path:
    """A manifest of `count` utterances in `folder`, with two speakers in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        text = " ".join(rng.choice(WORDS, size=rng.integers(words[0], words[1] + 1)))
        name = f"{number:03}.wav"
        duration = write(folder / name, utterance(text, seed=number))
        row = {"audio_filepath": name, "duration": duration, "text": text}
        rows.append({**row, "speaker": f"s{number % 2}"})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
