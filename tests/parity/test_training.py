"""A model that was trained here transcribes the same in NeMo.

Needs nemo-toolkit and accelerate; `make parity` runs it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit")
pytest.importorskip("accelerate", reason="needs accelerate: pip install 'auricle[train]'")

import torch
from nemo.collections.asr.models import ASRModel
from nemo.utils import logging as nemo_logging

import auricle
from auricle import checkpoints
from auricle.models.conformer import ConformerConfig
from auricle.training import plots
from auricle.training.loop import train
from tests.checkpoints.goldens import GOLDEN
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


@pytest.mark.parametrize("name", ["citrinet", "parakeet_tdt", "quartznet_char"])
def test_a_step_leaves_the_statistics_of_batch_norms_that_nemo_has(name: str) -> None:
    """Both count the padding of shorter rows and the column that is always masked."""
    nemo_logging.setLevel(nemo_logging.ERROR)
    path = GOLDEN / "nemo" / f"{name}.nemo"
    checkpoint = checkpoints.load(path)
    encoder: Any = checkpoint.config.encoder
    if isinstance(encoder, ConformerConfig):
        none = dict.fromkeys(("dropout", "dropout_pre_encoder", "dropout_emb", "dropout_att"), 0.0)
        encoder = dataclasses.replace(encoder, **none)
    config = dataclasses.replace(checkpoint.config, encoder=encoder)
    ours = checkpoints.build(dataclasses.replace(checkpoint, config=config)).train()
    theirs = ASRModel.restore_from(str(path), map_location="cpu").train()
    for module in (*ours.modules(), *theirs.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_rate"):
            module.dropout_rate = 0.0
    theirs.preprocessor.featurizer.dither = 0.0
    samples = 0.1 * torch.randn(2, 40123, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40123, 23456])
    with torch.no_grad():
        features, frames = theirs.preprocessor(input_signal=samples, length=lengths)
        theirs.encoder(audio_signal=features, length=frames)
        ours.encode_features(features, frames)
    statistics = {k: v for k, v in theirs.encoder.state_dict().items() if "running" in k}
    found = ours.encoder.state_dict()
    assert statistics
    for key, value in statistics.items():
        assert (found[key] - value).abs().max() < 1e-5 * value.abs().max()
