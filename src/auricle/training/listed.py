"""Bodies of speech whose items are all known: as they stand, or joined into longer ones."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from auricle.errors import ConfigError
from auricle.training.items import Item
from auricle.training.recipe import JoinRecipe
from auricle.training.rows import Dropped
from auricle.training.sounds import JoinedSound

T = TypeVar("T")

_FIXED_SEED = 20


@dataclass(frozen=True)
class Listed:
    """Items in groups: a group is what lies side by side on the disk, such as a shard.

    Groups are gone through one by one, in a new order every epoch, and the next `buffer` items are
    mixed; a single group is shuffled as a whole.
    """

    name: str
    weight: float | None
    groups: Sequence[Sequence[Item]]
    dropped: Dropped
    buffer: int = 10_000

    @property
    def size(self) -> int:
        """Items in a pass."""
        return sum(map(len, self.groups))

    def items(self) -> Iterator[Item]:
        """Every item once, as they lie."""
        return itertools.chain.from_iterable(self.groups)

    def order(self, rng: np.random.Generator) -> Iterator[Item]:
        """Every item once, shuffled."""
        if len(self.groups) == 1:
            return iter(_permuted(self.groups[0], rng))
        groups = itertools.chain.from_iterable(_permuted(self.groups, rng))
        return shuffled(groups, self.buffer, rng)


@dataclass(frozen=True)
class Joined:
    """Items of one speaker joined into longer ones, anew in every epoch.

    Every item is used once, but where fewer than the least count are left of a speaker, others
    are heard again beside them. Nothing gets longer than `max_seconds`, if need be by joining
    fewer.
    """

    name: str
    weight: float | None
    parts: Sequence[Item]
    dropped: Dropped
    join: JoinRecipe
    max_seconds: float

    def __post_init__(self) -> None:
        (fewest, most), (shortest, longest) = self.join.count, self.join.pause
        if not 1 <= fewest <= most:
            raise ConfigError(f"join.count must be 1 or more, low to high, got {fewest}, {most}")
        if not 0 <= shortest <= longest:
            raise ConfigError(
                f"join.pause must be 0 or more, low to high, got {shortest}, {longest}"
            )
        if self.join.items is not None and self.join.items < 1:
            raise ConfigError(f"join.items must be 1 or more, got {self.join.items}")
        self._groups()

    @property
    def size(self) -> int:
        """Joined items in a pass: exact where the recipe says how many, else about so many."""
        if not self.parts:
            return 0
        if self.join.items is not None:
            return self.join.items
        return max(1, round(len(self.parts) / (sum(self.join.count) / 2)))

    def items(self) -> Iterator[Item]:
        """One pass, always the same."""
        return self.order(np.random.default_rng(_FIXED_SEED))

    def order(self, rng: np.random.Generator) -> Iterator[Item]:
        """A pass drawn by `rng`."""
        wanted, joined = self.join.items, list[Item]()
        while self.parts and (not joined or len(joined) < (wanted or 0)):
            drawn = [item for group in self._groups() for item in self._drawn(group, rng)]
            joined += _permuted(drawn, rng)
        return iter(joined[:wanted])

    def _groups(self) -> list[list[Item]]:
        if self.join.by is None:
            return [list(self.parts)]
        groups = defaultdict[str, list[Item]](list)
        for item in self.parts:
            if self.join.by not in item.data:
                raise ConfigError(
                    f"{self.name}: {item.name} has no {self.join.by!r} to join by: set join.by to "
                    "a key of the rows, or to null to join anything"
                )
            groups[repr(item.data[self.join.by])].append(item)  # whatever it is, such as a list
        return list(groups.values())

    def _drawn(self, group: list[Item], rng: np.random.Generator) -> Iterator[Item]:
        """All of a speaker's items, joined."""
        fewest, most = self.join.count
        waiting = _permuted(group, rng)[::-1]
        while waiting:
            count = int(rng.integers(fewest, most + 1))
            pauses = rng.uniform(*self.join.pause, most).tolist()
            parts = [waiting.pop()]
            seconds = parts[0].duration
            while len(parts) < count:
                if not waiting and (len(parts) >= fewest or len(group) == 1):
                    break
                again = not waiting
                item = group[int(rng.integers(len(group)))] if again else waiting[-1]
                seconds += pauses[len(parts) - 1] + item.duration
                if seconds > self.max_seconds:
                    break
                parts.append(item if again else waiting.pop())
            yield joined_item(parts, pauses[: len(parts) - 1])


def joined_item(parts: Sequence[Item], pauses: Sequence[float]) -> Item:
    """One item of several: texts with a space between, the first one's language and data."""
    return Item(
        name=" + ".join(part.name for part in parts),
        sound=JoinedSound(tuple(part.sound for part in parts), tuple(pauses)),
        duration=sum(part.duration for part in parts) + sum(pauses),
        text=" ".join(part.text for part in parts if part.text),
        language=parts[0].language,
        data=parts[0].data,
    )


def shuffled(items: Iterable[Item], buffer: int, rng: np.random.Generator) -> Iterator[Item]:
    """Items as they come, each swapped with a random one of the `buffer` that are held."""
    waiting = iter(items)
    held = list(itertools.islice(waiting, buffer))
    while block := list(itertools.islice(waiting, 1024)):
        for place, item in zip(
            rng.integers(len(held), size=len(block)).tolist(), block, strict=True
        ):
            yield held[place]
            held[place] = item
    yield from _permuted(held, rng)


def _permuted(values: Sequence[T], rng: np.random.Generator) -> list[T]:
    return [values[i] for i in rng.permutation(len(values)).tolist()]
