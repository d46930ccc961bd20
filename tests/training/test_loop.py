"""The loop learns: every head, every optimiser, from nothing and from a checkpoint, and it ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

import auricle
from auricle.training.loop import train
from auricle.training.progress import Silent
from tests.training.tiny import tiny


class Until(Silent):
    """Stops the training as soon as the WER is 0."""

    def validated(self, step: int, wer: float, loss: float, best: bool) -> None:
        if wer == 0.0:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("heads", ["[ctc]", "[rnnt]", "[tdt]", "[ctc, rnnt]", "[ctc, tdt]"])
def test_each_head_learns_eight_clips_by_heart(tmp_path: Path, heads: str) -> None:
    result = train(tiny(tmp_path, heads=heads), tmp_path / "run", progress=Until())
    assert result.wer == 0.0
    assert result.step < 200  # about 40 by CTC and TDT, 100 by RNNT
    said = auricle.load(str(tmp_path / "run")).transcribe(str(tmp_path / "data" / "rows.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "data" / "rows.jsonl").open()]
    assert [t.text for t in said] == [row["text"] for row in rows]
