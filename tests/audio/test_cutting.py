"""Pieces cover everything, are short enough, and are cut where it is quiet."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle import audio
from auricle.errors import ConfigError

RATE = 16_000


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(0, 40_000),
    rate=st.sampled_from([1000, 1003, 8000]),
    limit=st.floats(1.0, 5.0),
    seed=st.integers(0, 9),
)
def test_pieces_cover_everything_within_the_limit(
    count: int, rate: int, limit: float, seed: int
) -> None:
    samples = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    pieces = audio.cut_at_silence(samples, rate, max_seconds=limit)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == count
    assert all(stop == start for (_, stop), (start, _) in pairwise(pieces))
    assert all(stop - start <= limit * rate for start, stop in pieces)
    assert all(stop - start >= limit * rate * 0.4 for start, stop in pieces[:-1])


def test_cuts_fall_into_the_pauses() -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(200 * RATE).astype(np.float32)
    pauses = [(50.0, 50.5), (93.0, 93.3), (140.0, 141.0), (171.0, 171.4)]
    for start, stop in pauses:
        samples[int(start * RATE) : int(stop * RATE)] *= 0.01
    pieces = audio.cut_at_silence(samples, RATE, max_seconds=60)
    cuts = [stop / RATE for _, stop in pieces[:-1]]
    for cut in cuts:
        assert any(start < cut < stop for start, stop in pauses), cut
    assert pieces == audio.cut_at_silence(samples.copy(), RATE, max_seconds=60)


def test_in_even_sound_pieces_are_as_long_as_allowed() -> None:
    pieces = audio.cut_at_silence(np.zeros(130 * RATE, np.float32), RATE, max_seconds=60)
    assert pieces == [(0, 60 * RATE), (60 * RATE, 120 * RATE), (120 * RATE, 130 * RATE)]


def test_a_short_clip_is_one_piece() -> None:
    assert audio.cut_at_silence(np.ones(1000, np.float32), RATE) == [(0, 1000)]


@pytest.mark.parametrize("limit", [0.0, 0.5, -1.0, float("nan")])
def test_a_limit_below_a_second_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match="max_seconds must be 1 or more"):
        audio.cut_at_silence(np.ones(1000, np.float32), RATE, max_seconds=limit)
