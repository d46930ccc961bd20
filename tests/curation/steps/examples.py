"""Run steps in tests: on one item, and on their own examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from auricle.curation.items import Filtered, Outcome, Quarantined
from auricle.curation.step import Place, Step


def outcomes(step: Step, items: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """What a step makes of items, which it must leave as they are."""
    given = [dict(item) for item in items]
    before = [dict(item) for item in given]
    found = list(step.open(Place(Path()))(given))
    assert given == before
    return found


def outcome(step: Step, item: Mapping[str, Any]) -> Outcome:
    (one,) = outcomes(step, [item])
    return one


def reason(step: Step, item: Mapping[str, Any]) -> str | None:
    """Why a step kept an item back; None if it did not."""
    one = outcome(step, item)
    return one.reason if isinstance(one, Filtered | Quarantined) else None


def kept(step: Step, item: Mapping[str, Any]) -> dict[str, Any]:
    one = outcome(step, item)
    assert isinstance(one, dict), one
    return one


def examples_hold(step: Step) -> int:
    """Check a step's own examples; gives how many there are."""
    for example in step.examples:
        found = outcomes(step, [example.item])
        assert len(found) == len(example.gives)
        for one, given in zip(found, example.gives, strict=True):
            if isinstance(given, str):
                assert isinstance(one, Filtered | Quarantined) and one.reason == given, one
            else:
                assert isinstance(one, dict), one
                assert set(given) <= set(one)
                assert {k: one[k] for k, v in given.items() if v is not ...} == {
                    k: v for k, v in given.items() if v is not ...
                }
    return len(step.examples)
