from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle.audio import read
from auricle.curation import Pipeline
from auricle.curation.engines import Done, Job, Task
from auricle.curation.items import Filtered, Item, Outcome, child
from auricle.curation.plan import Labelled, planned
from auricle.curation.readers import Manifest
from auricle.curation.running.examples import try_examples
from auricle.curation.running.worker import Bench
from auricle.curation.step import Example, Place, Step, WholeExample, WholeStep, Work
from auricle.curation.steps.convert import Convert
from auricle.curation.steps.cut import Cut
from auricle.curation.steps.segment import Segment
from auricle.errors import ConfigError


@dataclass(frozen=True)
class Halves(Step):
    """Cuts items with a sound in two, filters others."""

    gives: Any

    @property
    def examples(self) -> tuple[Example, ...]:
        return (
            Example({"a": 1}, self.gives, sound=lambda: np.full(800, 0.5), sample_rate=8000),
            Example({}, ["silent"]),
        )

    def open(self, place: Place) -> Work:
        return self._work

    def _work(self, items: Sequence[Item]) -> Iterable[Outcome]:
        for item in items:
            if "audio_filepath" not in item:
                yield Filtered(item, "silent")
                continue
            samples = read(item["audio_filepath"])
            yield child(item, 0, level=[round(float(samples.mean()), 1)])
            yield child(item, 1, size=len(samples))


@dataclass(frozen=True)
class All(WholeStep):
    gives: Any

    @property
    def examples(self) -> tuple[WholeExample, ...]:
        return (WholeExample([{"n": 1}, {"n": 2}], self.gives),)

    def decide(self, items: Iterable[Item]) -> Iterable[Outcome]:
        return [{**item, "of": len(list(items))} for item in items]


@pytest.mark.parametrize(
    "step",
    [
        Halves([{"level": [0.5], "a": 1}, {"size": 1600}]),
        Halves([{"level": (0.5,), "parent_id": ...}, {}]),
        All([{"of": 2, "item_id": "0"}, {"of": 2}]),
    ],
)
def test_examples_that_hold(tmp_path: Path, step: Any) -> None:
    try_examples(Labelled("1-x", step), Place(tmp_path))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Halves([{}]), "1-x: example 1 gives 2 outcomes, not 1"),
        (
            Halves([{"level": [0.7]}, {}]),
            '1-x: example 1 gives {"level":[0.5]}, not {"level":[0.7]}',
        ),
        (Halves([{"nothing": ...}, {}]), "not {"),
        (Halves(["silent", {}]), "not 'silent'"),
        (All([{"of": 3}, {}]), '1-x: example 1 gives {"of":2}, not {"of":3}'),
    ],
)
def test_examples_that_do_not(tmp_path: Path, step: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        try_examples(Labelled("1-x", step), Place(tmp_path))
    assert message in str(raised.value)


def test_nothing_that_examples_make_stays_in_a_job(tmp_path: Path) -> None:
    steps = [Convert(), Segment(vad="energy", write=True), Cut()]
    plan = planned(Pipeline("sound", [Manifest("rows.jsonl")], steps))
    bench = Bench(Job(plan, tmp_path), "cpu")
    for number, stage in enumerate(plan.stages):
        if stage.steps:
            done = bench.do(Task(number, "check", number, {"budget": True}, ("cpu",)))
            assert isinstance(done, Done), done
    assert list(tmp_path.iterdir()) == []
