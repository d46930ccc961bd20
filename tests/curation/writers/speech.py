"""A small job's items, with sound of every sort: files, stretches, a tar's members, own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from auricle.curation.items import Item, digest
from tests.training.speech import clip, tone, wav
from tests.training.test_tar import write_tar


def items(folder: Path) -> tuple[list[Item], Path]:
    """Five items, and the folder of the job that they belong to."""
    job = folder / "job"
    whole = clip(folder, "data/whole.wav", 1.0, 300)
    long = clip(folder, "data/long.wav", 3.0, 400)
    clip(job, "audio/aa/own.wav", 0.5, 500)
    stereo = folder / "data/stereo.wav"
    stereo.write_bytes(wav(np.stack([tone(0.75, 300), tone(0.75, 700)], axis=1)))
    content = wav(tone(0.8, 600))
    tar = write_tar(folder / "data/0.tar", {"member.wav": content})
    rows: list[dict[str, Any]] = [
        {"audio_filepath": str(whole), "duration": 1.0, "speaker": "x", "split": "train"},
        {"audio_filepath": str(long), "offset": 1.25, "duration": 0.5, "split": "train"},
        {
            "audio_filepath": "member.wav",
            "tar": str(tar),
            "tar_offset": 512,
            "tar_size": len(content),
            "split": "dev",
            "score": 1,
        },
        {"audio_filepath": "audio/aa/own.wav", "duration": 0.5, "split": "train", "score": 0.5},
        {
            "audio_filepath": str(stereo),
            "duration": 0.75,
            "split": "dev",
            "words": [{"word": "say", "start": 0.0}],
            "lang": "de",
        },
    ]
    return [
        {**row, "text": f"say {i}", "item_id": digest(i), "n": i} for i, row in enumerate(rows)
    ], job


EXPECTED = (
    tone(1.0, 300),
    tone(3.0, 400)[20_000:28_000],
    tone(0.8, 600),
    tone(0.5, 500),
    np.stack([tone(0.75, 300), tone(0.75, 700)], axis=1).mean(axis=1),
)
"""Their sound, at 16 kHz."""


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Failing:
    """Items that give out in the middle of the pass of that number."""

    def __init__(self, items: list[Item], at_pass: int) -> None:
        self._items, self._left = items, at_pass

    def __iter__(self) -> Iterator[Item]:
        self._left -= 1
        yield from self._items[:3]
        if self._left == 0:
            raise OSError(28, "No space left on device")
        yield from self._items[3:]
