"""From feature frames to encoder steps: every way of thinning time that NeMo's Conformers have.

Letters in shapes: B batch, T frames then steps, F features, C channels, D the model's width.
Frames beyond a row's length count as zeros before each layer, so that padding changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.models.convolution import TimeConv, beyond, put, take
from auricle.models.packed import PackedCausalConv2d

Length = TypeVar("Length", int, Tensor, npt.NDArray[np.int64])

# Numbers in the widest map that is made at once. On the CPU the allocator asks the system for fresh
# pages every time beyond 32 MiB, which takes longer than the convolution; elsewhere the kernels'
# indices end at 2**31.
PIECE_CPU, PIECE_CUDA = 6 * 2**20, 2**29


@dataclass(frozen=True)
class SubsamplingConfig:
    """`factor` is a power of two for all kinds but the stacking ones."""

    kind: str
    factor: int
    feat_in: int
    d_out: int
    channels: int
    causal: bool = False


class Stacking(nn.Module):
    """Stacks frames: [B, T, F] to [B, T / factor, D]. With `norm`, frames are normalised first."""

    def __init__(self, config: SubsamplingConfig, *, norm: bool) -> None:
        super().__init__()
        self.factor = config.factor
        self.proj_out = nn.Linear(config.factor * config.feat_in, config.d_out)
        self.pre_norm = nn.LayerNorm(config.feat_in) if norm else None

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Thin [B, T, F] and its lengths; T, with its padding, decides how lengths are rounded."""
        missing = -x.shape[1] % self.factor
        x = F.pad(x, (0, 0, 0, missing))
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        x = x.reshape(len(x), -1, self.factor * x.shape[2])  # [B, T', factor * F]
        return self.proj_out(x), (lengths + missing) // self.factor


class ConvSubsampling(nn.Module):
    """Convolutions that each halve time, and frequency too unless they are one-dimensional.

    The layers of `conv` stand where NeMo has them, since their numbers are part of their names.
    """

    def __init__(self, config: SubsamplingConfig) -> None:
        super().__init__()
        self.factor = config.factor
        self.halvings = int(math.log2(config.factor))
        self.flat = config.kind.endswith("conv1d")
        # These two look both ways whatever the configuration says.
        both_ways = config.kind in ("vggnet", "dw_striding_conv1d")
        self.causal = config.causal and not both_ways
        self.conv = nn.Sequential(*_LAYERS[config.kind](config, self.causal))
        self.feat_in, self.channels = config.feat_in, config.channels
        bins = config.feat_in
        for _ in range(self.halvings):
            bins = self.halved(bins)
        # Numbers for each frame, in the widest map.
        self.map_size = config.channels * config.feat_in // 4
        # Steps at a piece's inner edges that its missing neighbours spoil.
        self.halo = 4 if self.flat and self.causal else 2
        self.out = None if self.flat else nn.Linear(config.channels * bins, config.d_out)

    def halved(self, length: Length) -> Length:
        """What one halving leaves of `length` frames or bins."""
        return length // 2 + 1 if self.causal else (length + 1) // 2

    def out_length(self, length: Length) -> Length:
        """Steps that come of `length` frames."""
        for _ in range(self.halvings):
            length = self.halved(length)
        return length

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Thin [B, T, F] to [B, T', D], and its lengths."""
        most = PIECE_CPU if x.device.type == "cpu" else PIECE_CUDA
        whole = x.device.type != "cpu" and x.shape[:2].numel() * self.map_size <= most
        if self.training or whole:
            ragged = bool((lengths < x.shape[1]).any())
            x = self._convolve(x, lengths if ragged else None)  # [B, T', C * F']
        else:
            steps = max(1, most // (self.map_size * self.factor))
            x = self._convolve_in_pieces(x, lengths.tolist(), steps)
        return (x if self.out is None else self.out(x)), self.out_length(lengths)

    def memory(self, streams: int, like: Tensor) -> tuple[Tensor, ...]:
        """What each halving remembers before S streams begin: one frame of zeros, [S, 1, F, C]."""
        halving = [layer for layer in self.conv if _halves(layer)]
        shapes: list[tuple[int, int]] = []
        bins, channels = self.feat_in, 1
        for _ in halving:
            shapes.append((bins, channels))
            bins, channels = self.halved(bins), self.channels
        return tuple(like.new_zeros(streams, 1, bins, channels) for bins, channels in shapes)

    def step(
        self,
        x: Tensor,
        memory: Sequence[Tensor],
        rows: Tensor | None,
        missing: Sequence[Tensor | None],
    ) -> Tensor:
        """`forward` for the next frames [B, T, F] of streams, T a multiple of the factor.

        A step hears the frames up to the last one before it, so that a stream's first frame is
        the last of its first `factor`.

        Args:
            x: [B, T, F].
            memory: What `memory` made, for S streams; it is written on.
            rows: The streams' places in the memory [B]; None for all in order.
            missing: For each halving, where its input [B, T', 1] does not exist; None for nowhere.
        """
        most = (
            max(1, PIECE_CPU // (self.map_size * x.shape[1])) if x.device.type == "cpu" else len(x)
        )
        if len(x) <= most:
            return self._step(x, memory, rows, missing)
        everyone = torch.arange(len(x)) if rows is None else rows
        parts = [slice(i, i + most) for i in range(0, len(x), most)]
        return torch.cat(
            [
                self._step(
                    x[part], memory, everyone[part], [m if m is None else m[part] for m in missing]
                )
                for part in parts
            ]
        )

    def _step(
        self,
        x: Tensor,
        memory: Sequence[Tensor],
        rows: Tensor | None,
        missing: Sequence[Tensor | None],
    ) -> Tensor:
        x = x.unsqueeze(1).contiguous(memory_format=torch.channels_last)  # [B, 1, T, F]
        halving = iter(zip(memory, missing, strict=True))
        for layer in self.conv:
            if not _halves(layer):
                x = layer(x)
                continue
            before, hidden = next(halving)
            x = x if hidden is None else x.masked_fill(hidden.unsqueeze(1), 0.0)
            x = torch.cat([take(before, rows).permute(0, 3, 1, 2), x], dim=2)  # [B, C, 1 + T, F]
            put(before, rows, x[:, :, -1:].permute(0, 2, 3, 1))
            assert isinstance(layer, CausalConv2d | PackedCausalConv2d)
            x = layer.slide(x)
        x = x.transpose(1, 2).flatten(2)  # [B, T', C * F']
        assert self.out is not None
        out: Tensor = self.out(x)
        return out

    def _convolve(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """[B, T, F] to [B, T', C * F']; with `lengths`, what lies beyond them is held at zero."""
        if not self.flat:
            x = x.unsqueeze(1)  # [B, 1, T, F]
            x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.conv:
            x = self._hidden(x, lengths)
            x = layer(x)
            if lengths is not None and _halves(layer):
                lengths = self.halved(lengths)
        x = self._hidden(x, lengths)
        return x if self.flat else x.transpose(1, 2).flatten(2)  # [B, T', C * F']

    def _hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return x
        hidden = beyond(lengths, x.shape[1] if self.flat else x.shape[2])  # [B, T, 1]
        return x.masked_fill(hidden if self.flat else hidden.unsqueeze(1), 0.0)

    def _convolve_in_pieces(self, x: Tensor, lengths: list[int], steps: int) -> Tensor:
        """`_convolve` row by row, `steps` of its output at a time, so that the maps stay small.

        A row is cut to its own length, which makes masks needless.
        """
        whole = self.out_length(x.shape[1])
        rows = []
        for row, length in zip(x, lengths, strict=True):
            own = _cut(row, length)
            pieces = _pieces(self.out_length(len(own)), steps)
            out = torch.cat([self._piece(own, first, last) for first, last in pieces])
            rows.append(F.pad(out, (0, 0, 0, whole - len(out))))
        return torch.stack(rows)

    def _piece(self, row: Tensor, first: int, last: int) -> Tensor:
        """Steps first..last of a row of frames [T, F]: [last - first, C * F']."""
        start = max(0, first - self.halo)
        frames = row[start * self.factor : (last + self.halo) * self.factor]
        return self._convolve(frames.unsqueeze(0), None)[0, first - start : last - start]


def _cut(row: Tensor, length: int) -> Tensor:
    """A row's own frames; where it has none, one of zeros stands for them."""
    return row[:length] if length > 0 else torch.zeros_like(row[:1])


def _pieces(steps: int, most: int) -> Iterator[tuple[int, int]]:
    for first in range(0, steps, most):
        yield first, min(first + most, steps)


def _halves(layer: nn.Module) -> bool:
    stride = getattr(layer, "stride", 1)
    return (stride if isinstance(stride, int) else stride[0]) == 2


class CausalConv2d(nn.Conv2d):
    """Sees, in time and frequency alike, kernel - 1 places back and stride - 1 ahead."""

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Zeros before and after, in frequency and then in time."""
        before, after = self.kernel_size[0] - 1, self.stride[0] - 1
        return before, after, before, after

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, F] to [B, C', T', F']."""
        return super().forward(F.pad(x, self.pads))

    def slide(self, x: Tensor) -> Tensor:
        """`forward` where the frames before and after are there already, and only bins are not."""
        return super().forward(F.pad(x, self.pads[:2]))


def _conv2d(c_in: int, c_out: int, causal: bool, groups: int = 1) -> nn.Conv2d:
    if causal:
        return CausalConv2d(c_in, c_out, 3, 2, groups=groups)
    return nn.Conv2d(c_in, c_out, 3, 2, padding=1, groups=groups)


def _striding(config: SubsamplingConfig, causal: bool) -> Iterator[nn.Module]:
    c_in = 1
    for _ in range(int(math.log2(config.factor))):
        yield _conv2d(c_in, config.channels, causal)
        yield nn.ReLU(inplace=True)
        c_in = config.channels


def _dw_striding(config: SubsamplingConfig, causal: bool) -> Iterator[nn.Module]:
    c = config.channels
    yield _conv2d(1, c, causal)
    yield nn.ReLU(inplace=True)
    for _ in range(int(math.log2(config.factor)) - 1):
        yield _conv2d(c, c, causal, groups=c)
        yield nn.Conv2d(c, c, 1)
        yield nn.ReLU(inplace=True)


def _vggnet(config: SubsamplingConfig, causal: bool) -> Iterator[nn.Module]:
    c_in = 1
    for _ in range(int(math.log2(config.factor))):
        yield nn.Conv2d(c_in, config.channels, 3, padding=1)
        yield nn.ReLU(inplace=True)
        yield nn.Conv2d(config.channels, config.channels, 3, padding=1)
        yield nn.ReLU(inplace=True)
        yield nn.MaxPool2d(2, 2, ceil_mode=True)
        c_in = config.channels


def _striding_conv1d(config: SubsamplingConfig, causal: bool) -> Iterator[nn.Module]:
    for c_in, c_out in _widths(config):
        yield TimeConv((c_in, c_out), 5, (4, 1) if causal else (2, 2), stride=2)
        yield nn.ReLU(inplace=True)


def _dw_striding_conv1d(config: SubsamplingConfig, causal: bool) -> Iterator[nn.Module]:
    for c_in, c_out in _widths(config):
        yield TimeConv((c_in, c_in), 5, (2, 2), stride=2, groups=c_in)
        yield TimeConv((c_in, c_out), 1)
        yield nn.ReLU(inplace=True)


def _widths(config: SubsamplingConfig) -> list[tuple[int, int]]:
    inner = [config.channels] * (int(math.log2(config.factor)) - 1)
    widths = [config.feat_in, *inner, config.d_out]
    return list(pairwise(widths))


_LAYERS = {
    "striding": _striding,
    "dw_striding": _dw_striding,
    "vggnet": _vggnet,
    "striding_conv1d": _striding_conv1d,
    "dw_striding_conv1d": _dw_striding_conv1d,
}


class Reduction(nn.Module):
    """A second thinning, between or after the layers of an encoder."""

    def __init__(self, kind: str, factor: int, d_model: int) -> None:
        super().__init__()
        self.factor = factor
        self.reduction_enc: nn.Module
        if kind == "striding":
            self.reduction_enc = ConvSubsampling(
                SubsamplingConfig("striding", factor, d_model, d_model, d_model)
            )
        else:
            self.reduction_enc = nn.MaxPool1d(factor)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Thin [B, T, D] and its lengths."""
        if isinstance(self.reduction_enc, ConvSubsampling):
            thinned: tuple[Tensor, Tensor] = self.reduction_enc(x, lengths)
            return thinned
        # NeMo shortens lengths once for every power of two in a factor that is already whole.
        for _ in range(int(math.log2(self.factor))):
            lengths = lengths // self.factor
        x = F.pad(x, (0, 0, 0, max(0, self.factor - x.shape[1])))
        return self.reduction_enc(x.transpose(1, 2)).transpose(1, 2), lengths


def build_subsampling(config: SubsamplingConfig) -> nn.Module:
    """The network that `config.kind` names; a factor of one is a projection of every frame."""
    if config.factor <= 1:
        return nn.Linear(config.feat_in, config.d_out)
    if config.kind.startswith("stacking"):
        return Stacking(config, norm=config.kind == "stacking_norm")
    return ConvSubsampling(config)
