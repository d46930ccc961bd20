"""Sinusoidal encodings of positions, and of the distances between them.

Letters in shapes: N positions or distances, T steps, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Distances up to which a table is made ahead, and beyond which none is kept.
AHEAD, KEPT = 512, 8192


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines in turn, in float32: [N] to [N, D]."""
    rates = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * torch.exp(rates * -(math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]  # [N, D]


class Distances:
    """A table of encoded distances, grown as longer recordings come.

    A key `n` steps before its query stands at position +n, one after it at -n. `window` is the
    (left, right) window of NeMo's local attention, which misplaces positions where the two
    differ; None where attention is not local.
    """

    def __init__(self, width: int, window: tuple[int, int] | None = None) -> None:
        self.width = width
        self.window = window
        self.whole = False
        self._table: Tensor | None = None

    def rows(self, low: int, high: int, like: Tensor) -> tuple[Tensor, int]:
        """The encodings of keys `low` to `high` steps after their query, [N, D].

        Also gives the row that stands for distance zero. With `whole`, short tables hold more
        rows than were asked for, and are the same object every time. Device and type are those
        of `like`.
        """
        reach = max(-low, high)
        table = self._table
        if table is None or (table.device, table.dtype) != (like.device, like.dtype):
            table = self._grow(AHEAD, like)
        if reach > len(table) // 2:
            table = self._grow(math.ceil(reach / AHEAD) * AHEAD, like)
        zero = len(table) // 2
        if self.whole and zero == AHEAD:
            return table, zero
        return table[zero + low : zero + high + 1], -low

    @torch.inference_mode(False)
    def _grow(self, reach: int, like: Tensor) -> Tensor:
        after = torch.arange(-reach, reach + 1, device=like.device)  # [N]
        table = self._encode(after).to(like.dtype)
        if reach <= KEPT:
            self._table = table
        return table

    def _encode(self, after: Tensor) -> Tensor:
        if self.window is None:
            return sinusoids(-after, self.width)
        # NeMo lays the window out in 2 * wide + 1 columns, then puts the encodings of distances
        # left ... 0 ... -right into the first `left` and the last `right + 1` of them. Unless
        # left and right are equal, these are not the columns of those distances.
        left, right = self.window
        wide = max(left, right)
        column = after + wide
        first, last = column < left, column >= 2 * wide - right
        position = torch.where(first, left - column, 2 * wide - right - column)
        encoded = sinusoids(position, self.width)
        return encoded.masked_fill(~(first | last)[:, None], 0.0)
