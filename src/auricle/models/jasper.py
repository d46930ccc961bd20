"""Jasper, QuartzNet and Citrinet: stacks of masked one-dimensional convolutions.

Letters in shapes: B batch, C channels, T frames. Parameter names are those of NeMo's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JasperBlockConfig:
    """One block, `repeat` convolutions deep; the defaults are NeMo's for keys that are absent.

    A `residual_mode` that an earlier block of a NeMo configuration passes on to this one is
    written out here: blocks inherit nothing.
    """

    filters: int
    repeat: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0
    residual: bool = False
    separable: bool = False
    se: bool = False
    se_context_size: int = -1
    se_reduction_ratio: int = 8
    kernel_size_factor: float = 1.0
    stride_last: bool = False
    residual_mode: str = "add"
    residual_dense: bool = False
    groups: int = 1
    heads: int = -1
    future_context: int = -1


@dataclass(frozen=True)
class JasperConfig:
    """`feat_in` counts mel bins; with `frame_splicing` the first block sees a multiple of it."""

    feat_in: int
    blocks: tuple[JasperBlockConfig, ...]
    activation: str = "relu"
    normalization_mode: str = "batch"
    norm_groups: int = -1
    conv_mask: bool = True
    frame_splicing: int = 1
