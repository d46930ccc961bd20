"""The transducer losses as their definition says: a plain recursion over the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def slow_loss(
    logits: Tensor, labels: Sequence[int], durations: Sequence[int] = (), sigma: float = 0.0
) -> Tensor | None:
    """-log p of one utterance from logits [T, U + 1, V + 1 + D]; None if no path fits."""
    end, last = logits.shape[0], len(labels)
    count = logits.shape[-1] - len(durations)
    tokens = logits[..., :count].log_softmax(-1) - sigma
    lengths = logits[..., count:].log_softmax(-1)
    blanks = [(d, i) for i, d in enumerate(durations) if d > 0] if durations else [(1, None)]
    steps = list(enumerate(durations)) if durations else [(None, 0)]

    @cache
    def rest(t: int, u: int) -> Tensor | None:
        """The log-probability of everything from (t, u) to the end."""
        ways = []
        for d, i in blanks:
            score = tokens[t, u, -1] + (0 if i is None else lengths[t, u, i])
            if t + d == end and u == last:
                ways.append(score)
            elif t + d < end and (after := rest(t + d, u)) is not None:
                ways.append(score + after)
        for i, d in steps:
            if u < last and t + d < end and (after := rest(t + d, u + 1)) is not None:
                score = tokens[t, u, labels[u]] + (0 if i is None else lengths[t, u, i])
                ways.append(score + after)
        return torch.logsumexp(torch.stack(ways), 0) if ways else None

    total = rest(0, 0)
    return None if total is None else -total
