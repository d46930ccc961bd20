"""A Conformer stepped over streams: chunk after chunk, with what it remembers held outside.

A chunk's encodings are those of `ConformerEncoder.forward` over the whole recording under the same
attention context, to rounding: keys and values, the convolutions' inputs and one frame for every
halving of time are kept, nothing is computed twice.

Letters in shapes: S streams remembered, B streams in a batch, T steps of a chunk, K keys that they
see, M mel bins, D the model's width, H heads, E width of a head, N distances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle.errors import ConfigError
from auricle.models.attention import AttentionMemory, Block, SelfAttention, StepScope
from auricle.models.conformer import (
    ConformerConfig,
    ConformerEncoder,
    ConformerLayer,
    ContextSize,
    LayerMemory,
    attention_context,
)
from auricle.models.convolution import put
from auricle.models.positions import Distances
from auricle.models.subsampling import ConvSubsampling

Ints = npt.NDArray[np.int64]
ENDLESS = 1 << 62  # frames of a stream whose end is not known


@dataclass(frozen=True)
class Chunking:
    """How a stream is cut into chunks of `steps`, under one attention context.

    Attention sees `before` steps before a chunk and the chunk itself. Where layers look further
    ahead, `after` steps in attention and `conv_after` in the convolution, each of the `layers`
    waits for them.
    """

    steps: int
    before: int
    after: int = 0
    conv_after: int = 0
    layers: int = 1

    @property
    def lag(self) -> int:
        """Steps by which a layer's answers come later than its questions."""
        return self.after + self.conv_after

    @property
    def latency(self) -> int:
        """Steps from the start of a chunk until it has gone through all layers."""
        return self.steps + self.lag * self.layers


def chunking(config: ConformerConfig, size: ContextSize | None = None) -> Chunking:
    """How a model steps with attention context `size`; None is its default.

    Raises:
        ConfigError: Its encodings hang on more of the future, or of the past, than a step can have;
            the message says on what.
    """
    for bar, reason in (
        (not config.causal_downsampling, "its subsampling looks ahead"),
        (
            config.subsampling not in ("striding", "dw_striding"),
            f"{config.subsampling} subsampling",
        ),
        (config.self_attention_model != "rel_pos", f"{config.self_attention_model} attention"),
        (config.att_context_style == "chunked_limited_with_rc", "its chunks overlap"),
        (config.conv_norm_type.startswith(("group", "instance")), "its norms run over all time"),
        (config.reduces, "it thins time twice"),
    ):
        if bar:
            raise ConfigError(f"the encoder cannot step: {reason}")
    context = attention_context(config, size)
    if context.before is None or context.after is None:
        raise ConfigError("the encoder cannot step: its attention has no limits")
    conv_after = config.conv_context[1]
    if conv_after and config.att_context_style == "chunked_limited":
        raise ConfigError("the encoder cannot step: its convolutions look beyond their chunk")
    return Chunking(context.chunk, context.before, context.after, conv_after, config.n_layers)


@dataclass
class EncoderState:
    """What an encoder remembers of S streams: memory that `ChunkedEncoder.step` writes on.

    `entered` [S] counts the steps that have gone in, `frames` [S] the feature frames that there
    are, `ENDLESS` until the end is known.
    """

    subsampling: tuple[Tensor, ...]
    layers: tuple[LayerMemory, ...]
    entered: Ints
    frames: Ints

    def select(self, rows: Sequence[int]) -> Self:
        """A copy of some streams' memory."""
        picked = list(rows)  # for tensors of both devices: the counts stay on the host
        return self.from_tensors({name: t[picked] for name, t in self.tensors().items()})

    def put(self, rows: Sequence[int], part: Self) -> None:
        """Write the streams of `part`, of whatever device and precision, on `rows`."""
        picked = torch.tensor(rows, device=self.subsampling[0].device)
        for mine, other in zip(self._memory(), part._memory(), strict=True):
            put(mine, picked, other.to(mine))
        self.entered[list(rows)], self.frames[list(rows)] = part.entered, part.frames

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, the stream always first: what `from_tensors` takes."""
        named = {f"subsampling.{i}": tensor for i, tensor in enumerate(self.subsampling)}
        for i, layer in enumerate(self.layers):
            named[f"layers.{i}.keys_values"] = layer.attention.keys_values
            named[f"layers.{i}.queries"] = layer.attention.queries
            named[f"layers.{i}.convolution"] = layer.convolution
            named[f"layers.{i}.attended"] = layer.attended
            named[f"layers.{i}.convolved"] = layer.convolved
        named["entered"] = torch.from_numpy(self.entered)
        named["frames"] = torch.from_numpy(self.frames)
        return named

    @classmethod
    def from_tensors(cls, named: Mapping[str, Tensor]) -> Self:
        """The inverse of `tensors`."""
        halvings = sum(name.startswith("subsampling.") for name in named)
        layers = sum(name.endswith(".keys_values") for name in named)
        return cls(
            tuple(named[f"subsampling.{i}"] for i in range(halvings)),
            tuple(_layer_memory(i, named) for i in range(layers)),
            named["entered"].cpu().numpy(),
            named["frames"].cpu().numpy(),
        )

    def _memory(self) -> list[Tensor]:
        return [t for name, t in self.tensors().items() if name not in ("entered", "frames")]


def _layer_memory(i: int, named: Mapping[str, Tensor]) -> LayerMemory:
    keys_values, queries, convolution, attended, convolved = (
        named[f"layers.{i}.{name}"]
        for name in ("keys_values", "queries", "convolution", "attended", "convolved")
    )
    return LayerMemory(AttentionMemory(i, keys_values, queries), convolution, attended, convolved)


class ChunkedEncoder:
    """An encoder under one attention context, ready to step; holds nothing of any stream."""

    def __init__(self, encoder: ConformerEncoder, context: ContextSize | None = None) -> None:
        """Work out what every chunk shares.

        Raises:
            ConfigError: The encoder cannot step in this context.
        """
        self.encoder = encoder
        self.chunking = chunking(encoder.config, context)
        assert isinstance(encoder.pre_encode, ConvSubsampling)
        self._subsampling = encoder.pre_encode
        self._like = next(encoder.parameters()).detach()
        self._positions = self._projected_distances()

    @property
    def frames(self) -> int:
        """Feature frames in a chunk."""
        return self.chunking.steps * self.encoder.factor

    @property
    def lead(self) -> int:
        """Frames of a stream's first chunk that are before its beginning."""
        return self.encoder.factor - 1

    @property
    def lag(self) -> int:
        """Steps by which encodings come later than their chunk."""
        return self.chunking.latency - self.chunking.steps

    def steps_in(self, frames: int) -> int:
        """Steps that a stream of `frames` has."""
        return self._subsampling.out_length(frames)

    @property
    def _keys(self) -> int:
        chunking = self.chunking
        return chunking.before + chunking.after + chunking.steps

    def initial_state(self, streams: int) -> EncoderState:
        """What is remembered before S streams begin."""
        config = self.encoder.config
        d, chunking = config.d_model, self.chunking

        def zeros(steps: int, width: int = d) -> Tensor:
            return self._like.new_zeros(streams, steps, width)

        return EncoderState(
            self._subsampling.memory(streams, self._like),
            tuple(
                LayerMemory(
                    AttentionMemory(i, zeros(self._keys, 2 * d), zeros(chunking.after)),
                    zeros(config.conv_kernel_size - 1),
                    zeros(chunking.after),
                    zeros(chunking.conv_after),
                )
                for i in range(config.n_layers)
            ),
            np.zeros(streams, np.int64),
            np.full(streams, ENDLESS, np.int64),
        )

    def step(self, features: Tensor, state: EncoderState, rows: Sequence[int]) -> Tensor:
        """Encode the next chunk of some streams.

        Where a stream's end is known, `state.frames` says it. Its first chunk begins `lead`
        frames before its beginning; the values of frames that do not exist mean nothing.

        Args:
            features: [B, M, `frames`].
            state: Of S streams; it is written on.
            rows: Which of them these are, [B].

        Returns:
            Encodings [B, T, D] of the steps from `lag` before the chunk; those before a stream's
            beginning and beyond its end mean nothing.
        """
        picked = np.asarray(rows, np.int64)
        entered, frames = state.entered[picked], state.frames[picked]
        lengths: Ints = self._subsampling.out_length(frames)
        everyone = len(picked) == len(state.entered) and bool((np.diff(picked) == 1).all())
        places = None if everyone else self._move(picked)
        x = features.to(self._like.dtype).transpose(1, 2)  # [B, frames, M]
        x = self._subsampling.step(x, state.subsampling, places, self._missing(entered, frames))
        if self.encoder.config.xscaling:
            x = x * self.encoder.config.d_model**0.5
        scope = None
        for i, layer in enumerate(self.encoder.layers):
            assert isinstance(layer, ConformerLayer)
            if scope is None or self.chunking.lag:
                scope = self._scope(picked, places, entered - i * self.chunking.lag, lengths)
            x = layer.step(x, state.layers[i], scope)
        state.entered[picked] += self.chunking.steps
        return x if self.encoder.out_proj is None else self.encoder.out_proj(x)

    def _missing(self, entered: Ints, frames: Ints) -> list[Tensor | None]:
        """Where the input of each halving does not exist."""
        factor, missing = self.encoder.factor, []
        while factor > 1:
            first = (entered - 1) * factor + 1  # the chunk's first frame, at this halving's rate
            missing.append(self._outside(first, self.chunking.steps * factor, frames))
            frames, factor = self._subsampling.halved(frames), factor // 2
        return missing

    def _scope(self, rows: Ints, places: Tensor | None, entered: Ints, lengths: Ints) -> StepScope:
        """What a layer whose first new step is number `entered` [B] may see."""
        chunking, keys = self.chunking, self._keys
        first = entered + chunking.steps - keys  # [B] the earliest key
        seen = first[:, None] + np.arange(keys)  # [B, K]
        ring = rows[:, None] * keys + seen % keys
        hidden = self._outside(first, keys, lengths)
        asked = entered - chunking.after
        return StepScope(
            places,
            self._move(ring[:, keys - chunking.steps :].ravel()),
            self._move(ring.ravel()),
            self._positions,
            Block(
                slice(None),
                slice(None),
                slice(None),
                None if hidden is None else hidden.squeeze(-1)[:, None, None],  # [B, 1, 1, K]
            ),
            self._outside(asked, chunking.steps, lengths),
        )

    def _outside(self, first: Ints, count: int, lengths: Ints) -> Tensor | None:
        """True in [B, count, 1] at numbers from `first` [B] on that are not in 0 ... `lengths`."""
        if (first >= 0).all() and (first + count <= lengths).all():
            return None
        numbers = first[:, None] + np.arange(count)
        return self._move((numbers < 0) | (numbers >= lengths[:, None])).unsqueeze(-1)

    @torch.inference_mode()
    def _projected_distances(self) -> tuple[Tensor, ...]:
        """What each layer makes of the distances between a chunk's queries and keys, [H, E, N]."""
        chunking = self.chunking
        low = -(chunking.before + chunking.steps - 1)
        high = chunking.after + chunking.steps - 1
        table, _ = Distances(self.encoder.config.d_model).rows(low, high, self._like)  # [N, D]
        attentions = [m for m in self.encoder.modules() if isinstance(m, SelfAttention)]
        return tuple(a.project_distances(table).contiguous() for a in attentions)

    def _move(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._like.device, non_blocking=True)
