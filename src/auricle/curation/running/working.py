"""Steps at work on a batch: what goes in comes out, changed, cut into others, or dropped.

Knows nothing of workers or files: items go in, lines and counts come out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auricle.curation.conditions import Check, compiled
from auricle.curation.items import ID, PARENT, Filtered, Item, Outcome, Quarantined, canonical
from auricle.curation.plan import Labelled
from auricle.curation.running.batches import batches, milliseconds
from auricle.curation.running.counts import StepCounts
from auricle.curation.running.store import BatchResult, Result, dropped_line
from auricle.curation.step import Batch, Step, Work

MISSING_KEY = "missing key"


@dataclass(frozen=True)
class Opened:
    """A step that is ready to work, and what it was asked for with."""

    label: str
    work: Work
    inputs: tuple[str, ...] = ()
    when: Check | None = None
    batch: Batch | None = None  # None takes what there is at once
    model: str | None = None


class StepError(Exception):
    """What a step raised; `step` is its number in the stage, the cause is the exception."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


@dataclass
class _Going:
    """Items on their way, each with the number of the batch's item that it comes from."""

    items: list[tuple[int, Item]]
    dropped: list[list[str]]


@dataclass
class Timing:
    """What steps took, by label."""

    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, step: Opened, items: Sequence[Item], seconds: float) -> None:
        """Add a chunk."""
        said = self.steps.setdefault(
            step.label, {"items": 0, "audio_seconds": 0.0, "seconds": 0.0, "model": step.model}
        )
        audio = sum(map(milliseconds, items)) / 1000
        said["items"] += len(items)
        said["audio_seconds"] = round(said["audio_seconds"] + audio, 3)
        said["seconds"] = round(said["seconds"] + seconds, 6)


def opened(each: Labelled, work: Work, *, whole_batch: bool = False) -> Opened:
    """A step that is ready; with `whole_batch` the batch was made for it, and is not divided."""
    step = each.step
    assert isinstance(step, Step)
    model = getattr(step, "model", None)
    return Opened(
        label=each.label,
        work=work,
        inputs=tuple(step.inputs),
        when=condition(each),
        batch=None if whole_batch else step.batch,
        model=model if isinstance(model, str) else None,
    )


def condition(each: Labelled) -> Check | None:
    """What says which items a step is for; None if it is for all."""
    return None if each.when is None else compiled(each.when, where=f"{each.label}, when")


def worked(
    steps: Sequence[Opened],
    items: Sequence[Item],
    *,
    at: Callable[[int], None] = lambda step: None,
    timing: Timing | None = None,
) -> BatchResult:
    """What becomes of items in a stage.

    Args:
        steps: In order.
        items: With ids.
        at: Is told the number of each step before it begins.
        timing: Takes what the steps took.

    Raises:
        StepError: A step raised, gave what is no outcome, or said nothing about an item.
    """
    going = _Going(list(enumerate(items)), [[] for _ in items])
    counts = [StepCounts() for _ in steps]
    for number, step in enumerate(steps):
        at(number)
        try:
            _through(number, step, going, counts[number], timing or Timing())
        except (Exception, SystemExit) as error:  # a library's sys.exit is about its items too
            raise StepError(number) from error
    kept: list[list[str]] = [[] for _ in items]
    try:
        for root, item in going.items:
            kept[root].append(canonical(item))
        for lines in (*kept, *going.dropped):
            "".join(lines).encode("utf-8")  # not every text can be written
    except (TypeError, ValueError) as error:
        raise StepError(len(steps) - 1) from error
    results = [Result(*pair) for pair in zip(kept, going.dropped, strict=True)]
    return BatchResult(results, sum(milliseconds(item) for _, item in going.items), counts)


def _through(number: int, step: Opened, going: _Going, counts: StepCounts, timing: Timing) -> None:
    """Take all items through one step."""
    outcomes: list[Sequence[Outcome]] = [()] * len(going.items)
    todo: list[int] = []
    for place, (_, item) in enumerate(going.items):
        counts.into += 1
        counts.milliseconds += milliseconds(item)
        if step.when is not None and step.when(item) is not None:
            counts.passed += 1
            outcomes[place] = (item,)
        elif (missing := missing_key(step.inputs, item)) is not None:
            outcomes[place] = (missing,)
        else:
            todo.append(place)
    waiting = [going.items[place][1] for place in todo]
    for chunk in batches(waiting, step.batch or Batch(items=max(1, len(waiting)))):
        some = [waiting[i] for i in chunk]
        start = time.perf_counter()
        came = assigned(some, step.work(some))
        timing.add(step, some, time.perf_counter() - start)
        for i, outcome in zip(chunk, came, strict=True):
            outcomes[todo[i]] = outcome
    before, going.items = going.items, []
    for (root, item), came_of in zip(before, outcomes, strict=True):
        going.items += [(root, outcome) for outcome in came_of if isinstance(outcome, dict)]
        going.dropped[root] += _counted(number, item, came_of, counts)


def _counted(
    step: int, item: Item, outcomes: Sequence[Outcome], counts: StepCounts
) -> Iterator[str]:
    """Count what came of an item; gives a line for each that does not go on."""
    rows = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    parts = sum(row[ID] != item[ID] for row in rows)
    counts.out += len(rows)
    counts.made += parts
    if parts:
        counts.drop("cut", "")
        yield dropped_line(item, how="cut", step=step)
    for outcome in outcomes:
        if isinstance(outcome, dict):
            continue
        how = "filtered" if isinstance(outcome, Filtered) else "quarantined"
        counts.drop(how, outcome.reason)
        reasons = {"reason": outcome.reason, "detail": outcome.detail}
        yield dropped_line(outcome.item, how=how, step=step, **reasons)


def missing_key(inputs: Iterable[str], item: Item) -> Quarantined | None:
    """What becomes of an item without a key that it needs."""
    missing = [key for key in inputs if item.get(key) is None]
    return Quarantined(item, MISSING_KEY, missing[0]) if missing else None


def assigned(items: Sequence[Item], outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    """For each item what came of it.

    Raises:
        ValueError: Something came of none of them, or nothing of one, or both it and its parts.
    """
    places: Mapping[str, int] = {item[ID]: i for i, item in enumerate(items)}
    came: list[list[Outcome]] = [[] for _ in items]
    for outcome in outcomes:
        if isinstance(outcome, (Filtered, Quarantined)):
            item = outcome.item
        elif isinstance(outcome, dict):
            item = outcome
        else:
            raise ValueError(f"a step gave a {type(outcome).__name__}, which is no outcome")
        place = places.get(item.get(ID, ""))
        if place is None:
            place = places.get(item.get(PARENT, "")) if isinstance(outcome, dict) else None
            if place is None:
                raise ValueError("a step gave an outcome for an item that it was not given")
        came[place].append(outcome)
    for item, of_it in zip(items, came, strict=True):
        if not of_it:
            raise ValueError("a step gave nothing for an item: say Filtered or Quarantined")
        whole = [not isinstance(o, dict) or o[ID] == item[ID] for o in of_it]
        if any(whole) and len(of_it) > 1:
            raise ValueError("a step gave an item twice, or both it and parts of it")
        if len({o[ID] for o in of_it if isinstance(o, dict)}) < len(of_it) - any(whole):
            raise ValueError("a step gave two parts of an item with one id")
    return came
