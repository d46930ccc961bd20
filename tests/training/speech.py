"""Small speech to learn from: tones in WAV files, each of its own pitch and length."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RATE = 16_000


def tone(seconds: float, pitch: float = 440.0) -> npt.NDArray[np.int16]:
    """A sine [S] whose first sample is not 0."""
    time = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(8000 * np.cos(2 * np.pi * pitch * time), np.int16)


def wav(samples: npt.NDArray[np.int16]) -> bytes:
    """The content of a WAV file; [S] or [S, C]."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return content.getvalue()


def clip(folder: Path, name: str, seconds: float, pitch: float = 440.0) -> Path:
    """A WAV file in a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(tone(seconds, pitch)))
    return path


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A manifest, as it stands."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def manifest(folder: Path, count: int = 6, name: str = "train.jsonl") -> Path:
    """Clips of 0.3, 0.4 ... seconds by two speakers, in a folder of their own, and their rows."""
    rows = []
    for i in range(count):
        seconds = round(0.3 + 0.1 * i, 3)
        clip(folder, f"clips/{i}.wav", seconds, 200 + 50 * i)
        rows.append(
            {
                "audio_filepath": f"clips/{i}.wav",
                "duration": seconds,
                "text": "abc"[: i % 3 + 1],
                "speaker": "even" if i % 2 == 0 else "odd",
            }
        )
    return write_rows(folder / name, rows)
