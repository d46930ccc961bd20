"""Conformer and FastConformer: one architecture, which differ in subsampling and in numbers.

Letters in shapes: B batch, M mel bins, T frames, then encoder steps, D the model's width.
Parameter names below the encoder are those of NeMo's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.config import Probability, Size, SizeOrNone, Within, settle
from auricle.errors import ConfigError
from auricle.models.attention import (
    AttentionConfig,
    AttentionMemory,
    Context,
    GlobalTokens,
    Scope,
    SelfAttention,
    StepScope,
    delayed,
)
from auricle.models.convolution import TimeConv, hide, put, take
from auricle.models.norms import BatchNorm, FusedBatchNorm, GroupNorm
from auricle.models.positions import Distances, sinusoids
from auricle.models.subsampling import (
    Reduction,
    Stacking,
    SubsamplingConfig,
    build_subsampling,
)

ContextSize = tuple[SizeOrNone, ...]

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

    feat_in: Size
    n_layers: Annotated[int, Within(0, 512)]
    d_model: Size
    feat_out: SizeOrNone = -1
    causal_downsampling: bool = False
    subsampling: str = "striding"
    subsampling_factor: Annotated[int, Within(1, 256)] = 4
    subsampling_conv_channels: SizeOrNone = -1
    reduction: Literal["pooling", "striding"] | None = None
    reduction_position: int | None = None
    reduction_factor: Annotated[int, Within(1, 256)] = 1
    ff_expansion_factor: Annotated[int, Within(1, 256)] = 4
    self_attention_model: str = "rel_pos"
    n_heads: Size = 4
    att_context_size: tuple[ContextSize, ...] = ((-1, -1),)
    att_context_probs: tuple[float, ...] | None = None
    att_chunk_context_size: tuple[tuple[int, ...], ...] | None = None
    att_context_style: str = "regular"
    xscaling: bool = True
    untie_biases: bool = True
    conv_kernel_size: Size = 31
    conv_norm_type: str = "batch_norm"
    conv_context_size: Literal["causal"] | tuple[int, int] | None = None
    conv_context_style: Literal["regular", "dcc"] = "regular"
    use_bias: bool = True
    dropout: Probability = 0.1
    dropout_pre_encoder: Probability = 0.1
    dropout_emb: Probability = 0.1
    dropout_att: Probability = 0.0
    stochastic_depth_drop_prob: Probability = 0.0
    stochastic_depth_mode: Literal["linear", "uniform"] = "linear"
    stochastic_depth_start_layer: int = 1
    global_tokens: Annotated[int, Within(0, 2**12)] = 0
    global_tokens_spacing: Size = 1
    global_attn_separate: bool = False

    def __post_init__(self) -> None:
        settle(self)
        _one_of("subsampling", self.subsampling, SUBSAMPLINGS)
        _one_of("self_attention_model", self.self_attention_model, ATTENTIONS)
        _one_of("att_context_style", self.att_context_style, CONTEXT_STYLES)
        if not self.conv_norm_type.startswith("group_norm"):
            _one_of("conv_norm_type", self.conv_norm_type, (*CONV_NORMS, "group_normN"))
        if self.d_model % self.n_heads:
            raise ConfigError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.reduces and self.reduction_position not in range(-1, self.n_layers):
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
    def reduces(self) -> bool:
        """Whether the encoder thins time a second time."""
        return self.reduction is not None and self.reduction_factor > 1

    @property
    def d_out(self) -> int:
        """Width of the encodings."""
        return _or(self.feat_out, self.d_model)

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


def attention_context(config: ConformerConfig, size: ContextSize | None = None) -> Context:
    """What `size`, in the terms of the model's `att_context_style`, lets a step see.

    None is the model's default. Sizes that the model was not trained with are taken too.

    Raises:
        ConfigError: `size` has the wrong number of values, or values that mean nothing.
    """
    style = config.att_context_style
    if config.self_attention_model == "rel_pos_local_attn":
        style = "local"
    if style == "chunked_limited_with_rc":
        left, chunk, right = _sized(size or (-1, -1, -1), 3, style)
        if (left, chunk, right) == (-1, -1, -1):
            return Context()
        if left < 0 or chunk < 1 or right < 0:
            raise ConfigError(
                f"attention context {[left, chunk, right]}: {style} needs left >= 0, chunk >= 1 "
                "and right >= 0, or -1 for all three"
            )
        return Context(left, right, chunk)
    left, right = _sized(size or config.att_context_size[0], 2, style)
    if style == "local" and (min(left, right) < 0 or max(left, right) == 0):
        raise ConfigError(f"attention context {[left, right]}: local attention needs both limits")
    if style == "chunked_limited" and right >= 0:
        chunk = right + 1
        # NeMo counts an unlimited past as ten thousand chunks.
        chunks = left // chunk if left >= 0 else 10000
        return Context(chunks * chunk, 0, chunk)
    return Context(
        left if left >= 0 else None,
        right if right >= 0 and style != "chunked_limited" else None,
    )


def _sized(size: ContextSize, count: int, style: str) -> ContextSize:
    if len(size) != count:
        raise ConfigError(f"attention context {list(size)}: {style} needs {count} numbers")
    return size


class ConformerEncoder(nn.Module):
    """Features to encodings, in a thinner grid of time and within any context."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.pre_encode = build_subsampling(
            SubsamplingConfig(
                config.subsampling,
                config.subsampling_factor,
                config.feat_in,
                config.d_model,
                _or(config.subsampling_conv_channels, config.d_model),
                config.causal_downsampling,
            )
        )
        self.layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.n_layers))
        if config.self_attention_model == "rel_pos" and not config.untie_biases:
            self._tie_biases()
        self.out_proj = (
            nn.Linear(config.d_model, self.d_out) if self.d_out != config.d_model else None
        )
        self.reduction_subsampling = (
            Reduction(config.reduction, config.reduction_factor, config.d_model)
            if config.reduction and config.reduces
            else None
        )
        self.distances = self._distances(attention_context(config))

    def _tie_biases(self) -> None:
        attentions = [m for m in self.layers.modules() if isinstance(m, SelfAttention)]
        for attention in attentions:
            attention.pos_bias_u = attentions[0].pos_bias_u
            attention.pos_bias_v = attentions[0].pos_bias_v

    @property
    def factor(self) -> int:
        """Feature frames for one step of the output."""
        reduction = self.config.reduction_factor if self.config.reduces else 1
        return max(1, self.config.subsampling_factor) * reduction

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.config.d_out

    @property
    def hears_padding(self) -> bool:
        """Whether what lies beyond a row's length changes its encodings."""
        across_time = self.config.conv_norm_type.startswith(("group_norm", "instance_norm"))
        return across_time or isinstance(self.pre_encode, Stacking)

    def forward(
        self, features: Tensor, lengths: Tensor, *, context: ContextSize | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode `features` [B, M, T].

        Args:
            features: Zero beyond each row's length.
            lengths: Frames in each row [B].
            context: What attention may see, in the model's own style; None is its default.

        Returns:
            Encodings [B, T', D], whose values beyond a row's length mean nothing, and lengths [B].

        Raises:
            ConfigError: `context` does not fit the model's style of attention.
        """
        seen = attention_context(self.config, context or self._drawn_context())
        x = self._trimmed(features, lengths).transpose(1, 2)  # [B, T, M]
        if self.config.subsampling_factor > 1:
            x, lengths = self.pre_encode(x, lengths)  # [B, T', D]
        else:
            x = self.pre_encode(x)
        return self._through_layers(self._placed(x), lengths, seen)

    def _through_layers(
        self, x: Tensor, lengths: Tensor, context: Context
    ) -> tuple[Tensor, Tensor]:
        """All layers and what follows them: [B, T, D] to [B, T', D_out]."""
        reduce_after = self.config.reduction_position if self.config.reduces else None
        scope = self._scope(x, lengths, context)
        for i, layer in enumerate(self.layers):
            x = self._perhaps_dropped(i, x, layer(x, scope))
            if i == reduce_after:
                x, lengths = self._reduced(x, lengths)
                scope = self._scope(x, lengths, context)
        if self.out_proj is not None:
            x = self.out_proj(x)
        if reduce_after == -1:
            x, lengths = self._reduced(x, lengths)
        return x, lengths

    def _trimmed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Without the frames that no row has, where these make no difference to the others.

        In training they do to a batch norm, whose statistics count every frame, as in NeMo.
        """
        counted = self.training and self.config.conv_norm_type == "batch_norm"
        if counted or self.hears_padding:
            return features
        return features[:, :, : max(1, int(lengths.max()))]

    def _placed(self, x: Tensor) -> Tensor:
        """Scaled and, with absolute positions, told where each step is."""
        config = self.config
        if config.xscaling:
            x = x * config.d_model**0.5
        if config.self_attention_model == "abs_pos":
            table = sinusoids(torch.arange(x.shape[1], device=x.device), config.d_model)
            x = x + F.dropout(table.to(x.dtype), config.dropout_emb, self.training)
        local = config.self_attention_model == "rel_pos_local_attn"
        rate = config.dropout if local else config.dropout_pre_encoder
        return F.dropout(x, rate, self.training)

    def _scope(self, x: Tensor, lengths: Tensor, context: Context) -> Scope:
        ragged = bool((lengths < x.shape[1]).any())
        distances = self.distances
        if distances is not None and distances.window not in (
            None,
            (context.before, context.after),
        ):
            distances = self._distances(context)
        scope = Scope.over(x, lengths if ragged else None, context, distances)
        if self.training and scope.distances is not None:
            return replace(scope, distances=F.dropout(scope.distances, self.config.dropout_emb))
        return scope

    def _distances(self, context: Context) -> Distances | None:
        if self.config.self_attention_model == "abs_pos":
            return None
        if self.config.self_attention_model == "rel_pos_local_attn":
            assert context.before is not None
            assert context.after is not None
            return Distances(self.config.d_model, (context.before, context.after))
        return Distances(self.config.d_model)

    def _reduced(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        assert self.reduction_subsampling is not None
        reduced: tuple[Tensor, Tensor] = self.reduction_subsampling(x, lengths)
        return reduced

    def _drawn_context(self) -> ContextSize | None:
        """In training, one of the configured contexts at random."""
        sizes = self.config.att_context_size
        if not self.training or len(sizes) == 1:
            return None
        chances = self.config.att_context_probs or (1.0,) * len(sizes)
        return sizes[int(torch.multinomial(torch.tensor(chances), 1))]

    def _perhaps_dropped(self, i: int, before: Tensor, after: Tensor) -> Tensor:
        """Stochastic depth (https://arxiv.org/abs/2102.03216), in training alone."""
        chance = self._drop_chance(i) if self.training else 0.0
        if chance == 0.0:
            return after
        if float(torch.rand(1)) < chance:
            return after * 0.0 + before  # every weight still gets a gradient
        return (after - before) / (1.0 - chance) + before

    def _drop_chance(self, i: int) -> float:
        config = self.config
        start, most = config.stochastic_depth_start_layer, config.stochastic_depth_drop_prob
        if i < start:
            return 0.0
        if config.stochastic_depth_mode == "uniform":
            return most
        return most * (i - start + 1) / (config.n_layers - start)


def _or(value: int, default: int) -> int:
    return value if value > 0 else default


class ConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward; each beside a residual."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        d = config.d_model
        self.norm_feed_forward1 = nn.LayerNorm(d)
        self.feed_forward1 = FeedForward(config)
        self.norm_self_att = nn.LayerNorm(d)
        self.self_attn = SelfAttention(_attention(config))
        self.norm_conv = nn.LayerNorm(d)
        self.conv = ConformerConvolution(config)
        self.norm_feed_forward2 = nn.LayerNorm(d)
        self.feed_forward2 = FeedForward(config)
        self.norm_out = nn.LayerNorm(d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        x = torch.add(x, self.dropout(self.feed_forward1(self.norm_feed_forward1(x))), alpha=0.5)
        x = x + self.dropout(self.self_attn(self.norm_self_att(x), scope))
        x = x + self.dropout(self.conv(self.norm_conv(x), scope.padding))
        x = torch.add(x, self.dropout(self.feed_forward2(self.norm_feed_forward2(x))), alpha=0.5)
        out: Tensor = self.norm_out(x)
        return out

    def step(self, x: Tensor, memory: LayerMemory, scope: StepScope) -> Tensor:
        """`forward` for the next chunk [B, T, D] of B streams, or of as many steps before it."""
        x = torch.add(x, self.feed_forward1(self.norm_feed_forward1(x)), alpha=0.5)
        heard = self.self_attn.step(self.norm_self_att(x), memory.attention, scope)
        x = delayed(x, memory.attended, scope.rows) + heard
        heard = self.conv.step(self.norm_conv(x), memory.convolution, scope)
        x = delayed(x, memory.convolved, scope.rows) + heard
        x = torch.add(x, self.feed_forward2(self.norm_feed_forward2(x)), alpha=0.5)
        out: Tensor = self.norm_out(x)
        return out


@dataclass(frozen=True)
class LayerMemory:
    """What a layer remembers of S streams; `step` writes on it.

    `convolution` [S, K - 1, D] is the input of the convolution before the chunk. `attended` and
    `convolved` [S, Q, D] wait beside attention and convolution where these look ahead.
    """

    attention: AttentionMemory
    convolution: Tensor
    attended: Tensor
    convolved: Tensor


def _attention(config: ConformerConfig) -> AttentionConfig:
    tokens = GlobalTokens(
        config.global_tokens, config.global_tokens_spacing, config.global_attn_separate
    )
    local = config.self_attention_model == "rel_pos_local_attn"
    return AttentionConfig(
        config.d_model,
        config.n_heads,
        bias=config.use_bias,
        dropout=config.dropout_att,
        relative=config.self_attention_model != "abs_pos",
        globals=tokens if local and (tokens.count > 0 or tokens.separate) else None,
    )


class FeedForward(nn.Module):
    """Two linear layers with a swish between."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        d, inner = config.d_model, config.d_model * config.ff_expansion_factor
        self.linear1 = nn.Linear(d, inner, bias=config.use_bias)
        self.linear2 = nn.Linear(inner, d, bias=config.use_bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        out: Tensor = self.linear2(self.dropout(F.silu(self.linear1(x))))
        return out


class ConformerConvolution(nn.Module):
    """A gated depthwise convolution; the norm in it is named batch_norm whatever its kind."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        d, kernel = config.d_model, config.conv_kernel_size
        self.pointwise_conv1 = TimeConv((d, 2 * d), 1, bias=config.use_bias)
        self.depthwise_conv = TimeConv(
            (d, d), kernel, config.conv_context, groups=d, bias=config.use_bias
        )
        self.batch_norm = _norm(config.conv_norm_type, d)
        self.pointwise_conv2 = TimeConv((d, d), 1, bias=config.use_bias)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D]; steps where `padding` [B, T, 1] holds are heard as silence."""
        x = hide(F.glu(self.pointwise_conv1(x), dim=-1), padding)
        x = F.silu(self.batch_norm(self.depthwise_conv(x)))
        out: Tensor = self.pointwise_conv2(x)
        return out

    def step(self, x: Tensor, before: Tensor, scope: StepScope) -> Tensor:
        """`forward` for the next chunk [B, T, D]; `before` [S, K - 1, D] is the streams' memory."""
        x = hide(F.glu(self.pointwise_conv1(x), dim=-1), scope.padding)
        x = torch.cat([take(before, scope.rows), x], dim=1)  # [B, K - 1 + T, D]
        put(before, scope.rows, x[:, x.shape[1] - before.shape[1] :])
        out: Tensor = self.pointwise_conv2(F.silu(self.batch_norm(self.depthwise_conv.slide(x))))
        return out


def _norm(kind: str, width: int) -> nn.Module:
    match kind:
        case "batch_norm":
            return BatchNorm(width)
        case "fused_batch_norm":
            return FusedBatchNorm(width)
        case "layer_norm":
            return nn.LayerNorm(width)
        case "instance_norm":
            return GroupNorm(width, width, affine=False)
    return GroupNorm(int(kind.removeprefix("group_norm")), width)
