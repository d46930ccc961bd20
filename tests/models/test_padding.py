"""A clip's encodings do not depend on what is beside it in the batch, whatever the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auricle import checkpoints
from auricle.models.asr import optimise

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = sorted((ROOT / "tests/golden/nemo").glob("*.nemo"))
LENGTHS = (16000, 24650, 20321)


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_batch_equals_single_clips(path: Path) -> None:
    model = optimise(checkpoints.build(checkpoints.load(path)))
    generator = torch.Generator().manual_seed(0)
    samples = 0.1 * torch.randn(len(LENGTHS), max(LENGTHS), generator=generator)
    lengths = torch.tensor(LENGTHS)
    prompt = None if model.config.prompt is None else torch.tensor([0, 1, 2])
    together, steps = model.encode(samples, lengths, prompt=prompt)
    for i, length in enumerate(LENGTHS):
        own = None if prompt is None else prompt[i : i + 1]
        alone, step = model.encode(samples[i : i + 1, :length], lengths[i : i + 1], prompt=own)
        assert step[0] == steps[i]
        gap = (together[i, : step[0]] - alone[0, : step[0]]).abs().max()
        assert gap < 1e-4 * alone.abs().max()
