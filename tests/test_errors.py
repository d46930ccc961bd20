"""Messages: one printable line of bounded length, whatever went into them."""

from __future__ import annotations

import pickle

import pytest

from auricle import errors
from auricle.errors import AudioError, AuricleError, ModelNotFound, escaped, one_line

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AuricleError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_one_printable_line(kind: type[AuricleError]) -> None:
    error = kind("folder/a\x1b[31m\nb\u2028\udcff\x00: " + "é" * 10**6 + "; do this")
    said = str(error)
    assert said.isprintable() and len(said.encode()) < 2000
    assert said.startswith("folder/a\\x1b[31m b\\u2028\\udcff\\x00: ") and said.endswith("do this")
    assert str(pickle.loads(pickle.dumps(error))) == said


def test_short_messages_stay_as_they_are() -> None:
    text = "Größe 日本 is 3; it must be 4"
    assert one_line(text) == text == str(AuricleError(text))
    assert str(AuricleError()) == ""
    assert AudioError("x", reason="empty").reason == "empty"
    assert isinstance(ModelNotFound("x"), FileNotFoundError)


def test_names_show_their_control_characters() -> None:
    assert escaped("a\nb\tc\u202e") == "a\\nb\\tc\\u202e"
