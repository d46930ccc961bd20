from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auricle.curation.running.batches import batches, milliseconds
from auricle.curation.step import Batch

DURATIONS = st.lists(st.sampled_from([None, "long", True, 0, -1, float("nan"), 0.5, 3, 7.25, 50]))


@given(durations=DURATIONS, seconds=st.sampled_from([None, 1.0, 10.0, 60.0]))
def test_every_item_is_in_one_batch_within_the_budget(
    durations: list[object], seconds: float | None
) -> None:
    items = [{"duration": duration} for duration in durations]
    made = batches(items, Batch(items=3, seconds=seconds))
    assert sorted(i for batch in made for i in batch) == list(range(len(items)))
    for batch in made:
        lengths = [milliseconds(items[i]) / 1000 for i in batch]
        if seconds is None or not any(lengths):
            assert len(batch) <= 3
        else:
            assert len(batch) == 1 or max(lengths) * len(batch) <= seconds
        assert batch == sorted(batch)


def test_clips_of_like_length_are_together() -> None:
    items = [{"duration": duration} for duration in (1, 9, 1, 10, 1, 100)]
    assert batches(items, Batch(seconds=20.0)) == [[0, 2, 4], [1, 3], [5]]


def test_milliseconds_are_whole() -> None:
    assert milliseconds({"duration": 1.23456}) == 1235
    assert (
        milliseconds({}) == milliseconds({"duration": "1"}) == milliseconds({"duration": -2}) == 0
    )
