"""What tests of steps share: a step at work on items, and its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auricle import audio
from auricle.curation.items import Filtered, Item, Outcome, Quarantined
from auricle.curation.step import Place, Step


def work(step: Step, items: Sequence[Item], folder: Path) -> list[Outcome]:
    """One batch."""
    return list(step.open(Place(folder))(items))


def check_examples(step: Step, folder: Path) -> int:
    """Whether each example of a step gives what it says; how many there were."""
    run = step.open(Place(folder))
    for number, example in enumerate(step.examples):
        item: Item = {"item_id": f"{number:032d}", **example.item}
        if example.sound is not None:
            path = folder / f"{number}.wav"
            with path.open("wb") as file:
                audio.write(file, [example.sound()], example.sample_rate, "wav")
            item["audio_filepath"] = str(path)
        found = list(run([item]))
        assert len(found) == len(example.gives)
        for outcome, expected in zip(found, example.gives, strict=True):
            _check(outcome, expected)
    return len(step.examples)


def _check(outcome: Outcome, expected: Mapping[str, Any] | str) -> None:
    if isinstance(expected, str):
        assert isinstance(outcome, Filtered | Quarantined), outcome
        assert outcome.reason == expected
        return
    assert isinstance(outcome, dict), outcome
    for key, value in expected.items():
        assert key in outcome
        assert value is ... or outcome[key] == value, key
