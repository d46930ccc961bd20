"""Jasper, QuartzNet and Citrinet: stacks of masked one-dimensional convolutions.

Letters in shapes: B batch, C channels, T frames. Parameter names are those of NeMo's checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from auricle.config import Probability, Size, SizeOrNone, Within, settle
from auricle.errors import ConfigError
from auricle.models.convolution import TimeConv, beyond, hide
from auricle.models.norms import BatchNorm, GroupNorm

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "hardtanh": nn.Hardtanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
NORMS = ("batch", "group", "instance", "layer")
EPS = 1e-3
MOST_PADS = 2**16  # frames: beyond it a clip is mostly padding


@dataclass(frozen=True)
class JasperBlockConfig:
    """One block, `repeat` convolutions deep; the defaults are NeMo's for keys that are absent.

    A `residual_mode` that an earlier block of a NeMo configuration passes on to this one is
    written out here: blocks inherit nothing.
    """

    filters: Size
    repeat: Annotated[int, Within(1, 256)]
    kernel: Size
    stride: Annotated[int, Within(1, 64)] = 1
    dilation: Size = 1
    dropout: Probability = 0.0
    residual: bool = False
    separable: bool = False
    se: bool = False
    se_context_size: SizeOrNone = -1
    se_reduction_ratio: Size = 8
    kernel_size_factor: Annotated[float, Within(0, 64)] = 1.0
    stride_last: bool = False
    residual_mode: str = "add"
    residual_dense: bool = False
    groups: Size = 1
    heads: SizeOrNone = -1
    future_context: SizeOrNone = -1

    def __post_init__(self) -> None:
        settle(self)
        if self.stride > 1 and self.dilation > 1:
            raise ConfigError(
                f"a block has stride {self.stride} and dilation {self.dilation}: one must be 1"
            )
        if sum(self.pads) > MOST_PADS:
            raise ConfigError(
                f"a block with kernel {self.width} and dilation {self.dilation} pads "
                f"{sum(self.pads)} frames; at most {MOST_PADS} are taken"
            )

    @property
    def width(self) -> int:
        """Frames under the kernel: scaled, and made odd."""
        scaled = max(int(self.kernel * self.kernel_size_factor), 1)
        return scaled + 1 - scaled % 2

    @property
    def pads(self) -> tuple[int, int]:
        """Zeros before and after; more before than after when the future is limited."""
        d, ahead = self.dilation, self.future_context
        if not 0 <= ahead < self.width:
            half = d * (self.width - 1) // 2
            return half, half
        if d == 1:
            return self.width - 1 - ahead, ahead
        return d * self.width - 1 - d * ahead, d * ahead


@dataclass(frozen=True)
class JasperConfig:
    """`feat_in` counts mel bins; with `frame_splicing` the first block sees a multiple of it."""

    feat_in: Size
    blocks: tuple[JasperBlockConfig, ...]
    activation: str = "relu"
    normalization_mode: str = "batch"
    norm_groups: SizeOrNone = -1
    conv_mask: bool = True
    frame_splicing: Annotated[int, Within(1, 64)] = 1

    def __post_init__(self) -> None:
        settle(self)
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}"
            )
        if self.normalization_mode not in NORMS:
            raise ConfigError(
                f"normalization_mode {self.normalization_mode!r} is not one of {', '.join(NORMS)}"
            )

    @property
    def d_out(self) -> int:
        """Width of the encodings."""
        return self.blocks[-1].filters


class JasperEncoder(nn.Module):
    """Blocks in a row; a block with dense residuals also sees what earlier dense ones saw."""

    def __init__(self, config: JasperConfig) -> None:
        super().__init__()
        self.config = config
        blocks, panes, c_in = [], [], config.feat_in * config.frame_splicing
        for block in config.blocks:
            if block.residual_dense:
                panes.append(c_in)
            residuals = tuple(panes) if block.residual_dense else (c_in,)
            blocks.append(JasperBlock(config, block, c_in, residuals))
            c_in = block.filters
        self.encoder = nn.ModuleList(blocks)
        self.d_out = config.d_out

    @property
    def factor(self) -> int:
        """Feature frames for one step of the output."""
        factor = 1
        for block in self.config.blocks:
            factor *= block.stride if block.stride_last else block.stride**block.repeat
        return factor

    @property
    def hears_padding(self) -> bool:
        """Whether what lies beyond a row's length changes its encodings.

        All norms but a batch's take statistics over time, in which NeMo counts every frame.
        """
        return not self.config.conv_mask or self.config.normalization_mode != "batch"

    def forward(
        self, features: Tensor, lengths: Tensor, *, context: tuple[int, ...] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode `features` [B, M, T], zero beyond each row's length [B].

        Returns:
            Encodings [B, T', C] and lengths [B].

        Raises:
            ConfigError: A `context` is given, for there is no attention to take it.
        """
        if context is not None:
            raise ConfigError("this model has no attention: leave the context out")
        # In training a batch norm's statistics count every frame, as in NeMo.
        if not (self.training or self.hears_padding):
            features = features[:, :, : max(1, int(lengths.max()))]
        seen = [features.transpose(1, 2)]  # [B, T, M]
        for block in self.encoder:
            seen, lengths = block(seen, lengths)
        return seen[-1], lengths.clamp(max=seen[-1].shape[1])


class JasperBlock(nn.Module):
    """`repeat` convolutions, each normalised, beside residuals from what was seen before.

    The layers of `mconv` stand where NeMo has them, since their numbers are part of their names.
    """

    def __init__(
        self, model: JasperConfig, config: JasperBlockConfig, c_in: int, panes: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.config = config
        self.dense = config.residual and config.residual_dense
        layers: list[nn.Module] = []
        for i in range(config.repeat):
            last = i == config.repeat - 1
            stride = 1 if config.stride_last and not last else config.stride
            layers += _convolution(model, config, (c_in, config.filters), stride)
            if not last:
                layers += [ACTIVATIONS[model.activation](), nn.Dropout(config.dropout)]
            c_in = config.filters
        if config.se:
            layers.append(SqueezeExcite(model, config))
        self.mconv = nn.ModuleList(layers)
        stride = config.stride if config.residual_mode == "stride_add" else 1
        residuals = (_residual(model, (pane, config.filters), stride) for pane in panes)
        self.res = nn.ModuleList(residuals) if config.residual else None
        self.mout = nn.Sequential(ACTIVATIONS[model.activation](), nn.Dropout(config.dropout))

    def forward(self, seen: list[Tensor], lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Take and give what later blocks may see, each [B, T, C], and lengths [B]."""
        x, after = _run(self.mconv, seen[-1], lengths)
        for residual, earlier in zip(self.res or (), seen, strict=False):
            other, _ = _run(residual, earlier, lengths)
            added = self.config.residual_mode in ("add", "stride_add")
            x = x + other if added else torch.maximum(x, other)
        x = self.mout(x)
        return ([*seen, x] if self.dense else [x]), after


def _run(layers: nn.Module, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Apply layers in turn to [B, T, C]; those that ask for lengths also change them."""
    assert isinstance(layers, nn.ModuleList)
    for layer in layers:
        if isinstance(layer, (MaskedConv, SqueezeExcite)):
            x, lengths = layer(x, lengths)
        else:
            x = layer(x)
    return x, lengths


def _convolution(
    model: JasperConfig, config: JasperBlockConfig, channels: tuple[int, int], stride: int
) -> Iterator[nn.Module]:
    """One convolution, in two parts where it is separable, and its norm."""
    c_in, c_out = channels
    if config.separable:
        heads = config.heads if model.conv_mask and config.heads > 0 else c_in
        yield _masked(
            model, Depthwise(c_in, heads, config.width, config.pads, (stride, config.dilation))
        )
        yield _masked(model, TimeConv(channels, 1, groups=config.groups, bias=False))
    else:
        conv = TimeConv(
            channels,
            config.width,
            config.pads,
            stride=stride,
            dilation=config.dilation,
            groups=config.groups,
            bias=False,
        )
        yield _masked(model, conv)
    yield _norm(model, c_out)
    if config.groups > 1:
        yield GroupShuffle(config.groups)


def _residual(model: JasperConfig, channels: tuple[int, int], stride: int) -> nn.ModuleList:
    conv = TimeConv(channels, 1, stride=stride, bias=False)
    return nn.ModuleList([_masked(model, conv), _norm(model, channels[1])])


def _masked(model: JasperConfig, conv: TimeConv) -> nn.Module:
    return MaskedConv(conv) if model.conv_mask else conv


class MaskedConv(nn.Module):
    """A convolution that hears silence beyond each row's length."""

    def __init__(self, conv: TimeConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] to [B, T', C'], and lengths [B]."""
        return self.conv(hide(x, _padding(x, lengths))), self.conv.out_length(lengths)


class Depthwise(TimeConv):
    """Every channel convolved alone; channels that are `heads` apart share one kernel."""

    def __init__(
        self,
        channels: int,
        heads: int,
        kernel: int,
        pads: tuple[int, int],
        steps: tuple[int, int],
    ) -> None:
        stride, dilation = steps
        super().__init__(
            (heads, heads), kernel, pads, stride=stride, dilation=dilation, groups=heads, bias=False
        )
        self.copies = channels // heads

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T', C]."""
        return self.convolve(x, self.weight.repeat(self.copies, 1, 1))


class GroupShuffle(nn.Module):
    """Mixes the channels of a grouped convolution, so that the next one sees all groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        return x.view(*x.shape[:2], self.groups, -1).transpose(2, 3).reshape(x.shape)


class SqueezeExcite(nn.Module):
    """Scales channels by what their mean over time says (https://arxiv.org/abs/1709.01507).

    A limited context draws a random stretch in training; otherwise the mean is over everything.
    """

    def __init__(self, model: JasperConfig, config: JasperBlockConfig) -> None:
        super().__init__()
        self.context = config.se_context_size
        c, inner = config.filters, config.filters // config.se_reduction_ratio
        self.fc = nn.Sequential(
            nn.Linear(c, inner, bias=False),
            ACTIVATIONS[model.activation](),
            nn.Linear(inner, c, bias=False),
        )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scale [B, T, C]; lengths pass."""
        x = hide(x, _padding(x, lengths))
        scale = torch.sigmoid(self.fc(self._mean(x, lengths)))
        return x * scale.unsqueeze(1), lengths

    def _mean(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Over the frames that a row has: [B, T, C] to [B, C]."""
        frames = x.shape[1]
        if self.training and 0 <= self.context < frames:
            start = int(torch.randint(0, frames - self.context, ()))
            x = x[:, start : start + self.context]
            lengths = (lengths - start).clamp(0, self.context)
        return x.sum(1) / lengths.clamp(1, frames).unsqueeze(1)


def _padding(x: Tensor, lengths: Tensor) -> Tensor | None:
    frames = x.shape[1]
    if x.device.type == "cpu" and not bool((lengths < frames).any()):
        return None  # elsewhere, to ask would cost more than to mask
    return beyond(lengths, frames)


def _norm(model: JasperConfig, channels: int) -> nn.Module:
    match model.normalization_mode:
        case "batch":
            return BatchNorm(channels, eps=EPS)
        case "group":
            return GroupNorm(channels if model.norm_groups == -1 else model.norm_groups, channels)
        case "instance":
            return GroupNorm(channels, channels)
    return GroupNorm(1, channels)
