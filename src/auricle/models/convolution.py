"""Convolutions over time that take and give [B, T, C], as the layers around them do.

Letters in shapes: B batch, T frames, C channels, K kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TimeConv(nn.Conv1d):
    """`nn.Conv1d`, with its weights [C_out, C_in / groups, K], but over [B, T, C].

    A kernel of one frame is a matrix product, which may be given another form, `product`, that
    makes the weights needless. Any other goes through a two-dimensional convolution
    whose channels lie last, since that needs no transposed copies; on the CPU it takes a fifth of
    the time.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: int,
        pads: tuple[int, int] = (0, 0),
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            *channels, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
        self.pads = pads
        self.product: nn.Module | None = None

    @property
    def is_product(self) -> bool:
        """Whether one matrix product does the work."""
        return self.kernel_size[0] == 1 and self.groups == 1 and self.pads == (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T', C_out]."""
        if not self.is_product:
            return self.convolve(x, self.weight)
        x = x[:, :: self.stride[0]] if self.stride[0] > 1 else x
        if self.product is None:
            return F.linear(x, self.weight.squeeze(-1), self.bias)
        out: Tensor = self.product(x)
        return out

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution of `x` [B, T, C] with `weight` [C_out, C / groups, K]."""
        left, right = self.pads
        if left != right:
            x = F.pad(x, (0, 0, left, right))
            left = 0
        out = F.conv2d(
            x.transpose(1, 2).unsqueeze(2),  # [B, C, 1, T], channels last in memory
            weight.unsqueeze(2),
            self.bias,
            (1, self.stride[0]),
            (0, left),
            (1, self.dilation[0]),
            x.shape[2] // weight.shape[1],
        )
        return out.squeeze(2).transpose(1, 2)

    def slide(self, x: Tensor) -> Tensor:
        """The depthwise convolution of [B, T + K - 1, C] without padding: [B, T, C].

        For the few frames of a stream's chunk a sum of products costs less than the preparation
        of a convolution.
        """
        frames = x.unfold(1, self.kernel_size[0], 1)  # [B, T, C, K]
        out = (frames * self.weight.squeeze(1)).sum(-1)
        return out if self.bias is None else out + self.bias

    def out_length(self, length: Tensor) -> Tensor:
        """Frames that come out of `length` frames."""
        span = self.dilation[0] * (self.kernel_size[0] - 1)
        free = length + sum(self.pads) - span - 1
        return torch.div(free, self.stride[0], rounding_mode="trunc") + 1


def hide(x: Tensor, hidden: Tensor | None) -> Tensor:
    """`x` [B, T, C] with zeros where `hidden` [B, T, 1]; None hides nothing."""
    return x if hidden is None else x.masked_fill(hidden, 0.0)


def beyond(lengths: Tensor, frames: int) -> Tensor:
    """True in [B, T, 1] at the frames that a row of this length does not have."""
    return (torch.arange(frames, device=lengths.device) >= lengths[:, None]).unsqueeze(-1)


def take(memory: Tensor, rows: Tensor | None) -> Tensor:
    """The `rows` [B] of `memory` [S, ...]; None is all of them."""
    return memory if rows is None else memory.index_select(0, rows)


def put(memory: Tensor, rows: Tensor | None, values: Tensor) -> None:
    """Write `values` [B, ...] on the `rows` [B] of `memory` [S, ...]."""
    if rows is None:
        memory.copy_(values)
    else:
        memory.index_copy_(0, rows, values)
