"""Forced alignment: where in the sound each token of a known text is, by the outputs of a CTC head.

The best path of the text's tokens and blanks through the steps (Viterbi), many clips at once.
Letters in shapes: B batch, T encoder steps, V vocabulary without blank, S states: a blank, the
first token, a blank, the second token, ..., a blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alignment:
    """Where a text's tokens are; every tuple has one entry per token.

    `starts` and `ends` are encoder steps, `ends` exclusive; a blank stands between tokens that do
    not touch. `scores` are the mean log-probability of a token over its steps, `score` is the sum
    of the whole path's, blanks included.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    scores: tuple[float, ...]
    score: float


def needed_steps(tokens: Sequence[int]) -> int:
    """The fewest steps that CTC can align with `tokens`: a blank stands between equals."""
    return len(tokens) + sum(one == other for one, other in pairwise(tokens))


@torch.inference_mode()
def align(
    log_probs: Tensor, lengths: Tensor, texts: Sequence[Sequence[int]]
) -> list[Alignment | None]:
    """Align a batch of clips with their texts.

    Where several paths are equally likely, a state is held rather than reached from another, and
    the end is the last token rather than the blank behind it. But for such ties the path is that
    of torchaudio's `forced_align`, and the spans are those of its `merge_tokens`.

    Args:
        log_probs: [B, T, V+1], normalised; the blank is the last output.
        lengths: [B], steps that count in each row.
        texts: Token ids, without blanks, of each row.

    Returns:
        An alignment for each row; None where the text does not fit into the steps.
    """
    blank = log_probs.shape[-1] - 1
    log_probs = log_probs.float()
    counts = lengths.tolist()
    fits = [
        needed_steps(text) <= steps and steps > 0 for text, steps in zip(texts, counts, strict=True)
    ]
    states, ends = _states(texts, blank)
    emitted = log_probs.gather(  # [B, T, V+1] -> [B, T, S]
        2, states.to(log_probs.device)[:, None, :].expand(-1, log_probs.shape[1], -1)
    )
    moves, best = _forward(emitted, states, counts, ends)
    emitted = emitted.cpu()
    return [
        _traced(moves[row, :steps], best[row], emitted[row], ends[row]) if fit else None
        for row, (steps, fit) in enumerate(zip(counts, fits, strict=True))
    ]


def _states(texts: Sequence[Sequence[int]], blank: int) -> tuple[Tensor, list[int]]:
    """Outputs that the states stand for [B, S], blanks behind each row's own; and their numbers."""
    ends = [2 * len(text) + 1 for text in texts]
    states = torch.full((len(texts), max(ends, default=1)), blank, dtype=torch.int64)
    for row, text in zip(states, texts, strict=True):
        row[1 : 2 * len(text) : 2] = torch.tensor(text, dtype=torch.int64)
    return states, ends


def _forward(
    emitted: Tensor, states: Tensor, counts: Sequence[int], ends: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """How each state was best reached [B, T, S], and the totals of each row's last step [B, S].

    A state is reached by staying (0), from the one before (1), or over a blank (2).
    """
    batch, steps, width = emitted.shape
    device = emitted.device
    nowhere = float("-inf")
    skips = torch.zeros_like(states, dtype=torch.bool)  # onto another token than the last one
    skips[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    skips = skips.to(device)
    inside = torch.arange(width)[None, :] < torch.tensor(list(ends))[:, None]
    inside, limits = inside.to(device), torch.tensor(list(counts), device=device)[:, None]
    totals = torch.full((batch, width), nowhere, device=device)
    totals[:, :2] = emitted[:, 0, :2] if steps else nowhere
    totals = totals.masked_fill(~inside, nowhere)
    moves = torch.zeros(batch, steps, width, dtype=torch.int8, device=device)
    for step in range(1, steps):
        reached, move = totals, moves[:, step]
        for size in (1, 2):
            if width <= size:
                continue
            came = torch.full_like(totals, nowhere)
            came[:, size:] = totals[:, :-size]
            if size == 2:
                came = came.masked_fill(~skips, nowhere)
            better = came > reached
            reached = torch.where(better, came, reached)
            move.masked_fill_(better, size)
        totals = torch.where(step < limits, reached + emitted[:, step], totals)
    return moves.cpu(), totals.cpu()


def _traced(moves: Tensor, totals: Tensor, emitted: Tensor, states: int) -> Alignment | None:
    """Follow the moves [T, S] back from the better of the last two states."""
    state = states - 1
    if states > 1 and totals[states - 2] >= totals[states - 1]:
        state = states - 2
    score = float(totals[state])
    if score == float("-inf"):
        return None
    path: list[int] = []
    for row in moves.flip(0).tolist():
        path.append(state)
        state -= row[state]
    path.reverse()
    starts, ends, scores = [], [], []
    for state, run in groupby(enumerate(path), key=lambda at: at[1]):
        if state % 2:
            at = [step for step, _ in run]
            starts.append(at[0])
            ends.append(at[-1] + 1)
            scores.append(float(emitted[at[0] : at[-1] + 1, state].mean()))
    return Alignment(tuple(starts), tuple(ends), tuple(scores), score)
