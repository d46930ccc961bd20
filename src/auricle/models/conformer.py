"""Conformer and FastConformer: one architecture, which differ in subsampling and in numbers.

Letters in shapes: B batch, M mel bins, T frames, then encoder steps, D the model's width.
Parameter names below the encoder are those of NeMo's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auricle.errors import ConfigError

ContextSize = tuple[int, ...]

SUBSAMPLINGS = (
    "striding",
    "dw_striding",
    "vggnet",
    "stacking",
    "stacking_norm",
    "striding_conv1d",
    "dw_striding_conv1d",
)
ATTENTIONS = ("rel_pos", "rel_pos_local_attn", "abs_pos")
CONTEXT_STYLES = ("regular", "chunked_limited", "chunked_limited_with_rc")
CONV_NORMS = ("batch_norm", "fused_batch_norm", "layer_norm", "instance_norm")


@dataclass(frozen=True)
class ConformerConfig:
    """Field names and defaults are NeMo's, so that translating a checkpoint is the identity.

    `att_context_size` lists the (left, right) contexts the model was trained with, in encoder
    steps, -1 for no limit; the first is the default. With "chunked_limited_with_rc" they are
    (left, chunk, right), given per call only: offline attention is then always unlimited.
    """

    feat_in: int
    n_layers: int
    d_model: int
    feat_out: int = -1
    causal_downsampling: bool = False
    subsampling: str = "striding"
    subsampling_factor: int = 4
    subsampling_conv_channels: int = -1
    reduction: Literal["pooling", "striding"] | None = None
    reduction_position: int | None = None
    reduction_factor: int = 1
    ff_expansion_factor: int = 4
    self_attention_model: str = "rel_pos"
    n_heads: int = 4
    att_context_size: tuple[ContextSize, ...] = ((-1, -1),)
    att_context_probs: tuple[float, ...] | None = None
    att_chunk_context_size: tuple[tuple[int, ...], ...] | None = None
    att_context_style: str = "regular"
    xscaling: bool = True
    untie_biases: bool = True
    conv_kernel_size: int = 31
    conv_norm_type: str = "batch_norm"
    conv_context_size: Literal["causal"] | tuple[int, int] | None = None
    conv_context_style: Literal["regular", "dcc"] = "regular"
    use_bias: bool = True
    dropout: float = 0.1
    dropout_pre_encoder: float = 0.1
    dropout_emb: float = 0.1
    dropout_att: float = 0.0
    stochastic_depth_drop_prob: float = 0.0
    stochastic_depth_mode: Literal["linear", "uniform"] = "linear"
    stochastic_depth_start_layer: int = 1
    global_tokens: int = 0
    global_tokens_spacing: int = 1
    global_attn_separate: bool = False

    def __post_init__(self) -> None:
        _one_of("subsampling", self.subsampling, SUBSAMPLINGS)
        _one_of("self_attention_model", self.self_attention_model, ATTENTIONS)
        _one_of("att_context_style", self.att_context_style, CONTEXT_STYLES)
        if not self.conv_norm_type.startswith("group_norm"):
            _one_of("conv_norm_type", self.conv_norm_type, (*CONV_NORMS, "group_normN"))
        if self.d_model % self.n_heads:
            raise ConfigError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.reduction and not -1 <= (self.reduction_position or 0) < self.n_layers:
            raise ConfigError(
                f"reduction_position {self.reduction_position} is not one of the "
                f"{self.n_layers} layers, nor -1"
            )
        if sum(self.conv_context) + 1 != self.conv_kernel_size:
            raise ConfigError(
                f"conv_context_size {self.conv_context_size} does not fill "
                f"conv_kernel_size {self.conv_kernel_size}"
            )
        if self.self_attention_model == "rel_pos_local_attn" and max(self.att_context_size[0]) <= 0:
            raise ConfigError(
                f"rel_pos_local_attn needs an att_context_size above 0, not "
                f"{list(self.att_context_size[0])}"
            )

    @property
    def conv_context(self) -> tuple[int, int]:
        """Steps the convolution sees to the left and to the right."""
        if self.conv_context_size == "causal":
            return self.conv_kernel_size - 1, 0
        if self.conv_context_size is None:
            half = (self.conv_kernel_size - 1) // 2
            return half, half
        left, right = self.conv_context_size
        return left, right


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} {value!r} is not one of {', '.join(choices)}")
