"""A model that was trained here transcribes the same in NeMo.

Needs nemo-toolkit and accelerate; `make parity` runs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit")
pytest.importorskip("accelerate", reason="needs accelerate: pip install 'auricle[train]'")

from nemo.collections.asr.models import ASRModel
from nemo.utils import logging as nemo_logging

import auricle
from auricle import checkpoints
from auricle.training import plots
from auricle.training.loop import train
from tests.training.test_loop import Until
from tests.training.tiny import tiny

pytestmark = pytest.mark.parity


def texts(model: Any, sounds: list[str]) -> list[str]:
    """What NeMo hears, one clip at a time."""
    return [h.text for h in model.transcribe(sounds, batch_size=1, verbose=False)]


@pytest.mark.parametrize(
    ("heads", "changes"),
    [
        ("[ctc]", ["model.encoder.conv_norm_type=batch_norm"]),
        ("[tdt]", ["tokenizer={kind: bpe, size: 20}"]),
        ("[ctc, rnnt]", ["train.ema=0.9"]),
    ],
)
def test_nemo_hears_what_was_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: str, changes: list[str]
) -> None:
    nemo_logging.setLevel(nemo_logging.ERROR)
    monkeypatch.setattr(plots, "draw", lambda *paths: [])
    result = train(tiny(tmp_path, *changes, heads=heads), tmp_path / "run", progress=Until())
    assert result.wer == 0.0
    checkpoints.save(checkpoints.load(tmp_path / "run"), tmp_path / "trained.nemo")
    rows = [json.loads(line) for line in (tmp_path / "data" / "rows.jsonl").open()]
    sounds = [str(tmp_path / "data" / row["audio_filepath"]) for row in rows]
    theirs = ASRModel.restore_from(str(tmp_path / "trained.nemo"), map_location="cpu").eval()
    ours = auricle.load(str(tmp_path / "run"))
    said = [ours.transcribe(sound).text for sound in sounds]
    assert said == [row["text"] for row in rows]
    assert texts(theirs, sounds) == said
    if heads == "[ctc, rnnt]":
        theirs.change_decoding_strategy(decoder_type="ctc", verbose=False)
        by_ctc = auricle.load(str(tmp_path / "run"), head="ctc")
        assert texts(theirs, sounds) == [by_ctc.transcribe(sound).text for sound in sounds]
