"""What a step is: a value that, opened at a place, works on batches of items.

Steps know no engine, no shard and no journal. A step is a frozen dataclass, whose fields are its
options in YAML; `@step` makes one of a generator function.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, ClassVar

from auricle.curation.items import Item, Outcome
from auricle.errors import ConfigError

if TYPE_CHECKING:  # the driver of a job does without NumPy
    from auricle.audio import Samples

Work = Callable[[Sequence[Item]], Iterable[Outcome]]


@dataclass(frozen=True)
class Batch:
    """How many items a step wants at once: a number, or as many as fit into seconds of audio.

    With `seconds`, batches hold clips of like length, and a longer clip has one of its own.
    """

    items: int = 16
    seconds: float | None = None


@dataclass(frozen=True)
class Needs:
    """What a step takes while it is open: memory on its device in GB, and whether a GPU serves."""

    memory_gb: float = 0.0
    accelerator: bool = False


@dataclass(frozen=True)
class Place:
    """Where a step works: its device, its threads, and the folder of the job's output.

    Files that steps make go below `folder`, under names that depend on the item alone, so that
    making one again changes nothing; rows name them relative to `folder`.
    """

    folder: Path
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Example:
    """What a step makes of an item: tried before a job starts.

    `gives` is a row for each outcome, of which only the keys it names are compared; `...` fits any
    value. A text stands for an outcome that is filtered or quarantined for that reason.
    """

    item: Mapping[str, Any]
    gives: Sequence[Mapping[str, Any] | str]
    sound: Callable[[], Samples] | None = None  # written to a file that `audio_filepath` names
    sample_rate: int = 16000


@dataclass(frozen=True)
class WholeExample:
    """What a whole step decides of some items, which have numbers for ids: as in `Example`."""

    items: Sequence[Mapping[str, Any]]
    gives: Sequence[Mapping[str, Any] | str]


class Step:
    """One thing that is done to items, a batch at a time."""

    version: ClassVar[int] = 1  # one more whenever other results come out: older ones are redone
    # A costly step starts a stage of its own: an edited pipeline finds what it gave before.
    costly: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What pipelines, counts and reports call it."""
        return type(self).__name__.lower()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys that every item must have; one without them is quarantined."""
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Keys that it adds or changes."""
        return ()

    @property
    def batch(self) -> Batch:
        """How many items it works on at once."""
        return Batch()

    def budget(self, place: Place) -> Batch:
        """The batches of a job, asked for once, on a device of the job, and then kept with it.

        Where memory decides, a step may measure here; a job that goes on does as before.
        """
        return self.batch

    @property
    def needs(self) -> Needs:
        """What it takes while it is open."""
        return Needs()

    @property
    def examples(self) -> tuple[Example, ...]:
        """Tried before a job starts."""
        return ()

    def options(self) -> dict[str, Any]:
        """What its results depend on, as JSON; a stage is found again by it."""
        assert is_dataclass(self)
        return asdict(self)

    def open(self, place: Place) -> Work:
        """Get ready (load a model, say), and give the function that works on batches.

        For every item of a batch it gives the item with its new keys, `Filtered` or `Quarantined`,
        or else the items that it was cut into (`items.child`). A plain exception is of the whole
        batch: its items are then tried one by one.
        """
        raise NotImplementedError


class WholeStep:
    """A decision for which all items must be known: duplicates, a split by speakers."""

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """What pipelines, counts and reports call it."""
        return type(self).__name__.lower()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys that every item must have."""
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Keys that it adds or changes."""
        return ()

    @property
    def examples(self) -> tuple[WholeExample, ...]:
        """Tried before a job starts."""
        return ()

    def options(self) -> dict[str, Any]:
        """What its results depend on, as JSON."""
        assert is_dataclass(self)
        return asdict(self)

    def decide(self, items: Iterable[Item]) -> Iterable[Outcome]:
        """An outcome for each item, in order; `items` may be gone through more than once."""
        raise NotImplementedError


@dataclass(frozen=True)
class FunctionStep(Step):
    """A step made of a generator function over a batch."""

    function: Callable[[Sequence[Item]], Iterable[Outcome]]
    takes: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    at_once: Batch = Batch()

    @property
    def name(self) -> str:
        """The function's."""
        return self.function.__name__

    @property
    def inputs(self) -> tuple[str, ...]:
        """As `step` was told."""
        return self.takes

    @property
    def outputs(self) -> tuple[str, ...]:
        """As `step` was told."""
        return self.adds

    @property
    def batch(self) -> Batch:
        """As `step` was told."""
        return self.at_once

    def options(self) -> dict[str, Any]:
        """Its source: an edited function is another step."""
        source = inspect.getsource(self.function)
        return {"source": hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}

    def open(self, place: Place) -> Work:
        """The function itself."""
        return self.function

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: where `@step` stands above a function, its name means the step.
        here = (self.function.__module__, self.function.__qualname__)
        if "<" in here[1]:  # <locals> or <lambda>
            raise PicklingError(f"step {self.name} stands inside a function")
        return _by_name, (*here, self.takes, self.adds, self.at_once)


def refuse_unused(step: Any, names: Iterable[str], why: str) -> None:
    """Refuse options that are given but would be ignored.

    Args:
        step: A dataclass with options.
        names: Those that have no effect as the others are.
        why: For the message: "without wer".

    Raises:
        ConfigError: One of them is not at its default.
    """
    defaults = {each.name: each.default for each in fields(step)}
    for name in names:
        if getattr(step, name) != defaults[name]:
            raise ConfigError(f"{step.name}: {name} has no effect {why}: leave it out")


def _by_name(
    module: str, name: str, takes: tuple[str, ...], adds: tuple[str, ...], at_once: Batch
) -> FunctionStep:
    there: Any = import_module(module)
    for part in name.split("."):
        there = getattr(there, part)
    return there if isinstance(there, FunctionStep) else FunctionStep(there, takes, adds, at_once)


def step(
    *, inputs: Sequence[str] = (), outputs: Sequence[str] = (), batch: int = 16
) -> Callable[[Callable[[Sequence[Item]], Iterable[Outcome]]], FunctionStep]:
    """Make a step of a generator function that takes a batch of items and gives outcomes."""

    def made(function: Callable[[Sequence[Item]], Iterable[Outcome]]) -> FunctionStep:
        return FunctionStep(function, tuple(inputs), tuple(outputs), Batch(items=batch))

    return made
