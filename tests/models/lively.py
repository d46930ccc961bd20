"""Networks whose every weight matters, and batches with rows of different lengths."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def lively(module: Network, seed: int = 0) -> Network:
    """`module` in evaluation, with random biases, gains and statistics too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if name.endswith(("window", "filterbank")) or not value.is_floating_point():
                continue
            if "running_var" in name or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5, generator=generator)
            else:
                fan = value[0].numel() if value.ndim > 1 else 10
                value.normal_(std=fan**-0.5, generator=generator)
    return module.eval()


def ragged(lengths: list[int], mels: int, extra: int = 1) -> tuple[Tensor, Tensor]:
    """Features [B, M, T], zero beyond each row's length, with `extra` frames that no row has."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(lengths), mels, max(lengths) + extra, generator=generator)
    for row, length in zip(x, lengths, strict=True):
        row[:, length:] = 0.0
    return x, torch.tensor(lengths)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest one, relative to the largest value."""
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max())
