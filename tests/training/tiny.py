"""The smallest recipe that learns something, and looks into what its training has left."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from auricle import checkpoints
from auricle.training.architecture import model_config
from auricle.training.progress import Silent
from auricle.training.reading import load_recipe
from auricle.training.recipe import ModelRecipe, Recipe
from auricle.training.saving import read_state
from auricle.training.sources import open_sources, texts
from auricle.training.starting import fresh
from auricle.training.tokenizing import build
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
train: {steps: 400, validate_every: 20, save_every: 500, patience: null}
log: {trackers: [], every: 1}
"""
TRANSDUCER = """  predictor: {hidden: 64, dropout: 0.0}
  joint: {hidden: 64, dropout: 0.0}
"""
SMALLER = ("model.encoder.n_layers=1", "model.encoder.d_model=32", "data.batch_seconds=4")


def tiny(folder: Path, *overrides: str, heads: str = "[ctc]", count: int = 8) -> Recipe:
    """The recipe, on `count` clips that are made in `folder` if they are not there."""
    manifest = folder / "data" / "rows.jsonl"
    if not manifest.exists():
        corpus(manifest.parent, count)
    path = folder / "tiny.yaml"
    text = TINY.replace("MANIFEST", str(manifest)).replace("HEADS", heads)
    path.write_text(text.replace("MORE", "" if heads == "[ctc]" else TRANSDUCER))
    return load_recipe(path, overrides)


def tuned(folder: Path, *overrides: str, heads: str = "[ctc]", **changes: Any) -> Recipe:
    """The recipe for a model that is there: one of random weights in `folder`, made if need be."""
    recipe = tiny(folder, *overrides, heads=heads)
    model = folder / f"base-{heads}"
    if not model.exists():
        assert recipe.tokenizer is not None
        sources = open_sources(recipe.data.train, recipe.data)
        tokenizer = build(texts(sources), recipe.tokenizer)
        config = model_config(recipe.model, len(tokenizer.pieces))
        checkpoints.save(fresh(config, tokenizer, recipe), model)
    settings = {"init_from": str(model), "model": ModelRecipe(), "tokenizer": None}
    return replace(recipe, **{**settings, **changes})


def state(run: Path, step: int) -> Any:
    """What was saved at a step."""
    return read_state(run / "checkpoints" / f"step-{step:08}")


def saved(run: Path) -> list[int]:
    """The steps whose checkpoints lie there."""
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step-*"))


def metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == kind]


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two nests of tensors and values are not bit-equal."""
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [name]
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            return [f"{name}: {one.keys() ^ other.keys()}"]
        return [d for key in one for d in differing(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differing(a, b, f"{name}.{i}")]
    return [] if one == other else [f"{name}: {one} {other}"]


class Hearing(Silent):
    """Remembers what it was told; sends this process a signal at a step, if asked to."""

    def __init__(self, **at: int) -> None:
        self.signals = {step: getattr(signal, name) for name, step in at.items()}
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.lines: list[str] = []
        self.endings: list[str] = []

    def step(self, step: int, loss: float, **facts: Any) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if step in self.signals:
            signal.raise_signal(self.signals[step])

    def said(self, line: str) -> None:
        self.lines.append(line)

    def finished(self, summary: str) -> None:
        self.endings.append(summary)
