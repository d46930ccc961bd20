"""Small things for examples of readers and writers: a made-up sound, items that have one."""

from __future__ import annotations

import io
import math
import struct
import wave
from pathlib import Path

from auricle.curation.items import ID, Item

SECONDS = 0.25
_RATE = 16_000


def tone(hertz: float = 440.0) -> bytes:
    """A quarter of a second of a tone, as a WAV file."""
    steps = (math.sin(2 * math.pi * hertz * i / _RATE) for i in range(int(SECONDS * _RATE)))
    samples = [round(9000 * step) for step in steps]
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return held.getvalue()


def items_with_sound(folder: Path) -> list[Item]:
    """A whole file, one that the job in `folder` made, and a stretch: in two parts of a split."""
    file, own = folder / "speech" / "a.wav", folder / "audio" / "b.wav"
    for path, hertz in ((file, 440.0), (own, 660.0)):
        path.parent.mkdir()
        path.write_bytes(tone(hertz))
    whole: Item = {"audio_filepath": str(file), "duration": SECONDS}
    rows: list[Item] = [
        {**whole, "text": "yes", "speaker": "anna", "lang": "en", "split": "train"},
        {**whole, "audio_filepath": "audio/b.wav", "text": "schön", "split": "train"},
        {**whole, "offset": 0.1, "duration": 0.1, "text": "no", "speaker": "ben", "split": "dev"},
    ]
    return [{**row, ID: f"example{number}"} for number, row in enumerate(rows, 1)]
