"""Votes on words, by hand-made networks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle.curation.steps.rover import NOTHING, Heard, Slot, network, vote


def _text(words: str, confidence: float = 1.0) -> list[Heard]:
    return [Heard(word, word.lower().strip("."), confidence) for word in words.split()]


def _shown(slots: list[Slot]) -> list[str]:
    return ["/".join(heard.plain or "-" for heard in slot) for slot in slots]


def _voted(*texts: str, alpha: float = 1.0) -> str:
    slots = network([_text(text) for text in texts])
    return " ".join(word.word for word in vote(slots, alpha=alpha))


def test_slots_hold_a_word_or_nothing_of_every_system() -> None:
    slots = network([_text("a b c"), _text("a x c d"), _text("b c d")])
    assert _shown(slots) == ["a/a/-", "b/x/b", "c/c/c", "-/d/d"]
    assert all(len(slot) == 3 for slot in slots)
    # Each system's words are in its own column, in order.
    for column, text in enumerate(("a b c", "a x c d", "b c d")):
        assert " ".join(s[column].word for s in slots if s[column] != NOTHING) == text


@pytest.mark.parametrize(
    ("texts", "best"),
    [
        (("the cat sat", "the cat sat", "a hat sat"), "the cat sat"),
        (("the cat", "the cat sat", "the cat sat"), "the cat sat"),  # two have put a word in
        (("the big cat", "the cat", "the cat"), "the cat"),  # two have left one out
        (("one two", "one too", "won two"), "one two"),  # better than two of the three
        (("", "yes", "yes"), "yes"),
        (("yes", "", ""), ""),
        (("a", "b", "c"), "a"),  # a tie: the first system
        (("b", "a", "c"), "b"),
        (("", ""), ""),
    ],
)
def test_votes_by_number(texts: tuple[str, ...], best: str) -> None:
    assert _voted(*texts) == best


def test_a_majority_does_not_depend_on_the_order() -> None:
    for texts in itertools.permutations(("how are you", "how are you", "who are ewe")):
        assert _voted(*texts) == "how are you"


def test_words_put_in_by_later_systems_meet() -> None:
    """The third system agrees with what the second put in, though the first has nothing there."""
    slots = network([_text("go home"), _text("go right home now"), _text("go right home now")])
    assert _shown(slots) == ["go/go/go", "-/right/right", "home/home/home", "-/now/now"]


def test_confidence_decides_where_votes_do_not() -> None:
    slots = network([_text("cat", 0.4), _text("hat", 0.9)])
    (word,) = vote(slots)
    assert (word.word, word.share, word.confidence) == ("hat", 0.5, 0.9)
    sure = network([_text("cat", 0.2), _text("cat", 0.2), _text("hat", 0.95)])
    assert [word.word for word in vote(sure, alpha=1.0)] == ["cat"]
    assert [word.word for word in vote(sure, alpha=0.0)] == ["hat"]


def test_nothing_has_a_confidence_of_its_own() -> None:
    slots = network([_text("um", 0.6), []])
    assert [word.word for word in vote(slots, null_confidence=0.5)] == ["um"]
    assert vote(slots, null_confidence=0.7) == []


def test_a_word_is_spelled_as_the_surest_system_does() -> None:
    slots = network([_text("hello", 0.5), _text("Hello.", 0.9)])
    (word,) = vote(slots)
    assert (word.word, word.share, word.confidence) == ("Hello.", 1.0, pytest.approx(0.7))


def test_no_systems() -> None:
    assert network([]) == []
    assert vote([]) == []


@pytest.mark.parametrize("alpha", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize(
    ("agreed", "other"), [("the cat", "the hat"), ("the cat", "the big cat"), ("the cat", "cat")]
)
def test_one_sure_system_does_not_overrule_two_that_agree(
    alpha: float, odd: int, agreed: str, other: str
) -> None:
    texts = [_text(agreed, 0.2)] * 2
    texts.insert(odd, _text(other, 1.0))
    assert [word.word for word in vote(network(texts), alpha=alpha)] == agreed.split()


@given(
    agreed=st.lists(st.sampled_from("ab"), max_size=5),
    other=st.lists(st.sampled_from("abc"), max_size=5),
    odd=st.integers(0, 2),
    sure=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_what_two_of_three_say_is_said(
    agreed: list[str], other: list[str], odd: int, sure: tuple[float, float, float]
) -> None:
    texts = [agreed, agreed]
    texts.insert(odd, other)
    heard = [_text(" ".join(text), c) for text, c in zip(texts, sure, strict=True)]
    assert [word.word for word in vote(network(heard))] == agreed


def test_without_a_majority_confidence_decides() -> None:
    texts = [_text(word, c) for word, c in (("a", 0.2), ("b", 0.9), ("c", 0.3), ("c", 0.2))]
    assert [word.word for word in vote(network(texts))] == ["b"]
    assert [word.word for word in vote(network(texts[:2]))] == ["b"]
