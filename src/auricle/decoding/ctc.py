"""Greedy CTC: the best output at every step, runs of one token merged, blanks dropped.

Letters in shapes: B batch, T encoder steps, V vocabulary without blank, N steps in runs, R runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle.decoding import Hypothesis
from auricle.decoding.confidence import Measure, max_prob

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CTCState:
    """The run that each of a batch of streams stands in, which the next chunk may go on with."""

    label: Tensor  # [B] best output of the last step; the blank before the first step
    start: Tensor  # [B] step at which its run began; 0 for a blank
    confidence: Tensor  # [B] least of its run so far; 0 for a blank
    steps: Tensor  # [B] steps seen so far

    def select(self, rows: Sequence[int]) -> CTCState:
        """A copy of those rows."""
        at = torch.tensor(rows, dtype=torch.int64)
        return self.from_tensors({n: t.index_select(0, at) for n, t in self.tensors().items()})

    def put(self, rows: Sequence[int], part: CTCState) -> CTCState:
        """A new state, in which the rows of `part` stand at `rows`."""
        at, new = torch.tensor(rows, dtype=torch.int64), part.tensors()
        return self.from_tensors(
            {n: t.index_copy(0, at, new[n]) for n, t in self.tensors().items()}
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything in it, for saving."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> CTCState:
        """The inverse of `tensors`."""
        return cls(*(tensors[n].cpu() for n in ("label", "start", "confidence", "steps")))


def initial_state(batch: int, blank_id: int) -> CTCState:
    """Before the first step, as if a blank had gone before."""
    start = torch.zeros(batch, dtype=torch.int64)
    label = torch.full_like(start, blank_id)
    return CTCState(label, start, torch.zeros(batch), start.clone())


@torch.inference_mode()
def greedy(
    logits: Tensor,
    lengths: Tensor,
    *,
    measure: Measure = max_prob,
    state: CTCState | None = None,
) -> tuple[list[Hypothesis], CTCState]:
    """Decode a batch of clips, or of the next chunks of streams.

    A token starts with the first step of its run and ends behind the last one; its confidence is
    the least of the run's steps, as in NeMo. A run that reaches over the seam of two chunks is the
    last token of the one and comes again, longer, as the first of the other: see
    `Hypothesis.continues`.

    Args:
        logits: [B, T, V+1], normalised or not; the blank is the last output.
        lengths: [B], steps that count in each row; 0 is allowed.
        measure: Confidence of one step, from its log-probabilities.
        state: What the call for the chunks before returned; it is not changed.
    """
    blank = logits.shape[-1] - 1
    before = state or initial_state(len(logits), blank)
    best = logits.argmax(dim=-1)  # [B, T]
    behind = torch.arange(best.shape[1], device=best.device) >= lengths.to(best.device)[:, None]
    at = best.masked_fill_(behind, blank).ne(blank).nonzero(as_tuple=True)
    log_probs = logits[at].float().log_softmax(dim=-1)  # [N, V+1]
    sure = measure(log_probs).cpu().numpy()  # [N]
    rows, steps, labels = torch.stack((*at, best[at])).cpu().numpy()  # [N] each
    scores = np.bincount(rows, log_probs.amax(dim=-1).cpu().numpy(), minlength=len(logits))

    runs = _joined(_runs(rows, steps, labels, sure), before)
    ends = _end_state(runs, before, lengths.cpu(), blank)
    columns = (runs.labels, runs.starts, runs.ends, runs.least, runs.old)
    ids, first, last, least, old = (column.tolist() for column in columns)
    borders = np.searchsorted(runs.rows, np.arange(len(logits) + 1)).tolist()
    return [
        Hypothesis(
            ids=tuple(ids[a:b]),
            starts=tuple(first[a:b]),
            ends=tuple(last[a:b]),
            confidences=tuple(least[a:b]),
            score=float(score),
            steps=seen,
            head="ctc",
            continues=any(old[a:b]),
        )
        for a, b, score, seen in zip(
            borders[:-1], borders[1:], scores, ends.steps.tolist(), strict=True
        )
    ], ends


@dataclass(frozen=True)
class _Runs:
    """Runs of one token in the order of rows and steps, all [R]."""

    rows: Ints
    labels: Ints
    starts: Ints
    ends: Ints  # exclusive
    least: Floats  # the least confidence of its steps
    old: Bools  # whether it began in an earlier chunk


def _runs(rows: Ints, steps: Ints, labels: Ints, sure: Floats) -> _Runs:
    """Merge the steps [N] that are no blanks; `steps` count from the chunk's start."""
    fresh = (np.diff(rows, prepend=-1) != 0) | (np.diff(steps, prepend=-1) != 1)
    heads = (fresh | (np.diff(labels, prepend=-1) != 0)).nonzero()[0]  # first step of each run
    tails = np.append(heads[1:], len(rows))[: len(heads)] - 1  # last step of each run
    least = np.minimum.reduceat(sure, heads) if len(heads) else sure
    old = np.zeros(len(heads), dtype=bool)
    return _Runs(rows[heads], labels[heads], steps[heads], steps[tails] + 1, least, old)


def _joined(runs: _Runs, before: CTCState) -> _Runs:
    """The same runs in steps of the stream; a row's first may go on with that of `before`."""
    rows, seen = runs.rows, before.steps.numpy()[runs.rows]
    old = (runs.starts == 0) & (runs.labels == before.label.numpy()[rows])
    return _Runs(
        rows,
        runs.labels,
        np.where(old, before.start.numpy()[rows], runs.starts + seen),
        runs.ends + seen,
        np.where(old, np.minimum(runs.least, before.confidence.numpy()[rows]), runs.least),
        old,
    )


def _end_state(runs: _Runs, before: CTCState, lengths: Tensor, blank: int) -> CTCState:
    """Where streams stand after chunks of `lengths` [B]; a row without steps stays as it is."""
    steps, waits = before.steps + lengths, lengths == 0
    last = (runs.ends == steps.numpy()[runs.rows]).nonzero()[0]  # runs that reach the chunk's end
    rows = torch.from_numpy(runs.rows[last])

    def after(old: Tensor, none: int, new: npt.NDArray[np.generic]) -> Tensor:
        return old.where(waits, none).index_copy(0, rows, torch.from_numpy(new[last]))

    return CTCState(
        after(before.label, blank, runs.labels),
        after(before.start, 0, runs.starts),
        after(before.confidence, 0, runs.least),
        steps,
    )
