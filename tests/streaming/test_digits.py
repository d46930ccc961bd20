"""A trained model, `examples/digits`, hears a voice it never heard, as a stream.

The goldens have random weights, so their streams are compared with their own offline path alone;
here what is said is known.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

import auricle
from auricle import Final, Partial, Recognizer, StreamState, audio
from auricle.metrics import plain, word_errors
from tests.conftest import ROOT

SPEECH = ROOT / "examples" / "speech"
TEXT = plain((SPEECH / "digits.txt").read_text(encoding="utf-8"))
HEADS = ("ctc", "rnnt")
LOOKAHEADS = (13, 6, 1, 0)


@cache
def digits(head: str) -> Recognizer:
    return auricle.load(ROOT / "examples" / "digits", head=head, device="cpu", precision="fp32")


@cache
def heard() -> npt.NDArray[np.float32]:
    return audio.read(SPEECH / "digits.flac")


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
@pytest.mark.parametrize("head", HEADS)
def test_every_lookahead_hears_the_digits(head: str, lookahead: int) -> None:
    stream = digits(head).stream(lookahead=lookahead)
    for start in range(0, len(heard()), 1600):
        stream.push(heard()[start : start + 1600])
    found = stream.finish()
    # The voice is unlike all that the model has heard: without a look ahead it guesses once more.
    assert word_errors(TEXT, found.text).total <= (head == "rnnt") + (lookahead == 0)
    assert [w.start for w in found.words] == sorted(w.start for w in found.words)


def test_words_come_while_they_are_spoken() -> None:
    stream = digits("ctc").stream(lookahead=1)
    first: dict[str, float] = {}  # when each text was first shown
    for start in range(0, len(heard()), 800):
        for event in stream.push(heard()[start : start + 800]):
            text = event.text if isinstance(event, Partial) else event.segment.text
            first.setdefault(text, (start + 800) / 16_000)
    words = stream.finish().words
    for number, word in enumerate(words[:-1], start=1):
        shown = min(at for text, at in first.items() if len(text.split()) >= number)
        assert word.start < shown < word.end + 0.5


def test_two_utterances_are_two_finals() -> None:
    silence = np.zeros(2 * 16_000, np.float32)
    stream = digits("ctc").stream(lookahead=6)
    events = stream.push(np.concatenate([heard(), silence, heard(), silence]))
    finals = [event.segment for event in events if isinstance(event, Final)]
    assert [segment.text for segment in finals] == [TEXT, TEXT]
    assert finals[1].start > len(heard()) / 16_000 + 1.5


def test_a_stream_goes_on_elsewhere_in_the_middle_of_a_digit() -> None:
    whole = digits("rnnt").stream(lookahead=1)
    whole.push(heard())
    half = digits("rnnt").stream(lookahead=1)
    half.push(heard()[: len(heard()) // 2])
    other = digits("rnnt").stream(state=StreamState.from_bytes(half.state().to_bytes()))
    other.push(heard()[len(heard()) // 2 :])
    assert other.finish() == whole.finish()


@pytest.mark.parametrize("db", [-25.0, -10.0, 6.0])
def test_soft_and_loud_voices_say_the_same(db: float) -> None:
    stream = digits("ctc").stream(lookahead=6)
    stream.push(heard() * np.float32(10 ** (db / 20)))
    assert stream.finish().text == TEXT
