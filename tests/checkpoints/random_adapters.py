"""Adapters of random numbers, as training would leave them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from auricle.checkpoints import Checkpoint
from auricle.checkpoints.adapters import Adapter, linear_layers
from auricle.models.adapted import LoraTensors
from auricle.models.asr import ASR


def random_adapter(
    checkpoint: Checkpoint,
    names: Iterable[str] | None = None,
    *,
    name: str = "random",
    rank: int = 4,
    dora: bool = False,
    seed: int = 0,
) -> Adapter:
    """A change about as large as the weights, of all linear layers or of those named."""
    generator = torch.Generator().manual_seed(seed)
    layers = linear_layers(checkpoint.config)
    tensors = {}
    for layer in layers if names is None else names:
        rows, columns = layers[layer]
        weight = checkpoint.tensors[f"{layer}.weight"].float()
        a = torch.randn(rank, columns, generator=generator)
        b = torch.randn(rows, rank, generator=generator) * weight.std() / (2 * rank**0.5)
        lengths = weight.norm(dim=1) * (0.5 + torch.rand(rows, generator=generator))
        tensors[layer] = LoraTensors(a, b, lengths if dora else None)
    return Adapter(name, rank, 2.0 * rank, dora, tensors, checkpoint.name)


@torch.inference_mode()
def outputs(model: ASR) -> list[Tensor]:
    """Encodings of two clips of noise, and the scores of every head."""
    samples = 0.1 * torch.randn(2, 40000, generator=torch.Generator().manual_seed(3))
    prompt = None if model.config.prompt is None else torch.tensor([1, 2])
    encodings, steps = model.encode(samples, torch.tensor([40000, 23456]), prompt=prompt)
    found = [encodings[0], encodings[1, : int(steps[1])]]
    if model.ctc is not None:
        found += [model.ctc(x) for x in found[:2]]
    if model.predictor is not None and model.joint is not None:
        after, _ = model.predictor(torch.tensor([[model.blank_id, 1, 2]]))
        f = model.joint.project_encodings(found[0])[:, None]
        found.append(model.joint(f, model.joint.project_predictions(after)))
    return found


def error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, relative to the largest value."""
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True)
    )
