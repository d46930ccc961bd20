"""Greedy CTC: the best output at every step, runs of one token merged, blanks dropped.

Letters in shapes: B batch, T encoder steps, V vocabulary without blank, N steps of all runs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from auricle.decoding import Hypothesis
from auricle.decoding.confidence import Measure, max_prob


@torch.inference_mode()
def greedy(logits: Tensor, lengths: Tensor, *, measure: Measure = max_prob) -> list[Hypothesis]:
    """Decode a batch of clips.

    A token starts with the first step of its run and ends behind the last one; its confidence is
    the least of the run's steps, as in NeMo.

    Args:
        logits: [B, T, V+1], normalised or not; the blank is the last output.
        lengths: [B], steps that count in each row.
        measure: Confidence of one step, from its log-probabilities.
    """
    blank = logits.shape[-1] - 1
    best = logits.argmax(dim=-1)  # [B, T]
    best.masked_fill_(torch.arange(best.shape[1], device=best.device) >= lengths[:, None], blank)
    at = best.ne(blank).nonzero(as_tuple=True)
    log_probs = logits[at].float().log_softmax(dim=-1)  # [N, V+1]
    sure = measure(log_probs).cpu().numpy()  # [N]
    rows, steps, labels = torch.stack((*at, best[at])).cpu().numpy()  # [N] each
    scores = np.bincount(rows, log_probs.amax(dim=-1).cpu().numpy(), minlength=len(logits))

    fresh = (np.diff(rows, prepend=-1) != 0) | (np.diff(steps, prepend=-1) != 1)
    heads = (fresh | (np.diff(labels, prepend=-1) != 0)).nonzero()[0]  # first step of each run
    tails = np.append(heads[1:], len(rows))[: len(heads)] - 1  # last step of each run
    least = np.minimum.reduceat(sure, heads) if len(heads) else sure
    borders = np.searchsorted(rows[heads], np.arange(len(scores) + 1))
    return [
        Hypothesis(
            ids=tuple(labels[heads[a:b]].tolist()),
            starts=tuple(steps[heads[a:b]].tolist()),
            ends=tuple((steps[tails[a:b]] + 1).tolist()),
            confidences=tuple(least[a:b].tolist()),
            score=float(score),
            steps=int(length),
            head="ctc",
        )
        for a, b, score, length in zip(
            borders[:-1], borders[1:], scores, lengths.tolist(), strict=True
        )
    ]
