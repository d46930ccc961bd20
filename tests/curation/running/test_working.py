from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle.curation.conditions import compiled
from auricle.curation.items import ID, Filtered, Item, Outcome, Quarantined, child
from auricle.curation.running.working import MISSING_KEY, Opened, StepError, Timing, worked
from auricle.curation.step import Batch


def items(count: int) -> list[Item]:
    return [{ID: f"i{n}", "number": n, "duration": 1.5} for n in range(count)]


def of(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_a_stage_keeps_the_order_and_the_keys_nobody_knows() -> None:
    def backwards(some: Sequence[Item]) -> Iterable[Outcome]:
        return [{**item, "seen": True} for item in reversed(some)]

    result = worked([Opened("1-a", backwards, batch=Batch(2))], items(5))
    rows = [row for each in result.items for row in of(each.kept)]
    assert [row["number"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["seen"] for row in rows) and result.milliseconds == 7500


def test_parts_stand_where_the_whole_stood() -> None:
    def cut(some: Sequence[Item]) -> Iterator[Outcome]:
        for item in some:
            if item["number"] == 1:
                yield child(item, 0, duration=0.5)
                yield child(item, 1, duration=1.0)
            else:
                yield item

    result = worked([Opened("1-cut", cut)], items(3))
    assert [len(each.kept) for each in result.items] == [1, 2, 1]
    (dropped,) = of(result.items[1].dropped)
    assert dropped["as"] == "cut" and dropped["item"][ID] == "i1"
    counts = result.counts[0]
    assert (counts.into, counts.out, counts.made, counts.cut) == (3, 4, 2, 1) and counts.balanced()


def test_items_pass_a_condition_and_missing_keys_are_told() -> None:
    def work(some: Sequence[Item]) -> Iterable[Outcome]:
        return [{**item, "worked": 1} for item in some]

    step = Opened("1-x", work, inputs=("text",), when=compiled({"number": {"lt": 2}}, where="x"))
    given_items = items(3)
    given_items[0]["text"] = "hm"
    result = worked([step], given_items)
    assert of(result.items[0].kept)[0]["worked"] == 1
    assert of(result.items[1].dropped)[0]["reason"] == MISSING_KEY
    assert "worked" not in of(result.items[2].kept)[0]
    assert result.counts[0].passed == 1


@pytest.mark.parametrize(
    "gives",
    [
        lambda some: [],
        lambda some: [*some, some[0]],
        lambda some: [{**some[0], ID: "another"}],
        lambda some: [some[0], child(some[0], 0)],
        lambda some: [child(some[0], 0), child(some[0], 0)],
        lambda some: ["text"],
        lambda some: [{**some[0], "x": float("nan")}],
        lambda some: [{**some[0], "x": object()}],
        lambda some: [{**some[0], "x": "\ud800"}],
    ],
)
def test_a_step_that_breaks_its_word_raises(gives: Any) -> None:
    with pytest.raises(StepError) as raised:
        worked([Opened("1-a", lambda some: some), Opened("2-b", gives)], items(1))
    assert raised.value.step == 1


def test_a_step_that_exits_is_one_that_raises() -> None:
    with pytest.raises(StepError) as raised:
        worked([Opened("1-a", lambda some: sys.exit(3))], items(1))
    assert raised.value.step == 0 and isinstance(raised.value.__cause__, SystemExit)


def test_the_number_of_the_step_is_told_and_time_is_taken() -> None:
    told: list[int] = []
    timing = Timing()
    same = Opened("1-a", lambda some: some, model="tiny")
    worked([same, Opened("2-b", lambda some: some)], items(4), at=told.append, timing=timing)
    assert told == [0, 1]
    assert timing.steps["1-a"]["items"] == 4 and timing.steps["1-a"]["audio_seconds"] == 6.0
    assert timing.steps["1-a"]["model"] == "tiny" and timing.steps["2-b"]["model"] is None


FATES = st.sampled_from(["keep", "filter", "quarantine", "cut", "pass"])


@given(fates=st.lists(st.lists(FATES, min_size=1, max_size=12), min_size=1, max_size=4))
def test_nothing_is_lost_and_nothing_comes_of_nothing(fates: list[list[str]]) -> None:
    """Random fates in every step: each item that came in is told of once, at the end."""

    def step(said: list[str]) -> Opened:
        def work(some: Sequence[Item]) -> Iterator[Outcome]:
            for item in some:
                fate = said[item["number"] % len(said)]
                if fate == "filter":
                    yield Filtered(item, "no", "")
                elif fate == "quarantine":
                    yield Quarantined(item, "bad", "")
                elif fate == "cut":
                    yield from (child(item, n) for n in range(item["number"] % 3 + 1))
                else:
                    yield item

        passing = {n for n, fate in enumerate(said) if fate == "pass"}
        when = compiled(
            {"number": {"not_in": sorted(passing) or [-1]}},
            where="x",
        )
        return Opened("s", work, when=when, batch=Batch(3))

    given_items = items(10)
    result = worked([step(said) for said in fates], given_items)
    assert all(counts.balanced() for counts in result.counts)
    assert result.counts[0].into == 10
    for before, after in zip(result.counts, result.counts[1:], strict=False):
        assert before.out == after.into
    ends = Counter(row["as"] for each in result.items for row in of(each.dropped))
    kept = sum(len(each.kept) for each in result.items)
    made = sum(counts.made for counts in result.counts)
    assert 10 + made == kept + sum(ends.values())
    ids = [row[ID] for each in result.items for row in of(each.kept)]
    assert len(ids) == len(set(ids))
