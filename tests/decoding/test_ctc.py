"""Greedy CTC against the definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from auricle.decoding import ctc
from auricle.decoding.confidence import entropy, max_prob

BLANK = 3


def _scripted(*rows: str) -> Tensor:
    """Logits whose best outputs are the digits of each row; "-" is the blank."""
    width = max(map(len, rows))
    logits = torch.rand(len(rows), width, BLANK + 1, generator=torch.Generator().manual_seed(0))
    for row, script in zip(logits, rows, strict=True):
        for step, sign in zip(row, script, strict=False):
            step[BLANK if sign == "-" else int(sign)] += 3.0
    return logits


def test_runs_are_merged_and_blanks_divide() -> None:
    (found,), _ = ctc.greedy(_scripted("--00-011--2"), torch.tensor([11]))
    assert found.ids == (0, 0, 1, 2)
    assert found.starts == (2, 5, 6, 10)
    assert found.ends == (4, 6, 8, 11)
    assert (found.steps, found.head, found.durations) == (11, "ctc", ())


def test_rows_do_not_touch_each_other() -> None:
    """The same token at the end of one row and at the start of the next are two."""
    (first, second, third), _ = ctc.greedy(
        _scripted("0-11", "1122", "----"), torch.tensor([4, 4, 4])
    )
    assert (first.ids, first.starts, first.ends) == ((0, 1), (0, 2), (1, 4))
    assert (second.ids, second.starts, second.ends) == ((1, 2), (0, 2), (2, 4))
    assert (third.ids, third.score) == ((), 0.0)


def test_steps_behind_the_length_do_not_count() -> None:
    logits = _scripted("0111", "1111", "2222")
    lengths = torch.tensor([2, 0, 4])
    (first, second, third), _ = ctc.greedy(logits, lengths)
    assert (first.ids, first.ends) == ((0, 1), (1, 2))
    assert (second.ids, second.steps, second.score) == ((), 0, 0.0)
    assert third.ids == (2,)


def test_nothing_at_all() -> None:
    found, _ = ctc.greedy(torch.zeros(2, 0, 4), torch.tensor([0, 0]))
    assert found == [ctc.Hypothesis((), (), (), (), 0.0, head="ctc")] * 2


@pytest.mark.parametrize("measure", [max_prob, entropy()])
def test_equals_itertools(measure: ctc.Measure) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(5, 60, BLANK + 1, generator=generator)
    lengths = torch.tensor([60, 1, 33, 0, 59])
    hypotheses, _ = ctc.greedy(logits, lengths, measure=measure)
    for row, length, found in zip(logits, lengths.tolist(), hypotheses, strict=True):
        log_probs = row[:length].log_softmax(dim=-1)
        sure = measure(log_probs).tolist()
        best = log_probs.argmax(dim=-1).tolist()
        runs = [
            (id, [step for step, _ in group])
            for id, group in itertools.groupby(enumerate(best), key=lambda pair: pair[1])
            if id != BLANK
        ]
        assert found.ids == tuple(id for id, _ in runs)
        assert found.starts == tuple(steps[0] for _, steps in runs)
        assert found.ends == tuple(steps[-1] + 1 for _, steps in runs)
        assert found.confidences == pytest.approx([min(sure[s] for s in run) for _, run in runs])
        score = sum(float(log_probs[s, best[s]]) for s in range(length) if best[s] != BLANK)
        assert found.score == pytest.approx(score, abs=1e-5)


def test_logits_and_log_probabilities_give_the_same() -> None:
    logits = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([30, 20])
    plain, _ = ctc.greedy(logits + 5, lengths)
    normal, _ = ctc.greedy(logits.log_softmax(dim=-1), lengths)
    for a, b in zip(plain, normal, strict=True):
        assert (a.ids, a.starts, a.ends) == (b.ids, b.starts, b.ends)
        assert a.confidences == pytest.approx(b.confidences, abs=1e-5)
