"""Normalisations of [B, T, C], the layout of the layers around them.

Letters in shapes: B batch, T frames, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [B, T, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]; in training, padding counts too, as with NeMo."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class FusedBatchNorm(nn.Module):
    """What is left of a batch normalisation whose statistics were folded into it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        return x * self.weight + self.bias


class GroupNorm(nn.GroupNorm):
    """Group normalisation of [B, T, C] over each row's whole time, its padding included."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        # Not F.group_norm, which refuses a single value.
        x = x.transpose(1, 2).contiguous()
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps).transpose(
            1, 2
        )
