"""Events: plain values there and back."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from auricle.streaming.events import Event, Final, Partial
from auricle.types import Segment, Word

SEGMENT = Segment("hello there", 0.5, 1.25, (Word("hello", 0.5, 0.75, 0.9), Word("there", 1, 1.25)))


@pytest.mark.parametrize(
    "event", [Partial("", ""), Partial("hello the", "hello"), Final(SEGMENT), Final(SEGMENT, "en")]
)
def test_events_survive_json(event: Event) -> None:
    again = json.loads(json.dumps(event.to_dict()))
    if again.pop("type") == "final":
        assert Final(**{**again, "segment": Segment.from_dict(again["segment"])}) == event
    else:
        assert Partial(**again) == event


def test_what_the_json_of_an_event_says() -> None:
    partial = {"type": "partial", "text": "hello the", "stable": "hello"}
    assert Partial("hello the", "hello").to_dict() == partial
    assert Final(SEGMENT).to_dict() == {"type": "final", "segment": SEGMENT.to_dict()}
    assert Final(SEGMENT, "en-US").to_dict()["language"] == "en-US"


def test_events_are_values() -> None:
    partial = Partial("a", "")
    with pytest.raises(FrozenInstanceError):
        partial.text = "b"  # type: ignore[misc]
    assert len({partial, Partial("a", ""), Partial("a", "a")}) == 2
