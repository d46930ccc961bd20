"""Layers whose weights lie the way oneDNN's kernels read them, for inference on the CPU.

PyTorch hands float32 products to MKL, which leaves half of what many processors can do unused;
oneDNN with weights ordered ahead of time takes less than half of the time for the same numbers.
The operators are those that `torch.compile` puts in when it freezes a model.

Letters in shapes: B batch, T frames, F bins, C channels, K kernel; ... any dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.errors import ConfigError

TYPICAL_ROWS = 188  # guides the layout alone: fifteen seconds of 80 ms steps


def can_pack(weight: Tensor) -> bool:
    """Whether layers with such weights can be packed here."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class PackedLinear(nn.Module):
    """`nn.Linear`, with weight [C_out, C_in] and bias [C_out] or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed: Tensor = _operator("_reorder_linear_weight")(weight.detach(), TYPICAL_ROWS)
        self.offset = None if bias is None else bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """[..., C_in] to [..., C_out]."""
        multiply = _operator("_linear_pointwise")
        out: Tensor = multiply(x, self.packed, self.offset, "none", [], "")
        return out

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        _refuse_to_move(fn, self.packed.dtype)
        return self


class PackedConv2d(nn.Module):
    """`nn.Conv2d`, and the ReLU behind it where there is one; channels lie last in memory."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.settings = (
            list(conv.padding) if isinstance(conv.padding, tuple) else [0, 0],
            list(conv.stride),
            list(conv.dilation),
            conv.groups,
        )
        self.stride = conv.stride
        self.after = "relu" if relu else "none"
        self.packed: Tensor = _operator("_reorder_convolution_weight")(
            conv.weight.detach(), *self.settings
        )
        self.offset = None if conv.bias is None else conv.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, F] to [B, C', T', F']."""
        convolve = _operator("_convolution_pointwise")
        out: Tensor = convolve(x, self.packed, self.offset, *self.settings, self.after, [], "")
        return out

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        _refuse_to_move(fn, self.packed.dtype)
        return self


class PackedCausalConv2d(PackedConv2d):
    """A convolution with zeros of its own around it: `pads` are before and after, bins first."""

    def __init__(self, conv: nn.Conv2d, pads: tuple[int, int, int, int], *, relu: bool) -> None:
        super().__init__(conv, relu=relu)
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, F] to [B, C', T', F']."""
        return super().forward(F.pad(x, self.pads))

    def slide(self, x: Tensor) -> Tensor:
        """`forward` where the frames before and after are there already, and only bins are not."""
        return super().forward(F.pad(x, self.pads[:2]))


def _operator(name: str) -> Any:
    return getattr(torch.ops.mkldnn, name)


def _refuse_to_move(fn: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    moved = fn(torch.empty(0, dtype=dtype))
    if moved.device.type != "cpu" or moved.dtype != dtype:
        raise ConfigError("an optimised model stays where it is: move it first, then optimise it")
