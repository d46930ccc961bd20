"""`normalise`: the same words written in one way."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from auricle.curation.items import Quarantined
from auricle.curation.steps.normalise import Normalise
from tests.curation.steps.examples import examples_hold, kept, outcome


@pytest.mark.parametrize(
    ("style", "gives"),
    [
        ("plain", "don't panic it is 42 weeks well"),
        ("lower", "“don’t panic!” it is 42 weeks—well…"),
        ("tidy", "“Don’t PANIC!” It is 42 weeks—well…"),
    ],
)
def test_styles(style: Literal["plain", "lower", "tidy"], gives: str) -> None:
    given = {"text": " “Don’t  PANIC!”\tIt is 42 weeks—well… "}
    assert kept(Normalise(style=style), given) == {"text": gives}


def test_into_another_key() -> None:
    given = {"text": "Hi!", "other": 1}
    assert kept(Normalise(into="plain"), given) == {**given, "plain": "hi"}


@pytest.mark.parametrize("given", [{"text": None}, {"text": 3}, {}])
def test_no_text(given: dict[str, Any]) -> None:
    assert isinstance(outcome(Normalise(), given), Quarantined)


@pytest.mark.parametrize("style", ["plain", "lower", "tidy"])
def test_its_examples_hold(style: Literal["plain", "lower", "tidy"]) -> None:
    assert examples_hold(Normalise(style=style)) == 1
    assert examples_hold(Normalise(text="a", into="b", style=style)) == 1
