"""Streaming as NeMo's scripts do it: its grid of chunks, its caches, its zeros in front.

A second implementation, from the encoder's weights alone, that shares no code with ours for
streams. It shows why NeMo's streams are not always what NeMo computes of the whole recording:

* A chunk carries the frames before it, and the first outputs, which they spoil, are dropped. Where
  there are fewer frames before it, zeros are put in front, and behind the first convolution these
  are zeros no longer: its bias has been added.
* With `pad`, chunks of attention begin seven frames earlier than offline, and so hold other frames.
* The column of zeros behind the last frame counts as a frame, with which convolutions may end in
  one more row, and attention in one more step.
* Frames at the end that make no whole step are thrown away.

`mend` takes the first cause away, `flush` the last; `pad`, and that column, are the caller's.

Letters in shapes: B batch, M mel bins, T frames or steps, D width, H heads, E width of a head,
C cached steps, Q queries, K keys, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.models.conformer import ConformerEncoder
from auricle.models.positions import sinusoids
from auricle.models.subsampling import ConvSubsampling


@dataclass(frozen=True)
class Chunk:
    """Frames [B, M, T] with their lengths [B]; the first `zeros` of them are no frames."""

    frames: Tensor
    lengths: Tensor
    zeros: int
    drop: int  # steps that the frames before the chunk spoil
    last: bool


@dataclass(frozen=True)
class Caches:
    """What a layer remembers: inputs of its attention and of its convolution."""

    attention: Tensor  # [L, B, C, D]
    time: Tensor  # [L, B, D, kernel - 1]
    filled: Tensor  # [B], of C


class NemoGrid:
    """One encoder under one context (left, right)."""

    def __init__(self, encoder: nn.Module, context: tuple[int, int], *, mend: bool = False) -> None:
        assert isinstance(encoder, ConformerEncoder)
        assert isinstance(encoder.pre_encode, ConvSubsampling)
        self.encoder = encoder
        self.subsampling = encoder.pre_encode
        self.layers = list(encoder.layers)
        self.left, self.right = context
        self.mend = mend
        self.regular = encoder.config.att_context_style == "regular"
        # In regular style every layer looks ahead once more, so most steps are computed again.
        self.again = self.right * len(self.layers) if self.regular else 0

    def chunks(
        self, frames: Tensor, lengths: Tensor, *, pad: bool = False, flush: bool = False
    ) -> Iterator[Chunk]:
        """Cut `frames` [B, M, T] as NeMo's buffer does."""
        factor = self.encoder.config.subsampling_factor
        ahead = self.again or self.right
        at = 0
        while at < frames.shape[2]:
            first = at == 0 and not pad
            least = 1 if at == 0 or flush else factor
            own = frames[:, :, at : at + ahead * factor + (1 if first else factor)]
            if own.shape[2] < least:
                return
            before = 0 if first else factor + 1
            cached = frames[:, :, max(0, at - before) : at]
            zeros = before - cached.shape[2]
            whole = F.pad(torch.cat([cached, own], dim=2), (zeros, 0))
            present = (lengths - at + before).clamp(0, whole.shape[2])
            at += (ahead - self.again) * factor + (1 if first else factor)
            drop = 0 if first else 1 + (before - 1) // factor
            yield Chunk(whole, present, zeros, drop, at >= frames.shape[2])

    def caches(self, batch: int) -> Caches:
        """Nothing heard yet."""
        config = self.encoder.config
        count, width = len(self.layers), config.d_model
        return Caches(
            torch.zeros(count, batch, self.left, width),
            torch.zeros(count, batch, width, config.conv_kernel_size - 1),
            torch.zeros(batch, dtype=torch.long),
        )

    def step(self, chunk: Chunk, caches: Caches) -> tuple[Tensor, Tensor, Caches]:
        """Encodings [B, T, D] of a chunk, their lengths [B], and what to remember."""
        x, lengths = self._subsampled(chunk)
        x, lengths = x[:, chunk.drop :], (lengths - chunk.drop).clamp(min=0)
        if self.encoder.config.xscaling:
            x = x * self.encoder.config.d_model**0.5
        hidden, padded = self._hidden(x.shape[1], lengths, caches.filled)
        inputs, times = [], []
        for i, layer in enumerate(self.layers):
            x, attention, time = self._layer(
                layer, x, (caches.attention[i], caches.time[i]), hidden, padded
            )
            inputs.append(attention)
            times.append(time)
        if self.encoder.out_proj is not None:
            x = self.encoder.out_proj(x)
        filled = (caches.filled + x.shape[1] - self.again).clamp(max=self.left)
        if self.regular:
            x, lengths = x[:, :1], lengths.clamp(max=1)
        return x, lengths, Caches(torch.stack(inputs), torch.stack(times), filled)

    def _subsampled(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """[B, M, T] to [B, T', D], in which `mend` holds the zeros in front at zero."""
        x = chunk.frames.transpose(1, 2).unsqueeze(1)  # [B, 1, T, M]
        lengths, zeros = chunk.lengths, chunk.zeros if self.mend else 0
        for layer in self.subsampling.conv:
            x = layer(_silent(x, lengths, zeros))
            if getattr(layer, "stride", (1, 1)) == (2, 2):
                # Two zeros before and one after; a step is heard where its last frame is.
                lengths, zeros = lengths // 2 + 1, (zeros + 1) // 2
        x = _silent(x, lengths, zeros)
        assert self.subsampling.out is not None
        return self.subsampling.out(x.transpose(1, 2).flatten(2)), lengths

    def _hidden(self, steps: int, lengths: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """True in [B, 1, Q, K] where a key is not seen, and in [B, Q] where a step is padding."""
        place = torch.arange(self.left + steps)
        if self.regular:
            apart = place[self.left :, None] - place
            seen = (apart <= self.left) & (apart >= -self.right)
        else:
            # Chunks are counted from the start of the cache, not of the recording.
            chunk = place // (self.right + 1)
            apart = chunk[self.left :, None] - chunk
            seen = (apart >= 0) & (apart <= self.left // (self.right + 1))
        valid = (place < lengths[:, None] + self.left) & (place >= self.left - filled[:, None])
        own = valid[:, self.left :]
        seen = seen & valid[:, None] & own[:, :, None]  # [B, Q, K]
        return ~seen[:, None], ~own

    def _layer(
        self,
        layer: nn.Module,
        x: Tensor,
        cached: tuple[Tensor, Tensor],
        hidden: Tensor,
        padded: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, Q, D] to [B, Q, D], and the layer's two caches."""
        attention, time = cached
        x = x + 0.5 * layer.feed_forward1(layer.norm_feed_forward1(x))
        own = layer.norm_self_att(x)
        x = x + _attend(layer.self_attn, own, torch.cat([attention, own], dim=1), hidden)
        kept = own.shape[1] - self.again
        attention = torch.cat([attention, own[:, :kept]], dim=1)[:, kept:]
        gated = F.glu(layer.conv.pointwise_conv1(layer.norm_conv(x)), dim=-1)
        gated = gated.masked_fill(padded[:, :, None], 0.0).transpose(1, 2)  # [B, D, Q]
        whole = torch.cat([time, gated], dim=2)
        depthwise = layer.conv.depthwise_conv
        y = F.conv1d(whole, depthwise.weight, depthwise.bias, groups=whole.shape[1])
        y = F.silu(layer.conv.batch_norm(y.transpose(1, 2)))
        x = x + layer.conv.pointwise_conv2(y)
        time = whole[:, :, : whole.shape[2] - self.again][:, :, -time.shape[2] :]
        x = x + 0.5 * layer.feed_forward2(layer.norm_feed_forward2(x))
        return layer.norm_out(x), attention, time


def _silent(x: Tensor, lengths: Tensor, zeros: int) -> Tensor:
    """`x` [B, C, T, F] with zeros in its first rows and beyond its lengths."""
    place = torch.arange(x.shape[2])
    silent = (place >= lengths[:, None]) | (place < zeros)  # [B, T]
    return x.masked_fill(silent[:, None, :, None], 0.0)


def _attend(attention: nn.Module, own: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
    """Queries of `own` [B, Q, D] to keys of `seen` [B, K, D], by Transformer-XL's formula."""
    queries, keys, heads = own.shape[1], seen.shape[1], attention.config.n_heads
    q = attention.linear_q(own).unflatten(2, (heads, -1))  # [B, Q, H, E]
    k = attention.linear_k(seen).unflatten(2, (heads, -1))
    v = attention.linear_v(seen).unflatten(2, (heads, -1))
    table = sinusoids(torch.arange(1 - queries, keys), own.shape[2])  # how far a key is behind
    p = attention.linear_pos(table).unflatten(1, (heads, -1))
    behind = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)  # [Q, K]
    p = p[behind + queries - 1]  # [Q, K, H, E]
    scores = torch.einsum("bqhe,bkhe->bhqk", q + attention.pos_bias_u, k)
    scores = scores + torch.einsum("bqhe,qkhe->bhqk", q + attention.pos_bias_v, p)
    scores = (scores * q.shape[3] ** -0.5).masked_fill(hidden, -10000.0)
    weights = scores.softmax(-1).masked_fill(hidden, 0.0)
    mixed = torch.einsum("bhqk,bkhe->bqhe", weights, v).flatten(2)
    out: Tensor = attention.linear_out(mixed)
    return out
