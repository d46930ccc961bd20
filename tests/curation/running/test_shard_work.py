"""What the driver does with a shard: it looks into rows only where it must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle.curation.plan import Labelled, Stage
from auricle.curation.running.ledger import LEDGER, Ledger
from auricle.curation.running.shard_work import ShardWork, groups_of
from auricle.curation.running.store import Store
from auricle.curation.step import Batch, Step
from auricle.curation.steps.normalise import Normalise
from auricle.curation.steps.transcribe import Transcribe


@pytest.mark.parametrize("step", [Normalise(), Transcribe("tiny")])
def test_no_row_is_parsed_before_a_worker_dies(tmp_path: Path, step: Step) -> None:
    lines = ["no JSON, which would be seen"] * 99
    lines.append(json.dumps({"item_id": "the last", "audio_filepath": "a.wav"}))
    stage = Stage("s", "work", (Labelled("1-step", step),), (0,), labels=("1-step",))
    groups = groups_of(stage, lines, Batch(items=64))
    assert sorted(i for group in groups for i in group) == list(range(100))
    ledger = Ledger(tmp_path)
    work = ShardWork(stage, 1, "key", lines, groups, Store(tmp_path).journal("s", "key"), ledger)
    given = [work.given(*todo) for todo in work.start()]
    assert sum(map(len, given)) == 100
    batch = len(groups) - 1
    work.trials[batch].died((len(groups[batch]) - 1,), "signal 9", 0)
    (noted,) = (tmp_path / LEDGER).read_text().splitlines()
    assert json.loads(noted)["item_id"] == "the last"
