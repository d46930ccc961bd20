"""Plans: the same for the same seed, whole, bounded, and taken up anywhere."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle.errors import ConfigError, ManifestError
from auricle.training.batching import Plan, duration_bounds, sorted_batches
from auricle.training.items import Item, PlannedBatch, Position
from auricle.training.listed import Listed
from auricle.training.recipe import DataRecipe
from auricle.training.sounds import FileSound
from tests.counting import calls

DATA = DataRecipe(batch_seconds=30.0, max_batch=8, buckets=4, shuffle_buffer=50)


def source(
    durations: Sequence[float], name: str = "a", weight: float | None = None, shard: int = 0
) -> Listed:
    """A source of items that are never heard; with `shard`, in groups of so many."""
    items = [Item(f"{name}{i}", FileSound(""), d, "") for i, d in enumerate(durations)]
    size = shard or max(1, len(items))
    groups = [items[i : i + size] for i in range(0, len(items), size)]
    return Listed(name, weight, groups, {}, buffer=20)


def lengths(count: int, longest: float = 20.0) -> list[float]:
    """Durations from 0.5 s on, all different."""
    return [0.5 + (longest - 0.5) * (i * 37 % count) / count for i in range(count)]


def epoch(plan: Plan, number: int = 0) -> list[PlannedBatch]:
    """The batches of one epoch."""
    planned = plan.batches(Position(number))
    found = []
    for batch in planned:
        found.append(batch)
        if batch.after.epoch > number:
            return found
    raise AssertionError("a plan never ends")


def names(batches: Sequence[PlannedBatch]) -> list[list[str]]:
    """What is in each batch."""
    return [[item.name for item in batch.items] for batch in batches]


def test_an_epoch_holds_every_item_once_within_the_bounds() -> None:
    batches = epoch(Plan([source(lengths(500))], DATA, seed=3))
    counts = Counter(item.name for batch in batches for item in batch.items)
    assert counts == {f"a{i}": 1 for i in range(500)}
    for batch in batches:
        assert len(batch.items) <= 8
        longest = max(item.duration for item in batch.items)
        assert longest * len(batch.items) <= 30.0


def test_the_order_hangs_on_seed_and_epoch_alone() -> None:
    first, again = (Plan([source(lengths(200))], DATA, seed=3) for _ in range(2))
    assert names(epoch(first)) == names(epoch(again))
    assert names(epoch(first, 1)) != names(epoch(first, 0))
    assert names(epoch(Plan([source(lengths(200))], DATA, seed=4))) != names(epoch(first))
    # Every batch draws its own numbers.
    seeds = [batch.seed for batch in itertools.islice(first.batches(), 100)]
    assert len(set(seeds)) == 100


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 120),
    world=st.integers(1, 4),
    done=st.integers(0, 30),
    weights=st.sampled_from([(None,), (None, None), (None, 0.5), (1.0, 3.0)]),
    shard=st.sampled_from([0, 7]),
)
def test_resumed_is_the_rest_of_uninterrupted(
    count: int, world: int, done: int, weights: tuple[float | None, ...], shard: int
) -> None:
    sources = [
        source(lengths(count), name, weight, shard)
        for name, weight in zip("ab", weights, strict=False)
    ]

    def plan(rank: int) -> Plan:
        return Plan(sources, DATA, seed=count, rank=rank, world=world)

    whole = [list(itertools.islice(plan(rank).batches(), done + 5)) for rank in range(world)]
    start = whole[0][done - 1].after if done else Position()
    for rank in range(world):
        assert list(itertools.islice(plan(rank).batches(start), 5)) == whole[rank][done:]
    # All ranks stand at the same place after the same turn, whatever their number.
    assert len({tuple(batch.after for batch in batches) for batches in whole}) == 1
    dealt = [batch.items for turn in zip(*whole, strict=True) for batch in turn]
    alone = Plan(sources, DATA, seed=count).batches()
    assert dealt == [batch.items for batch in itertools.islice(alone, len(dealt))]


def test_another_number_of_ranks_goes_on_at_the_same_place() -> None:
    two = [Plan([source(lengths(300))], DATA, rank=rank, world=2) for rank in range(2)]
    start = next(itertools.islice(two[0].batches(), 4, None)).after
    assert start == Position(0, 10)
    one = itertools.islice(Plan([source(lengths(300))], DATA).batches(start), 4)
    pairs = [next(itertools.islice(plan.batches(start), i, None)) for i in range(2) for plan in two]
    assert names(list(one)) == names(pairs)


def test_an_item_longer_than_a_batch_is_one() -> None:
    batches = epoch(Plan([source([50.0, 1.0, 2.0, 60.0])], DATA))
    alone = [name for batch in names(batches) if len(batch) == 1 for name in batch]
    assert {"a0", "a3"} <= set(alone)


def test_buckets_hold_items_of_like_length() -> None:
    def padding(buckets: int) -> float:
        data = DataRecipe(batch_seconds=60.0, buckets=buckets)
        heard = padded = 0.0
        for batch in epoch(Plan([source(lengths(2000))], data)):
            heard += sum(item.duration for item in batch.items)
            padded += max(item.duration for item in batch.items) * len(batch.items)
        return 1 - heard / padded

    assert padding(8) < 0.15 < 0.25 < padding(1)


def test_bounds_share_the_seconds_out() -> None:
    assert duration_bounds([1.0] * 100, 4) == [1.0]
    bounds = duration_bounds([float(i) for i in range(1, 101)], 2)
    assert bounds == [71.0]  # as many seconds below as above
    assert duration_bounds([5.0], 8) == [5.0]


def test_weights_are_shares_of_what_is_drawn() -> None:
    sources = [source(lengths(900), "a"), source(lengths(90), "b", 0.5), source([1.0], "c", 0.25)]
    plan = Plan(sources, DATA, seed=1)
    counts = Counter(item.name[0] for batch in epoch(plan) for item in batch.items)
    assert counts["a"] == 900  # once each
    assert counts["b"] / 900 == pytest.approx(0.5, abs=0.08)
    assert counts["c"] / 900 == pytest.approx(0.25, abs=0.06)
    # All with weights: as many items as there are.
    plan = Plan([source(lengths(300), "a", 3.0), source(lengths(300), "b", 1.0)], DATA)
    counts = Counter(item.name[0] for batch in epoch(plan) for item in batch.items)
    assert counts.total() == 600
    assert counts["a"] == pytest.approx(450, abs=40)


def test_a_source_that_starts_over_has_a_new_order() -> None:
    plan = Plan([source(lengths(200), "a"), source(lengths(20), "b", 1.0)], DATA, seed=5)
    drawn = [item.name for item in plan._mixed(0, np.random.default_rng(0))]
    small = [name for name in drawn if name[0] == "b"]
    assert set(small[:20]) == set(small[20:40])
    assert small[:20] != small[20:40]


def test_sources_without_weight_are_shuffled_together() -> None:
    plan = Plan([source(lengths(1000), "a"), source(lengths(100), "b")], DATA)
    drawn = [item.name[0] for batch in epoch(plan) for item in batch.items]
    halves = Counter(drawn[:550])["b"], Counter(drawn[550:])["b"]
    assert sum(halves) == 100
    assert min(halves) > 25


def test_validation_is_dealt_out_longest_first() -> None:
    items = list(source(lengths(101)).items())
    shares = [sorted_batches(items, DATA, rank, 3) for rank in range(3)]
    found = sorted((batch for share in shares for batch in share), key=lambda b: b.seed)
    durations = [item.duration for batch in found for item in batch.items]
    assert durations == sorted(durations, reverse=True)
    assert len(durations) == 101
    assert sorted_batches([], DATA) == []
    for world in (2, 3, 5):  # ranks with pieces of a model wait for each other at every batch
        counts = [len(sorted_batches(items, DATA, rank, world)) for rank in range(world)]
        assert len(set(counts)) == 1


def test_batches_are_counted() -> None:
    plan = Plan([source(lengths(300))], DATA, world=2)
    assert plan.batches_per_epoch(1) == len(epoch(Plan([source(lengths(300))], DATA), 1))


def test_planning_takes_time_in_proportion_to_the_items() -> None:
    data = DataRecipe(batch_seconds=300.0)
    few, many = (Plan([source(lengths(count))], data) for count in (10_000, 100_000))
    assert calls(many.batches_per_epoch) < 12 * calls(few.batches_per_epoch)
    assert many.batches_per_epoch() > 3000


def test_what_makes_no_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_seconds must be more than 0, got 0"):
        Plan([source([1.0])], DataRecipe(batch_seconds=0))
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        Plan([source([1.0])], DATA, seed=-1)
    with pytest.raises(ConfigError, match="names no source"):
        Plan([], DATA)
    with pytest.raises(ManifestError, match="a: no items to learn from"):
        next(Plan([source([])], DATA).batches())
    with pytest.raises(ManifestError, match="b: no items to learn from"):
        next(Plan([source([1.0]), source([], "b", 1.0)], DATA).batches())
    with pytest.raises(ConfigError, match=r"epoch 2 has 1 batches.*after 9.*changed"):
        next(Plan([source([1.0])], DATA).batches(Position(2, 9)))
