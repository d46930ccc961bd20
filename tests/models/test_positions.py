from __future__ import annotations

import math

import pytest
import torch

from auricle.models.positions import AHEAD, KEPT, Distances, sinusoids

LIKE = torch.zeros(1)


def test_sinusoids_by_the_formula():
    table = sinusoids(torch.tensor([0, 3, -7]), 6)
    for row, position in zip(table.tolist(), (0, 3, -7), strict=True):
        for k in range(3):
            angle = position * 10000 ** (-2 * k / 6)
            assert row[2 * k] == pytest.approx(math.sin(angle), abs=1e-6)
            assert row[2 * k + 1] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-3, 5), (-700, 20), (0, 0), (2, 9)])
def test_rows_hold_the_past_as_positive(low, high):
    rows, zero = Distances(8).rows(low, high, LIKE)
    assert zero == -low
    assert torch.equal(rows, sinusoids(-torch.arange(low, high + 1), 8))


def test_the_whole_table_is_one_object_while_it_is_short():
    distances = Distances(8)
    distances.whole = True
    first, zero = distances.rows(-3, 5, LIKE)
    assert zero == AHEAD
    assert distances.rows(-AHEAD, 1, LIKE)[0] is first
    longer, zero = distances.rows(-AHEAD - 1, 1, LIKE)
    assert zero == AHEAD + 1
    assert torch.equal(longer[-2:], sinusoids(torch.tensor([0, -1]), 8))


def test_very_long_tables_are_not_kept():
    distances = Distances(2)
    distances.rows(-KEPT - 1, 0, LIKE)
    assert distances._table is not None
    assert len(distances._table) == 2 * AHEAD + 1


def test_a_table_made_in_inference_can_be_trained_on():
    distances = Distances(4)
    with torch.inference_mode():
        distances.rows(-2, 2, LIKE)
    weight = torch.ones(4, 4, requires_grad=True)
    (distances.rows(-2, 2, LIKE)[0] @ weight).sum().backward()
    assert weight.grad is not None


def test_a_symmetric_window_is_the_plain_table():
    plain, _ = Distances(8).rows(-4, 4, LIKE)
    local, _ = Distances(8, (4, 4)).rows(-4, 4, LIKE)
    assert torch.equal(local, plain)


def test_a_lopsided_window_misplaces_positions_as_nemo_does():
    left, right = 2, 5
    rows, _ = Distances(8, (left, right)).rows(-left, right, LIKE)
    # Columns 0 and 1 of 11 get distances 2 and 1, columns 5 to 10 get 0 to -5; steps -2 ... 5
    # are columns 3 ... 10, so the two past ones get nothing.
    expected = sinusoids(torch.tensor([0, 0, 0, -1, -2, -3, -4, -5]), 8)
    expected[:2] = 0.0
    assert torch.equal(rows, expected)
