"""`rates`: characters and words per second, in scripts with and without spaces."""

from __future__ import annotations

from typing import Any

import pytest

from auricle.curation.items import Filtered, Quarantined
from auricle.curation.steps.rates import Rates
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept, outcome, reason


@pytest.mark.parametrize(
    ("text", "chars", "words"),
    [
        ("one two three four", 3.75, 1.0),
        ("", 0.0, 0.0),
        ("...", 0.0, 0.0),
        ("今日はいい天気です。", 2.25, None),
        ("ไปไหนมา", 1.75, None),
        ("오늘은 날씨가 좋다", 2.0, 0.75),
        ("der BMW ist 好", 2.5, 1.0),
    ],
)
def test_rates(text: str, chars: float, words: float | None) -> None:
    item = kept(Rates(), {"text": text, "duration": 4.0})
    assert (item["chars_per_second"], item["words_per_second"]) == (chars, words)


def test_bounds_filter_and_keep_the_rates() -> None:
    step = Rates(chars=[2, 30], words=[0.5, 6])
    assert reason(step, {"text": "one two three", "duration": 3}) is None
    one = outcome(step, {"text": "one two three", "duration": 11.0})
    assert isinstance(one, Filtered)
    assert (one.reason, one.detail) == ("chars_per_second below 2", "chars_per_second is 1")
    assert one.item["words_per_second"] == 0.2727
    assert reason(step, {"text": "a b c d e f g", "duration": 1}) == "words_per_second above 6"


def test_a_bound_on_words_drops_no_text_without_spaces() -> None:
    assert reason(Rates(words=[1, 6]), {"text": "今日はいい天気です", "duration": 20}) is None


@pytest.mark.parametrize("duration", [0, -1.0, None, "3", True, float("nan"), float("inf")])
def test_no_length_is_quarantined(duration: Any) -> None:
    """-1 is what some tools write for files that they cannot read."""
    one = outcome(Rates(), {"text": "hello", "duration": duration})
    assert isinstance(one, Quarantined) and one.reason == "no length"


def test_no_text_is_quarantined() -> None:
    one = outcome(Rates(), {"text": None, "duration": 1.0})
    assert isinstance(one, Quarantined) and one.reason == "text is no text"


@pytest.mark.parametrize("bounds", [[3, 2], [1], 3, "ab", [True, 2]])
def test_bounds_are_checked(bounds: Any) -> None:
    with pytest.raises(ConfigError, match="rates: chars takes"):
        Rates(chars=bounds)


def test_its_examples_hold() -> None:
    assert examples_hold(Rates()) == 2
    assert examples_hold(Rates(text="pred_text")) == 2
