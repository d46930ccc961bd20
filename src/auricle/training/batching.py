"""Which items are learnt from together, and in which order: the same for the same seed.

A plan hangs on the seed and the number of the epoch alone, so that it can be taken up anywhere:
what was before is planned again, which reads no sound.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from auricle.errors import ConfigError, ManifestError
from auricle.training.items import Item, PlannedBatch, Position
from auricle.training.recipe import DataRecipe
from auricle.training.sources import Source

_STREAMED_SAMPLE = 1000
# The last word of a seed, so that no two uses share one. Not 0: NumPy ignores zeros at the end.
_ORDER, _MIX = 1, 2


class Plan:
    """Batches of all epochs, dealt out to `world` ranks in turn.

    Items come from all sources, mixed; each goes to the bucket of its length, and a bucket that
    is full is a batch. What is left in the buckets at the end of an epoch makes its last batches,
    so that an epoch uses every item of the sources without weight exactly once.

    Together the sources without weight count as one of weight 1. An epoch ends with them; where
    all have weights, after as many items as they hold together.

    Ranks take one batch each; the last turn of an epoch is filled up from the next one. Every rank
    plans the batches of all. Seconds are counted before any augmentation.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        data: DataRecipe,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if seed < 0:
            raise ConfigError(f"train.seed must be 0 or more, got {seed}")
        if not sources:
            raise ConfigError("data.train names no source; name one to learn from")
        _check_sizes(data)
        if all(s.weight is not None for s in sources) and any(s.size is None for s in sources):
            raise ConfigError(
                "the end of an epoch is not known: leave the weight of a streamed source out"
            )
        self._sources, self._data, self._seed = tuple(sources), data, seed
        self.rank, self.world = rank, world

    def batches(self, start: Position = Position()) -> Iterator[PlannedBatch]:  # noqa: B008
        """This rank's batches from `start` on, for ever.

        Raises:
            ConfigError: There is no such place; it comes with the first batch.
        """
        planned = self._planned(start)
        while True:
            turn = list(itertools.islice(planned, self.world))
            yield replace(turn[self.rank], after=turn[-1].after)

    def batches_per_epoch(self, epoch: int = 0) -> int:
        """Batches of all ranks in an epoch; they differ a little."""
        return sum(1 for _ in self._epoch(epoch))

    @property
    def longest(self) -> float:
        """Seconds of the longest item; what the recipe allows, where sources are streamed."""
        if any(source.size is None for source in self._sources):
            return self._data.max_seconds
        return max(item.duration for source in self._sources for item in source.items())

    @property
    def most_clips(self) -> int:
        """In a batch of the first epoch; what the recipe allows, where sources are streamed."""
        if any(source.size is None for source in self._sources):
            return self._data.max_batch
        return max(map(len, self._epoch(0)))

    def _planned(self, start: Position) -> Iterator[PlannedBatch]:
        """The batches of all ranks."""
        for epoch in itertools.count(start.epoch):
            first = start.batch if epoch == start.epoch else 0
            count = 0
            for batch, last in _with_end(self._epoch(epoch)):
                count += 1
                if count > first:
                    after = Position(epoch + 1) if last else Position(epoch, count)
                    yield PlannedBatch(tuple(batch), (self._seed, epoch, count - 1), after)
            if count < first:
                raise ConfigError(
                    f"epoch {epoch} has {count} batches, but the run stands after {first}: the "
                    "data, or the recipe for it, has changed since"
                )

    def _epoch(self, epoch: int) -> Iterator[list[Item]]:
        """One epoch's batches.

        Raises:
            ManifestError: There are none.
        """
        rng = np.random.default_rng((self._seed, epoch, _MIX))
        items = self._mixed(epoch, rng)
        sample = self._data.shuffle_buffer
        if any(source.size is None for source in self._sources):
            sample = min(sample, _STREAMED_SAMPLE)  # these items carry their sound with them
        first = list(itertools.islice(items, sample))
        if not first:
            names = ", ".join(source.name for source in self._sources)
            raise ManifestError(
                f"{names}: no items to learn from; look at where, unless, *_seconds"
            )
        bounds = duration_bounds([item.duration for item in first], self._data.buckets)
        left: list[Item] = []
        yield from _bucketed(itertools.chain(first, items), bounds, self._data, left)
        rest = packed(left, self._data)
        yield from (rest[i] for i in rng.permutation(len(rest)).tolist())

    def _mixed(self, epoch: int, rng: np.random.Generator) -> Iterator[Item]:
        """All sources' items, each source in its own order."""
        weights = [source.weight for source in self._sources]
        streams = [
            self._pass(i, epoch) if weight is None else self._again(i, epoch)
            for i, weight in enumerate(weights)
        ]
        if len(streams) == 1 and weights[0] is None:
            yield from streams[0]
            return
        open_ = {i for i, weight in enumerate(weights) if weight is None}
        total = sum(s.size or 0 for s in self._sources) if not open_ else None
        drawn = 0
        while open_ or (total is not None and drawn < total):
            for number in self._draws(open_, rng):
                item = next(streams[number], None)
                if item is None:
                    open_.remove(number)
                    break
                yield item
                drawn += 1
                if drawn == total:
                    return

    def _draws(self, open_: set[int], rng: np.random.Generator) -> list[int]:
        """Which source gives the next items."""
        sizes = {i: self._sources[i].size for i in open_}
        known = [size for size in sizes.values() if size is not None]
        usual = max(known, default=1)
        whole = sum(usual if size is None else size for size in sizes.values())
        shares = np.zeros(len(self._sources))
        for i, source in enumerate(self._sources):
            if source.weight is not None:
                shares[i] = source.weight
            elif i in open_:
                size = sizes[i]
                shares[i] = (usual if size is None else size) / whole
        edges = np.cumsum(shares / shares.sum())
        drawn = np.searchsorted(edges[:-1], rng.random(1024), side="right")
        return list(drawn.tolist())

    def _pass(self, number: int, epoch: int, again: int = 0) -> Iterator[Item]:
        rng = np.random.default_rng((self._seed, epoch, number, again, _ORDER))
        return self._sources[number].order(rng)

    def _again(self, number: int, epoch: int) -> Iterator[Item]:
        """A source over and over."""
        for again in itertools.count():
            items = self._pass(number, epoch, again)
            for item in items:
                yield item
                yield from items
                break
            else:
                raise ManifestError(f"{self._sources[number].name}: no items to learn from")


def duration_bounds(durations: Sequence[float], buckets: int) -> list[float]:
    """The longest duration of each bucket but the last, each with the same share of the seconds."""
    ordered = np.sort(np.asarray(durations, np.float64))
    heard = np.cumsum(ordered)
    marks = np.arange(1, buckets) * heard[-1] / buckets
    bounds = ordered[np.searchsorted(heard, marks)]
    return [float(bound) for bound in np.unique(bounds)]


def packed(items: Iterable[Item], data: DataRecipe) -> list[list[Item]]:
    """Batches of items of like length, the longest first."""
    left: list[Item] = []
    ordered = sorted(items, key=lambda item: -item.duration)
    batches = list(_bucketed(ordered, [], data, left))
    return [*batches, left] if left else batches


def sorted_batches(
    items: Iterable[Item], data: DataRecipe, rank: int = 0, world: int = 1
) -> list[PlannedBatch]:
    """One rank's share of all items, once: for validation. All ranks have as many batches."""
    _check_sizes(data)
    batches = packed(items, data)
    batches += [[]] * (-len(batches) % world)
    return [
        PlannedBatch(tuple(batch), (0, 0, number), Position(0, number + 1))
        for number, batch in enumerate(batches)
        if number % world == rank
    ]


def _bucketed(
    items: Iterable[Item], bounds: list[float], data: DataRecipe, left: list[Item]
) -> Iterator[list[Item]]:
    """Full buckets, as they fill up; what remains goes to `left`."""
    buckets: list[list[Item]] = [[] for _ in range(len(bounds) + 1)]
    longest = [0.0] * len(buckets)
    seconds, most = data.batch_seconds, data.max_batch
    for item in items:
        duration = item.duration
        number = bisect_left(bounds, duration)
        bucket = buckets[number]
        width = max(longest[number], duration)
        if bucket and width * (len(bucket) + 1) > seconds:
            yield bucket
            buckets[number] = bucket = []
            width = duration
        bucket.append(item)
        longest[number] = width
        if len(bucket) == most:
            yield bucket
            buckets[number], longest[number] = [], 0.0
    left += itertools.chain.from_iterable(buckets)


def _with_end(batches: Iterable[list[Item]]) -> Iterator[tuple[list[Item], bool]]:
    """Each batch, and whether it is the last."""
    waiting: list[list[Item]] = []
    for batch in batches:
        if waiting:
            yield waiting.pop(), False
        waiting.append(batch)
    for batch in waiting:
        yield batch, True


def _check_sizes(data: DataRecipe) -> None:
    for name in ("batch_seconds", "max_batch", "buckets", "shuffle_buffer"):
        if not getattr(data, name) > 0:
            raise ConfigError(f"data.{name} must be more than 0, got {getattr(data, name)}")
