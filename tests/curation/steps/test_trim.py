"""An item's stretch from its first word to its last."""

from __future__ import annotations

import pytest

from auricle.curation.steps.trim import NO_WORDS, OUTSIDE, Trim
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept, reason

WORDS = [
    {"word": "yes", "start": 1.0, "end": 1.4, "confidence": 0.9},
    {"word": "sir", "start": 2.0, "end": 2.5, "confidence": 0.8},
]


def test_examples() -> None:
    assert examples_hold(Trim()) == examples_hold(Trim(before=0, after=1.5)) == 2


def test_to_the_words_with_some_room() -> None:
    found = kept(Trim(before=0.3, after=0.2), {"duration": 4.0, "words": WORDS})
    assert (found["offset"], found["duration"]) == (0.7, 2.0)
    assert [(w["start"], w["end"]) for w in found["words"]] == [(0.3, 0.7), (1.3, 1.8)]
    assert [w["word"] for w in found["words"]] == ["yes", "sir"]


def test_within_the_stretch_that_there_is() -> None:
    found = kept(Trim(before=2, after=2), {"offset": 5.0, "duration": 3.0, "words": WORDS})
    assert (found["offset"], found["duration"]) == (5.0, 3.0)
    assert found["words"] == WORDS
    again = kept(Trim(before=0.3, after=0.2), found)
    assert kept(Trim(before=0.3, after=0.2), again) == again


def test_no_words() -> None:
    assert reason(Trim(), {"duration": 1.0, "words": []}) == NO_WORDS
    assert reason(Trim(), {"duration": 1.0, "words": None}) == NO_WORDS
    assert reason(Trim(), {"duration": 0.5, "words": WORDS}) == OUTSIDE


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="before must be 0 or more"):
        Trim(before=-1)
    with pytest.raises(ConfigError, match="after must be 0 or more"):
        Trim(after=float("nan"))
