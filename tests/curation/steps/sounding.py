"""Run steps that hear: their items' sound is written to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from auricle import audio
from auricle.curation.items import ID, PARENT, Filtered, Outcome, Quarantined
from auricle.curation.step import Example, Place, Step


def sound_file(path: Path, samples: np.ndarray, rate: int = 16_000) -> str:
    """A file of samples [S]; gives its name."""
    with path.open("wb") as file:
        audio.write(file, [samples.astype(np.float32)], rate, "wav")
    return str(path)


def made(step: Step, folder: Path, *items: Mapping[str, Any]) -> list[Outcome]:
    """What a step makes of items as one batch, which it must leave as they are."""
    given = [{ID: f"{number:02d}{'0' * 6}", **item} for number, item in enumerate(items)]
    before = [dict(item) for item in given]
    found = list(step.open(Place(folder))(given))
    assert given == before
    return found


def kept(step: Step, folder: Path, item: Mapping[str, Any]) -> dict[str, Any]:
    """The one item that comes out."""
    (one,) = made(step, folder, item)
    assert isinstance(one, dict), one
    return one


def reason(step: Step, folder: Path, item: Mapping[str, Any]) -> str:
    """Why the one item was held back."""
    (one,) = made(step, folder, item)
    assert isinstance(one, Filtered | Quarantined), one
    return one.reason


def examples_hold(step: Step, folder: Path) -> int:
    """Check a step's own examples and its outputs; gives how many examples there are."""
    for number, example in enumerate(step.examples):
        found = made(step, folder, _item(example, folder / f"example-{number}.wav"))
        assert len(found) == len(example.gives), found
        for one, given in zip(found, example.gives, strict=True):
            if isinstance(given, str):
                assert isinstance(one, Filtered | Quarantined) and one.reason == given, one
                continue
            assert isinstance(one, dict), one
            wrong = {k: one.get(k) for k, v in given.items() if v is not ... and one.get(k) != v}
            assert not wrong and set(given) <= set(one)
            changed = {key for key in one if one[key] != example.item.get(key)}
            assert changed <= {*step.outputs, *example.item, "audio_filepath", ID, PARENT}
    return len(step.examples)


def _item(example: Example, path: Path) -> dict[str, Any]:
    if example.sound is None:
        return dict(example.item)
    return {
        **example.item,
        "audio_filepath": sound_file(path, example.sound(), example.sample_rate),
    }
