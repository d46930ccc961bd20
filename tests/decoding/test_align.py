"""Forced alignment against all paths of tiny lattices, and by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from auricle.decoding.align import align, needed_steps

BLANK = 3


def _log_probs(batch: int, steps: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(batch, steps, BLANK + 1, generator=random)).log_softmax(-1)


def _best_path(log_probs: Tensor, text: list[int]) -> tuple[float, tuple[int, ...]] | None:
    """Of all sequences of outputs that CTC reads as `text`, the likeliest."""
    found = [
        (float(sum(log_probs[step, output] for step, output in enumerate(path))), path)
        for path in itertools.product(range(BLANK + 1), repeat=len(log_probs))
        if [k for k, _ in itertools.groupby(path) if k != BLANK] == text
    ]
    return max(found, default=None)


@pytest.mark.parametrize("text", [[], [0], [1, 1], [0, 1, 0], [2, 2, 2], [0, 1, 2, 1]])
@pytest.mark.parametrize("seed", range(4))
def test_the_path_is_the_best_of_all(text: list[int], seed: int) -> None:
    log_probs = _log_probs(1, 5, seed)
    best = _best_path(log_probs[0], text)
    (found,) = align(log_probs, torch.tensor([5]), [text])
    assert best is not None and found is not None
    score, path = best
    assert found.score == pytest.approx(score, abs=1e-5)
    expected, step = [], 0
    for output, run in itertools.groupby(path):
        length = len(list(run))
        if output != BLANK:
            expected.append((step, step + length))
        step += length
    assert list(zip(found.starts, found.ends, strict=True)) == expected
    for token, start, end, score in zip(text, found.starts, found.ends, found.scores, strict=True):
        assert score == pytest.approx(float(log_probs[0, start:end, token].mean()), abs=1e-5)


def test_rows_do_not_hear_each_other() -> None:
    texts = [[0, 1, 2], [1, 1], [], [2, 0], [0, 0, 0, 0]]
    lengths = [9, 6, 4, 2, 7]
    log_probs = _log_probs(5, 9)
    together = align(log_probs, torch.tensor(lengths), texts)
    for row, (text, steps) in enumerate(zip(texts, lengths, strict=True)):
        alone = align(log_probs[row : row + 1, :steps], torch.tensor([steps]), [text])
        assert [together[row]] == alone
    assert None not in together


def test_a_text_that_does_not_fit() -> None:
    log_probs = _log_probs(4, 3)
    found = align(log_probs, torch.tensor([3, 3, 3, 0]), [[0, 1, 2], [0, 0, 1], [0, 1, 0, 1], []])
    assert found[0] is not None
    assert found[0].starts == (0, 1, 2)
    assert found[1:] == [None, None, None]
    assert needed_steps([0, 0, 1]) == 4


def test_impossible_outputs_give_no_alignment() -> None:
    log_probs = torch.full((1, 2, BLANK + 1), -math.inf)
    log_probs[..., BLANK] = 0.0
    assert align(log_probs, torch.tensor([2]), [[0]]) == [None]
    (silent,) = align(log_probs, torch.tensor([2]), [[]])
    assert silent is not None
    assert (silent.starts, silent.score) == ((), 0.0)


def test_of_equal_paths_that_which_stays() -> None:
    """All outputs alike: the token is held throughout, as by torchaudio's forced_align."""
    log_probs = torch.full((1, 4, BLANK + 1), math.log(1 / (BLANK + 1)))
    (found,) = align(log_probs, torch.tensor([4]), [[1]])
    assert found is not None
    assert (found.starts, found.ends) == ((0,), (4,))
