"""Greedy CTC against the definition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from auricle.decoding import Hypothesis, ctc
from auricle.decoding.confidence import Measure, entropy, max_prob
from auricle.decoding.ctc import CTCState

from .chunks import assert_same_state, decode_in_chunks, joined, random_cuts, restored

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
    assert found == [Hypothesis((), (), (), (), 0.0, head="ctc")] * 2


@pytest.mark.parametrize("measure", [max_prob, entropy()])
def test_equals_itertools(measure: Measure) -> None:
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


def _in_chunks(script: str, *lengths: int) -> tuple[list[Hypothesis], CTCState]:
    """The hypotheses of chunks of `lengths`, and the state behind the last."""
    logits, state = _scripted(script), ctc.initial_state(1, BLANK)
    found: list[Hypothesis] = []
    first = 0
    for length in lengths:
        (part,), state = ctc.greedy(
            logits[:, first : first + length], torch.tensor([length]), state=state
        )
        found.append(part)
        first += length
    return found, state


def test_a_run_over_three_chunks_is_one_token() -> None:
    (first, second, third), state = _in_chunks("-00" + "00" + "0-1", 3, 2, 3)
    assert (first.ids, first.starts, first.ends, first.continues) == ((0,), (1,), (3,), False)
    assert (second.ids, second.starts, second.ends, second.continues) == ((0,), (1,), (5,), True)
    assert (third.ids, third.starts, third.ends) == ((0, 1), (1, 7), (6, 8))
    assert third.continues
    (whole,), _ = ctc.greedy(_scripted("-00000-1"), torch.tensor([8]))
    assert joined([first, second, third]).confidences == whole.confidences
    assert (first.steps, second.steps, third.steps) == (3, 5, 8)
    assert (state.label.tolist(), state.start.tolist()) == ([1], [7])


def test_a_blank_or_another_token_at_the_seam_begins_anew() -> None:
    for script in ("00" + "-0", "0-" + "00", "00" + "10"):
        (first, second), _ = _in_chunks(script, 2, 2)
        assert first.ids == (0,)
        assert not second.continues
        assert second.starts[0] >= 2


def test_an_empty_chunk_changes_nothing() -> None:
    (_, empty, last), _ = _in_chunks("-0" + "0-", 2, 0, 2)
    assert (empty.ids, empty.score, empty.steps, empty.continues) == ((), 0.0, 2, False)
    assert (last.ids, last.starts, last.ends, last.continues) == ((0,), (1,), (3,), True)

    _, before = _in_chunks("-0", 2)
    # A row that has nothing while its neighbour has a step: here both are the same stream.
    _, after = ctc.greedy(
        _scripted("1", "1"), torch.tensor([0, 1]), state=before.select([0]).select([0, 0])
    )
    assert_same_state(after.select([0]), before)
    assert after.label.tolist() == [0, 1]


def test_the_state_handed_in_is_not_changed() -> None:
    _, state = _in_chunks("-0", 2)
    before = restored(state)
    ctc.greedy(_scripted("0011"), torch.tensor([4]), state=state)
    assert_same_state(state, before)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("measure", [max_prob, entropy()])
def test_random_cuts_equal_the_whole(seed: int, measure: Measure) -> None:
    """Whatever the cuts, and whichever streams share a batch; few labels make long runs."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 40, BLANK + 1, generator=generator)
    logits = 3 * (logits + logits.roll(1, dims=1))
    lengths = torch.tensor([40, 0, 1, 23, 40])
    whole, end = ctc.greedy(logits, lengths, measure=measure)
    parts, state = decode_in_chunks(
        lambda chunk, steps, state: ctc.greedy(chunk, steps, measure=measure, state=state),
        logits,
        [random_cuts(length, generator) for length in lengths.tolist()],
        ctc.initial_state(5, BLANK),
        generator,
    )
    for own, expected in zip(parts, whole, strict=True):
        found = joined(own)
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert replace(found, score=expected.score) == expected
    assert_same_state(state, end)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_chunks_on_cuda() -> None:
    logits = 3 * torch.randn(2, 40, BLANK + 1, generator=torch.Generator().manual_seed(3))
    whole, end = ctc.greedy(logits, torch.tensor([40, 40]))
    first, state = ctc.greedy(logits[:, :17].cuda(), torch.tensor([17, 17]))
    second, state = ctc.greedy(logits[:, 17:].cuda(), torch.tensor([23, 23]).cuda(), state=state)
    for row, expected in enumerate(whole):
        found = joined([first[row], second[row]])
        assert (found.ids, found.starts, found.ends) == (
            expected.ids,
            expected.starts,
            expected.ends,
        )
        assert found.confidences == pytest.approx(expected.confidences, abs=1e-5)
    assert torch.equal(state.start, end.start)
