from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.models import attention
from auricle.models.attention import (
    AttentionConfig,
    Context,
    GlobalTokens,
    Scope,
    SelfAttention,
    _by_key,
)
from auricle.models.positions import Distances, sinusoids
from tests.models.lively import difference, lively

CONTEXTS = [
    Context(),
    Context(3, 2),
    Context(3, None),
    Context(None, 0),
    Context(0, 0),
    Context(4, 0, 2),
    Context(5, 3, 4),
    Context(None, 0, 3),
]


def sees(context: Context, query: int, key: int) -> bool:
    """The rule itself, one pair at a time."""
    start = query // context.chunk * context.chunk
    after_start = context.before is None or key >= start - context.before
    before_end = context.after is None or key < start + context.chunk + context.after
    return after_start and before_end


@pytest.mark.parametrize("context", CONTEXTS)
def test_reach_is_exactly_what_some_query_sees(context):
    for first, last in [(0, 1), (0, 11), (3, 7), (5, 6), (10, 11)]:
        seen = [k for k in range(11) if any(sees(context, q, k) for q in range(first, last))]
        assert context.reach(first, last, 11) == (seen[0], seen[-1] + 1)


@pytest.mark.parametrize("context", CONTEXTS)
def test_hidden_is_what_a_query_does_not_see(context):
    for queries in (range(11), range(3, 7), range(10, 11)):
        keys = range(*context.reach(queries.start, queries.stop, 11))
        hidden = context.hidden(queries, keys, torch.device("cpu"))
        expected = [[not sees(context, q, k) for k in keys] for q in queries]
        if hidden is None:
            assert not any(map(any, expected))
        else:
            assert hidden.tolist() == expected


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 6), (4, 4), (3, 7), (7, 3)])
def test_scores_by_distance_become_scores_by_key(queries, keys):
    by_distance = torch.randn(2, 3, queries, keys + queries - 1)
    by_key = _by_key(by_distance)
    assert by_key.shape == (2, 3, queries, keys)
    for i in range(queries):
        for j in range(keys):
            assert torch.equal(by_key[..., i, j], by_distance[..., i, j + queries - 1 - i])


def slowly(layer: SelfAttention, x: Tensor, context: Context, lengths: list[int]) -> Tensor:
    """Attention by its definition, for one pair of steps at a time."""
    heads = layer.config.n_heads
    width = x.shape[2] // heads
    out = torch.zeros_like(x)
    q, k, v = (
        linear(x).view(*x.shape[:2], heads, width)
        for linear in (layer.linear_q, layer.linear_k, layer.linear_v)
    )
    for b, length in enumerate(lengths):
        for i in range(length):
            keys = [j for j in range(length) if sees(context, i, j)]
            for h in range(heads):
                scores = []
                for j in keys:
                    far = layer.linear_pos(sinusoids(torch.tensor([i - j]), x.shape[2]))
                    p = far.view(heads, width)[h]
                    content = (q[b, i, h] + layer.pos_bias_u[h]) @ k[b, j, h]
                    place = (q[b, i, h] + layer.pos_bias_v[h]) @ p
                    scores.append((content + place) * width**-0.5)
                weights = torch.stack(scores).softmax(0)
                mixed = sum(w * v[b, j, h] for w, j in zip(weights, keys, strict=True))
                out[b, i, h * width : (h + 1) * width] = mixed
    return layer.linear_out(out)


@pytest.mark.parametrize("block", [3, 4, 256])
@pytest.mark.parametrize("context", CONTEXTS)
def test_equals_the_definition(monkeypatch, context, block):
    monkeypatch.setattr(attention, "BLOCK_CPU", block)
    layer = lively(SelfAttention(AttentionConfig(8, 2)))
    x = torch.randn(2, 11, 8, generator=torch.Generator().manual_seed(0))
    lengths = [11, 6]
    with torch.no_grad():
        scope = Scope.over(x, torch.tensor(lengths), context, Distances(8))
        got, expected = layer(x, scope), slowly(layer, x, context, lengths)
    for a, b, length in zip(got, expected, lengths, strict=True):
        assert difference(a[:length], b[:length]) < 1e-5
    assert torch.isfinite(got).all()


@pytest.mark.parametrize("separate", [False, True])
def test_global_tokens_are_seen_by_all_and_see_all(separate):
    tokens = GlobalTokens(2, 3, separate)
    layer = lively(SelfAttention(AttentionConfig(8, 2, globals=tokens)))
    x = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
    context = Context(2, 2)

    def at(step: int, changed: int) -> bool:
        """Whether `step` hears a change at step `changed`."""
        other = x.clone()
        other[:, changed] += 1.0
        outs = [
            layer(y, Scope.over(y, None, context, Distances(8, (2, 2))))[0, step]
            for y in (x, other)
        ]
        return bool((outs[0] - outs[1]).abs().max() > 1e-6)

    with torch.no_grad():
        assert at(30, 0)
        assert at(30, 3)
        assert not at(30, 1)
        assert at(0, 30)
        assert at(3, 30)


def test_blocks_stay_small_however_long_the_recording():
    x = torch.zeros(1, 20000, 4)
    scope = Scope.over(x, None, Context(100, 50), Distances(4))
    rows = [block.keys.stop - block.keys.start for block in scope.blocks]
    assert max(rows) <= attention.BLOCK_CPU + 1 + 150
    assert sum(b.queries.stop - b.queries.start for b in scope.blocks) == 20000
    assert scope.distances is not None
    assert len(scope.distances) < 1000


def test_nothing_is_masked_where_nothing_is_hidden():
    x = torch.zeros(2, 30, 4)
    assert Scope.over(x, None, Context(), Distances(4)).blocks[0].hidden is None
    assert Scope.over(x, None, Context(30, 30), Distances(4)).blocks[0].hidden is None
    assert Scope.over(x, None, Context(28, 30), Distances(4)).blocks[0].hidden is not None
