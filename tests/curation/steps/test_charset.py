"""`charset`: the share of characters that do not belong to a language, or to a given set."""

from __future__ import annotations

from typing import Any

import pytest

from auricle.curation.items import Filtered
from auricle.curation.steps.charset import Charset
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept, outcome, reason


@pytest.mark.parametrize(
    ("text", "lang", "share"),
    [
        ("Plain English, 100 % of it: $5 & 3°!", "en", 0.0),
        ("naïve cafe\u0301", "en", 0.0),
        ("Он купил iPhone", "ru", 0.4615),
        ("今日はTシャツを着る。", "ja", 0.0909),
        ("오늘은 天氣", "ko", 0.0),
        ("我喜欢カラオケ", "zh", 0.5714),
        ("می‌خواهم بروم", "fa", 0.0),
        ("नमस्ते दुनिया", "hi", 0.0),
        ("hello ♪♪", "en", 0.2857),
        ("bad \ufffd\ufffd bytes", "en", 0.2),
        ("", "en", 0.0),
        ("  ", "en", 0.0),
        ("dobar dan добар дан", "sr", 0.0),
    ],
)
def test_share_by_language(text: str, lang: str, share: float) -> None:
    assert kept(Charset(), {"text": text, "lang": lang})["foreign_characters"] == share


def test_language_tags_with_regions() -> None:
    item = {"text": "привет", "lang": "ru_RU"}
    assert kept(Charset(), item)["foreign_characters"] == 0.0


@pytest.mark.parametrize("lang", [None, "", "tlh", 3])
def test_an_unknown_language_is_said(lang: Any) -> None:
    item = {"text": "nuqneH", "lang": lang}
    assert kept(Charset(), item)["foreign_characters"] is None
    assert reason(Charset(drop=True), item) == "no known language"


def test_a_given_set_counts_case_and_punctuation_too() -> None:
    step = Charset(characters="abcdefghijklmnopqrstuvwxyz'", also="?")
    assert kept(step, {"text": "it's all right?"})["foreign_characters"] == 0.0
    assert kept(step, {"text": "It's 1."})["foreign_characters"] == 0.5


def test_given_scripts_need_no_language() -> None:
    step = Charset(scripts=["latin", "cyrillic"])
    assert kept(step, {"text": "да yes ναι"})["foreign_characters"] == 0.375


def test_drop_names_what_was_foreign() -> None:
    one = outcome(Charset(drop=True, most=0.1), {"text": "it is привет", "lang": "en"})
    assert isinstance(one, Filtered)
    assert one.reason == "foreign_characters above 0.1"
    assert one.detail == "0.6: в е и п р т"
    assert reason(Charset(drop=True, most=0.6), {"text": "it is привет", "lang": "en"}) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scripts": ["klingon"]}, "'klingon' is no script known here"),
        ({"scripts": "latin"}, "scripts is a list"),
        ({"scripts": ["latin"], "characters": "abc"}, "not both"),
        ({"most": 20}, "between 0 and 1"),
    ],
)
def test_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Charset(**options)


def test_its_examples_hold() -> None:
    assert examples_hold(Charset()) == 3
    assert examples_hold(Charset(drop=True)) == 3
    assert examples_hold(Charset(drop=True, most=0.7, text="pred_text", lang="language")) == 3
