"""The loop: it learns, it goes on where it was killed, and it stops when it should."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import torch

import auricle
from auricle.training.loop import train
from auricle.training.progress import Silent
from auricle.training.reading import load_recipe
from auricle.training.recipe import Recipe
from tests.training.tones import corpus

TINY = """
name: tiny
tokenizer: {kind: char, size: 32}
model:
  heads: HEADS
  features: {n_mels: 40}
  encoder:
    n_layers: 2
    d_model: 64
    n_heads: 2
    subsampling_factor: 4
    subsampling_conv_channels: 16
    conv_norm_type: layer_norm
    dropout: 0.0
    dropout_pre_encoder: 0.0
    dropout_att: 0.0
MOREdata:
  train: [{manifest: MANIFEST}]
  validation: [{manifest: MANIFEST}]
  batch_seconds: 20
  workers: 0
augment: {spec: null}
loss: {omega: 0.0, sigma: 0.0}
optimizer: {lr: 3.0e-3}
schedule: {name: constant, warmup: 20}
train: {steps: 400, validate_every: 50, save_every: 50, patience: null}
log: {trackers: [], every: 1}
"""

TRANSDUCER = """  predictor: {hidden: 64, dropout: 0.0}
  joint: {hidden: 64, dropout: 0.0}
"""


def recipe(tmp_path: Path, *overrides: str, heads: str = "[ctc]", count: int = 8) -> Recipe:
    manifest = tmp_path / "data" / "rows.jsonl"
    if not manifest.exists():
        corpus(manifest.parent, count)
    path = tmp_path / "tiny.yaml"
    text = TINY.replace("MANIFEST", str(manifest)).replace("HEADS", heads)
    path.write_text(text.replace("MORE", "" if heads == "[ctc]" else TRANSDUCER))
    return load_recipe(path, overrides)


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "checkpoints" / f"step-{step:08}" / "weights.safetensors")


class Until(Silent):
    """Stops the training as soon as the WER is 0."""

    def validated(self, step: int, wer: float, loss: float, best: bool) -> None:
        if wer == 0.0:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("heads", ["[ctc]", "[rnnt]", "[tdt]", "[ctc, rnnt]", "[ctc, tdt]"])
def test_each_head_learns_eight_clips_by_heart(tmp_path: Path, heads: str) -> None:
    began = time.process_time()
    result = train(recipe(tmp_path, heads=heads), tmp_path / "run", progress=Until())
    assert result.wer == 0.0
    assert time.process_time() - began < 60
    said = auricle.load(str(tmp_path / "run")).transcribe(str(tmp_path / "data" / "rows.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "data" / "rows.jsonl").open()]
    assert [t.text for t in said] == [row["text"] for row in rows]
