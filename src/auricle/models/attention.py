"""Self-attention with relative, local or absolute positions, in memory linear in time.

Queries are taken in blocks, each with the keys it can reach. What the blocks may see, and how
distances are encoded, is the same for all layers and so is worked out once, as a `Scope`.

Letters in shapes: B batch, T steps, D width, H heads, E width of a head, Q queries and K keys of
a block, N distances, G global tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.models.convolution import beyond, put, take
from auricle.models.positions import AHEAD, Distances

HIDDEN = -10000.0  # NeMo's score for what may not be seen; finite, so a blind row stays finite
BLOCK_CPU, BLOCK_CUDA = 256, 1024


@dataclass(frozen=True)
class Context:
    """The keys a query may see: its own chunk, and so many steps before and after it.

    A chunk of one step makes the plain sliding window. None is no limit.
    """

    before: int | None = None
    after: int | None = None
    chunk: int = 1

    def reach(self, first: int, last: int, total: int) -> tuple[int, int]:
        """The range of keys that queries first..last - 1 see any of."""
        low = 0 if self.before is None else self._start(first) - self.before
        high = total if self.after is None else self._end(last - 1) + self.after
        return max(0, low), min(total, high)

    def hidden(self, queries: range, keys: range, device: torch.device) -> Tensor | None:
        """True in [Q, K] where a query may not see a key; None where all see all."""
        ahead = self.after is not None and self._end(queries[0]) + self.after < keys.stop
        behind = self.before is not None and self._start(queries[-1]) - self.before > keys.start
        if not ahead and not behind:
            return None
        i = torch.arange(queries.start, queries.stop, device=device)[:, None]  # [Q, 1]
        j = torch.arange(keys.start, keys.stop, device=device)  # [K]
        chunk = i // self.chunk * self.chunk
        hidden = torch.zeros(len(queries), len(keys), dtype=torch.bool, device=device)
        if self.before is not None:
            hidden |= j < chunk - self.before
        if self.after is not None:
            hidden |= j >= chunk + self.chunk + self.after
        return hidden

    def _start(self, step: int) -> int:
        return step // self.chunk * self.chunk

    def _end(self, step: int) -> int:
        return self._start(step) + self.chunk


@dataclass(frozen=True)
class Block:
    """Some queries, their keys, and the rows of the distance table that lie between them.

    `hidden` [B or 1, 1, Q or 1, K] is True where a key may not be seen.
    """

    queries: slice
    keys: slice
    distances: slice
    hidden: Tensor | None


@dataclass(frozen=True)
class Scope:
    """What the steps of one batch may see of each other.

    `distances` [N, D] is None where positions are absolute. `lengths` [B], and `padding`
    [B, T, 1] which holds beyond them, are None when no row is shorter than the others.
    """

    blocks: tuple[Block, ...]
    distances: Tensor | None
    lengths: Tensor | None
    padding: Tensor | None

    @classmethod
    def over(
        cls, x: Tensor, lengths: Tensor | None, context: Context, distances: Distances | None
    ) -> Scope:
        """Cut the steps of `x` [B, T, D] into blocks of queries."""
        steps = x.shape[1]
        count = max(1, round(steps / (BLOCK_CPU if x.device.type == "cpu" else BLOCK_CUDA)))
        cuts = [steps * i // count for i in range(count + 1)]
        ranges = [(range(a, b), range(*context.reach(a, b, steps))) for a, b in pairwise(cuts)]
        table, zero = None, 0
        if distances is not None:
            low = min(keys.start - (queries.stop - 1) for queries, keys in ranges)
            high = max(keys.stop - 1 - queries.start for queries, keys in ranges)
            table, zero = distances.rows(low, high, x)
        return cls(
            tuple(_block(q, k, zero, lengths, context.hidden(q, k, x.device)) for q, k in ranges),
            table,
            lengths,
            None if lengths is None else beyond(lengths, steps),
        )


def _block(
    queries: range, keys: range, zero: int, lengths: Tensor | None, hidden: Tensor | None
) -> Block:
    mask = None if hidden is None else hidden[None, None]  # [1, 1, Q, K]
    if lengths is not None:
        j = torch.arange(keys.start, keys.stop, device=lengths.device)
        padding = (j >= lengths[:, None])[:, None, None]  # [B, 1, 1, K]
        mask = padding if mask is None else mask | padding
    nearest, farthest = zero + keys.start - (queries.stop - 1), zero + keys.stop - queries.start
    return Block(
        slice(queries.start, queries.stop),
        slice(keys.start, keys.stop),
        slice(nearest, farthest),
        mask,
    )


@dataclass(frozen=True)
class AttentionMemory:
    """What the attention of layer number `layer` remembers of S streams; `step` writes on it.

    `keys_values` [S, R, 2D] is a ring: step t stands at place t modulo R. `queries` [S, Q, D] wait
    for the steps after them, where attention looks ahead beyond its own chunk.
    """

    layer: int
    keys_values: Tensor
    queries: Tensor


@dataclass(frozen=True)
class StepScope:
    """What a chunk of T steps of each of B streams may see in its layer.

    `rows` [B] are the streams' places in the memory, None for all in order. `write` [B * T] and
    `read` [B * K] are places in the rings of all streams. `positions` are every layer's projected
    distances, [H, E, N]. `padding` [B, T, 1] holds at steps that the stream does not have.
    """

    rows: Tensor | None
    write: Tensor
    read: Tensor
    positions: tuple[Tensor, ...]
    block: Block
    padding: Tensor | None


def delayed(x: Tensor, waiting: Tensor, rows: Tensor | None) -> Tensor:
    """What comes out when `x` [B, T, D] goes into a queue, `waiting` [S, Q, D], of Q steps."""
    if waiting.shape[1] == 0:
        return x
    queue = torch.cat([take(waiting, rows), x], dim=1)  # [B, Q + T, D]
    put(waiting, rows, queue[:, x.shape[1] :])
    return queue[:, : x.shape[1]]


@dataclass(frozen=True)
class GlobalTokens:
    """Steps 0, spacing, 2 * spacing ... see everything and are seen by all.

    `separate` gives them their own projections.
    """

    count: int
    spacing: int = 1
    separate: bool = False

    def steps(self, total: int, device: torch.device) -> Tensor:
        """Their numbers among `total` steps, [G]."""
        return torch.arange(0, min(self.count * self.spacing, total), self.spacing, device=device)


@dataclass(frozen=True)
class AttentionConfig:
    """`relative` positions need distances in the scope; global tokens need `relative`."""

    d_model: int
    n_heads: int
    bias: bool = True
    dropout: float = 0.0
    relative: bool = True
    globals: GlobalTokens | None = None


class SelfAttention(nn.Module):
    """Attention of Transformer-XL (https://arxiv.org/abs/1901.02860, appendix B).

    With global tokens, that of Longformer (https://arxiv.org/abs/2004.05150).
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        d, heads = config.d_model, config.n_heads
        self.config = config
        self.linear_q = nn.Linear(d, d, bias=config.bias)
        self.linear_k = nn.Linear(d, d, bias=config.bias)
        self.linear_v = nn.Linear(d, d, bias=config.bias)
        self.linear_out = nn.Linear(d, d, bias=config.bias)
        if config.relative:
            self.linear_pos = nn.Linear(d, d, bias=False)
            self.pos_bias_u = nn.Parameter(torch.zeros(heads, d // heads))
            self.pos_bias_v = nn.Parameter(torch.zeros(heads, d // heads))
        if config.globals and config.globals.separate:
            self.global_q = nn.Linear(d, d, bias=config.bias)
            self.global_k = nn.Linear(d, d, bias=config.bias)
            self.global_v = nn.Linear(d, d, bias=config.bias)
        self.linear_qkv: nn.Module | None = None
        # One pair at most, in a list so that adapted models share it.
        self.projected: list[tuple[Tensor, Tensor]] = []

    def fuse(self) -> None:
        """Make one product of three, and remember what distances are projected to."""
        parts = (self.linear_q, self.linear_k, self.linear_v)
        with torch.device("meta"):
            fused = nn.Linear(self.config.d_model, 3 * self.config.d_model, self.config.bias)
        fused.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
        if self.config.bias:
            bias = torch.cat([part.bias for part in parts])
            fused.bias = nn.Parameter(bias, requires_grad=False)
        self.linear_qkv = fused
        del self.linear_q, self.linear_k, self.linear_v

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        """Attend within [B, T, D]; what padded steps get is of no meaning."""
        q, k, v = self.project(x)
        p = None if scope.distances is None else self.project_distances(scope.distances)
        if self.config.globals is None or self.config.globals.count == 0:
            out = torch.cat([self._attend(q, k, v, p, block) for block in scope.blocks], dim=1)
            return self._out(out)
        return self._out(self._attend_globally(x, (q, k, v), p, scope))

    def step(self, x: Tensor, memory: AttentionMemory, scope: StepScope) -> Tensor:
        """Attend from a chunk [B, T, D] of each of B streams to what they remember.

        With `memory.queries`, the answers are those of as many steps before.
        """
        d = self.config.d_model
        q, kv = self._query_and_memory(x)
        ring = memory.keys_values.view(-1, 2 * d)
        ring.index_copy_(0, scope.write, kv.reshape(-1, 2 * d))
        seen = ring.index_select(0, scope.read).view(len(x), -1, 2 * d)  # [B, K, 2D]
        k, v = self._heads(seen[..., :d]), self._heads(seen[..., d:])
        q = self._heads(delayed(q, memory.queries, scope.rows))
        return self._out(self._attend(q, k, v, scope.positions[memory.layer], scope.block))

    def _query_and_memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, T, D], and keys beside values [B, T, 2D]."""
        d = self.config.d_model
        if self.linear_qkv is not None:
            qkv = self.linear_qkv(x)
            return qkv[..., :d], qkv[..., d:]
        return self.linear_q(x), torch.cat([self.linear_k(x), self.linear_v(x)], dim=-1)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of `x` [B, T, D], each [B, T, H, E]."""
        if self.linear_qkv is not None:
            q, k, v = self.linear_qkv(x).chunk(3, dim=-1)
            return self._heads(q), self._heads(k), self._heads(v)
        return (
            self._heads(self.linear_q(x)),
            self._heads(self.linear_k(x)),
            self._heads(self.linear_v(x)),
        )

    def project_distances(self, distances: Tensor) -> Tensor:
        """[N, D] to [H, E, N]."""
        for remembered in self.projected[:1]:
            if remembered[0] is distances:
                return remembered[1]
        projected = self._heads(self.linear_pos(distances)).permute(1, 2, 0)
        if self.linear_qkv is not None and len(distances) == 2 * AHEAD + 1:
            self.projected[:] = [(distances, projected)]
        return projected

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, p: Tensor | None, block: Block) -> Tensor:
        """The block's queries attend to its keys: [B, Q, H, E]."""
        q = q[:, block.queries]
        k, v = k[:, block.keys].transpose(1, 2), v[:, block.keys].transpose(1, 2)  # [B, H, K, E]
        q, bias = self._biased(q, p, block)
        return self._mix(q, k, v, bias)

    def _biased(self, q: Tensor, p: Tensor | None, block: Block) -> tuple[Tensor, Tensor | None]:
        """Queries [B, H, Q, E], and what to add to scores, [B, H or 1, Q or 1, K]."""
        if p is not None:
            bias = self._distance_scores(q, p[:, :, block.distances])
            q = q + self.pos_bias_u
            if block.hidden is not None:
                bias = bias.masked_fill(block.hidden, HIDDEN)
            return q.transpose(1, 2), bias
        if block.hidden is None:
            return q.transpose(1, 2), None
        return q.transpose(1, 2), q.new_zeros(()).masked_fill(block.hidden, HIDDEN)

    def _distance_scores(self, q: Tensor, p: Tensor) -> Tensor:
        """Scores of queries [B, Q, H, E] for the distances to all keys: [B, H, Q, K]."""
        batch, queries, heads, width = q.shape
        q = (q + self.pos_bias_v) * width**-0.5
        flat = q.permute(2, 0, 1, 3).reshape(heads, batch * queries, width)  # [H, B * Q, E]
        scores = torch.bmm(flat, p).view(heads, batch, queries, -1).transpose(0, 1)  # [B, H, Q, N]
        return _by_key(scores)

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        dropout = self.config.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return out.transpose(1, 2)  # [B, Q, H, E]

    def _attend_globally(
        self, x: Tensor, qkv: tuple[Tensor, Tensor, Tensor], p: Tensor | None, scope: Scope
    ) -> Tensor:
        """As `_attend`, with global tokens as further keys; [B, T, H, E].

        Their keys are zeros here, and their scores, which know no positions, come as bias.
        """
        tokens = self.config.globals
        assert tokens is not None
        steps = tokens.steps(x.shape[1], x.device)
        q, k, v = qkv
        gq, gk, gv = qkv
        if tokens.separate:
            gq, gk, gv = (
                self._heads(linear(x)) for linear in (self.global_q, self.global_k, self.global_v)
            )
        scores = torch.einsum("bthe,bghe->bhtg", gq, gk[:, steps]) * q.shape[-1] ** -0.5
        if scope.lengths is not None:
            scores = scores.masked_fill((steps >= scope.lengths[:, None])[:, None, None], HIDDEN)
        values = v[:, steps].transpose(1, 2)  # [B, H, G, E]
        outs = []
        for block in scope.blocks:
            local, bias = self._biased(q[:, block.queries], p, block)
            assert bias is not None
            bias = torch.cat([scores[:, :, block.queries], bias], dim=-1)
            keys = torch.cat([torch.zeros_like(values), k[:, block.keys].transpose(1, 2)], dim=2)
            mixed = torch.cat([values, v[:, block.keys].transpose(1, 2)], dim=2)
            outs.append(self._mix(local, keys, mixed, bias))
        overview = self._overview(gq[:, steps], gk, gv, scope.lengths)
        return torch.cat(outs, dim=1).index_copy(1, steps, overview)

    def _overview(self, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None) -> Tensor:
        """What the global tokens [B, G, H, E] themselves see: every step; [B, G, H, E]."""
        batch, count, heads, width = q.shape
        # NeMo exchanges heads and tokens by a reshape where a transpose was meant.
        q = q.reshape(batch, heads, count, width)
        bias = None
        if lengths is not None:
            j = torch.arange(k.shape[1], device=k.device)
            padding = (j >= lengths[:, None])[:, None, None]  # [B, 1, 1, T]
            bias = q.new_zeros(()).masked_fill(padding, HIDDEN)
        return self._mix(q, k.transpose(1, 2), v.transpose(1, 2), bias)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.config.n_heads, -1)  # [..., H, E]

    def _out(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear_out(x.flatten(2))
        return out


def _by_key(scores: Tensor) -> Tensor:
    """From scores by distance [..., Q, N] to scores by key [..., Q, K], where N = K + Q - 1.

    Query i finds key 0 at distance Q - 1 - i: every row begins one place earlier than the one
    above, which makes the result a view of the same memory with rows one place shorter.
    """
    queries, distances = scores.shape[-2:]
    if queries == 1:
        return scores
    rows = scores.flatten(-2)[..., queries - 1 : queries * distances - 1]
    rows = rows.view(*scores.shape[:-1], distances - 1)
    return rows[..., : distances - queries + 1]
