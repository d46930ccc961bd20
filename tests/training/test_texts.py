"""Styles of writing, and the refusal to mix them."""

from __future__ import annotations

import pytest

from auricle.errors import ConfigError
from auricle.training.texts import check_one_style, normalise, style_of


def test_texts_are_written_in_a_style() -> None:
    text = "Don't  stop,\tMr. O’Neill: 25%!"
    assert normalise(text, "lower") == "don't stop, mr. o’neill: 25%!"
    assert normalise(text, "upper") == "DON'T STOP, MR. O’NEILL: 25%!"
    assert normalise(text, "plain") == "don't stop mr o'neill 25%"
    assert normalise(text, "as_is") == normalise(text, None) == text


def test_a_style_is_seen_in_the_letters() -> None:
    assert style_of(["HELLO", "IT'S 5"]) == "upper"
    assert style_of(["hello", "it's 5"]) == "lower"
    assert style_of(["Hello there."]) == "cased"
    assert style_of(["你好", "123", ""]) == "none"
    assert style_of(["a" * 1000 + "B"]) == "lower"  # a slip of the pen


def test_mixing_is_refused_by_name() -> None:
    check_one_style({"a": "upper", "b": "upper", "c": "none"})
    with pytest.raises(ConfigError, match=r"a is upper, c is cased\): set data\.text to lower"):
        check_one_style({"a": "upper", "b": "upper", "c": "cased"})
