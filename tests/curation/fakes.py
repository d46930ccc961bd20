"""Steps for tests of the runner, which no model and no sound take part in.

At the top of a module, so that workers can import them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from auricle.curation.items import Filtered, Item, Outcome, Quarantined, child, digest
from auricle.curation.readers import BadRow, Reader
from auricle.curation.readers.reader import ReadExample
from auricle.curation.step import Batch, Example, Place, Step, WholeStep, Work, step
from auricle.curation.writers import Manifest


@dataclass(frozen=True)
class Rows(Reader):
    """`count` rows with numbers, of which every `broken`th cannot be read."""

    count: int
    broken: int = 0

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        for number in range(self.count):
            if self.broken and number % self.broken == self.broken - 1:
                yield BadRow(f"row {number}", "broken row", "no number", {"line": number})
            else:
                yield {
                    "audio_filepath": f"/sound/{number}.wav",
                    "number": number,
                    "duration": 1 + number % 7,
                }


@dataclass(frozen=True)
class Forgetful(Rows):
    """Loses the last row."""

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        return islice(super().items(folder), self.count - 1)

    def example(self, folder: Path) -> ReadExample:
        return ReadExample(Forgetful(2), [{"number": 0}, {"number": 1}])


@dataclass(frozen=True)
class Deaf(Manifest):
    """Cannot write."""

    path: str = "all.jsonl"

    def write(self, items: Iterable[Item], folder: Path) -> None:
        raise OSError("not today")


@step(inputs=["number"], outputs=["double"], batch=8)
def doubled(items: Sequence[Item]) -> Iterator[Outcome]:
    for item in items:
        yield {**item, "double": 2 * item["number"]}


@step()
def same(items: Sequence[Item]) -> Iterable[Outcome]:
    return items


@step()
def numbered(items: Sequence[Item]) -> Iterator[Outcome]:
    """Says no outputs, and takes a key away."""
    for item in items:
        yield {key: value for key, value in item.items() if key != "duration"} | {"mark": 1}


@step()
def numbered_otherwise(items: Sequence[Item]) -> Iterator[Outcome]:
    for item in items:
        yield {**item, "mark": 1 if item["number"] < 5 else True}


@dataclass(frozen=True)
class Odd(Step):
    """Every `n`th item is filtered, every `n`th of those before it quarantined."""

    n: int

    @property
    def examples(self) -> tuple[Example, ...]:
        return (Example({"number": self.n}, ["divisible"]),)

    def open(self, place: Place) -> Work:
        return self._work

    def _work(self, items: Sequence[Item]) -> Iterator[Outcome]:
        for item in items:
            if item["number"] % self.n == 0:
                yield Filtered(item, "divisible", f"by {self.n}")
            elif item["number"] % self.n == self.n - 1:
                yield Quarantined(item, "nearly", f"by {self.n}")
            else:
                yield item


@dataclass(frozen=True)
class Parts(Step):
    """Cut every item whose number ends in `digit` into three."""

    digit: int = 5

    def open(self, place: Place) -> Work:
        return self._work

    def _work(self, items: Sequence[Item]) -> Iterator[Outcome]:
        for item in items:
            if item["number"] % 10 != self.digit:
                yield item
                continue
            for part in range(3):
                yield child(item, part, part=part, duration=item["duration"] / 4)


@dataclass(frozen=True)
class Added(Step):
    """Costly: adds what stands for the item and, if `batch_shows`, for those beside it."""

    into: str = "heard"
    seconds: float | None = None
    items: int = 4
    batch_shows: bool = False
    sleep: float = 0.0
    costly: ClassVar[bool] = True

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.into,)

    @property
    def batch(self) -> Batch:
        return Batch(items=self.items, seconds=self.seconds)

    def open(self, place: Place) -> Work:
        return self._work

    def _work(self, items: Sequence[Item]) -> Iterator[Outcome]:
        time.sleep(self.sleep)
        beside = digest([item["item_id"] for item in items]) if self.batch_shows else ""
        for item in items:
            yield {**item, self.into: digest(self.into, item["number"], beside)}


@dataclass(frozen=True)
class Trouble(Step):
    """Numbers that kill their worker, hang, raise, or give what is no outcome."""

    kills: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    raises: tuple[int, ...] = ()
    loses: tuple[int, ...] = ()
    at_once: int = 8

    @property
    def batch(self) -> Batch:
        return Batch(items=self.at_once)

    def open(self, place: Place) -> Work:
        return self._work

    def _work(self, items: Sequence[Item]) -> Iterator[Outcome]:
        for item in items:
            number = item["number"]
            if number in self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            if number in self.hangs:
                time.sleep(3600)
            if number in self.raises:
                raise ValueError(f"{number} is not to my taste at {hex(id(item) | 0x10000)}")
            if number not in self.loses:
                yield item


@dataclass(frozen=True)
class Opens(Step):
    """Cannot be opened, or kills its worker as it is opened, for as long as `marker` is there."""

    error: str = ""
    marker: str = ""
    costly: ClassVar[bool] = True

    def open(self, place: Place) -> Work:
        if self.error:
            raise ValueError(self.error)
        if self.marker and Path(self.marker).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda items: items


@dataclass(frozen=True)
class Calls(Step):
    """Notes in a file the number of every item that it is given."""

    file: str
    tag: str = ""
    costly: ClassVar[bool] = True

    def options(self) -> dict[str, Any]:
        return {"tag": self.tag}

    def open(self, place: Place) -> Work:
        return partial(self._work)

    def _work(self, items: Sequence[Item]) -> Iterator[Outcome]:
        with Path(self.file).open("a") as file:
            file.writelines(f"{item['number']}\n" for item in items)
        yield from items


@dataclass(frozen=True)
class Full(Step):
    """Makes files in the output, until there is no room: `marker` stands for the full disk."""

    marker: str

    def open(self, place: Place) -> Work:
        return self._work

    def _work(self, items: Sequence[Item]) -> Iterator[Outcome]:
        if Path(self.marker).exists():
            raise OSError(28, "No space left on device", "audio/x.flac")
        yield from items


@dataclass(frozen=True)
class Firsts(WholeStep):
    """Of items with the same rest the first is kept."""

    modulus: int

    def decide(self, items: Iterable[Item]) -> Iterator[Outcome]:
        seen: set[int] = set()
        total = sum(1 for _ in items)
        for item in items:
            rest = item["number"] % self.modulus
            if rest in seen:
                yield Filtered(item, "seen", f"{rest}")
            else:
                seen.add(rest)
                yield {**item, "of": total}
