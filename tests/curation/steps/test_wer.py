"""Error rates as a step gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auricle.curation.items import Quarantined
from auricle.curation.step import Place
from auricle.curation.steps.wer import NO_HYPOTHESIS, NO_REFERENCE, OK, Wer
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept


def _rates(reference: Any, hypothesis: Any, **options: Any) -> dict[str, Any]:
    item = {"text": reference, "pred_text": hypothesis, "other": 1}
    found = kept(Wer(**options), item)
    assert set(found) == {*item, *Wer(**options).outputs}
    return found


def test_examples() -> None:
    assert examples_hold(Wer()) == examples_hold(Wer(prefix="fast_", raw=True)) == 5


def test_what_a_normaliser_removes_does_not_count() -> None:
    found = _rates("Hello, WORLD.", "hello world", raw=True)
    assert (found["wer"], found["cer"], found["wer_status"]) == (0.0, 0.0, OK)
    assert found["wer_raw"] == 1.0
    assert found["cer_raw"] == round(8 / 13, 4)  # H, a comma, five capitals, a full stop


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mo\u0323\u0302t bo\u0302\u0301n", "m\u1ed9t b\u1ed1n"),
        ("\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4f60\u597d,\u4e16\u754c!"),
        ("wait\u2026 a \u00bd mile", "wait... a 1\u20442 mile"),
        ("\u05e9\u05dc\u05d5\u05dd\u200f", "\u05e9\u05dc\u05d5\u05dd"),
    ],
)
def test_spellings_of_one_character_are_no_errors(one: str, other: str) -> None:
    for said, heard in ((one, other), (other, one)):
        found = _rates(said, heard, raw=True)
        assert found["wer"] == found["cer"] == found["wer_raw"] == 0.0


@pytest.mark.parametrize("reference", ["", "  ", "...", None, 3, ["a"]])
def test_no_reference_is_no_infinity(reference: Any) -> None:
    found = _rates(reference, "something")
    assert found["wer_status"] == NO_REFERENCE
    assert found["wer"] is found["cer"] is found["start_cer"] is found["end_cer"] is None
    assert found["wer_words"] == 0


def test_nothing_heard_is_all_wrong_and_null_is_unknown() -> None:
    found = _rates("two words", "")
    assert (found["wer"], found["cer"], found["wer_status"]) == (1.0, 1.0, OK)
    unknown = _rates("two words", None)
    assert (unknown["wer"], unknown["wer_status"], unknown["wer_words"]) == (None, NO_HYPOTHESIS, 2)


def test_more_words_than_were_said() -> None:
    assert _rates("one", "one two three four")["wer"] == 3.0


def test_the_edges() -> None:
    reference = "the beginning is heard and the end is not"
    found = _rates(reference, "the beginning is heard and the en")
    assert found["start_cer"] == 0.0
    assert found["end_cer"] > 0.3
    cut = _rates(reference, "ginning is heard and the end is not")
    assert cut["start_cer"] > 0.3
    assert cut["end_cer"] == 0.0
    assert _rates("abcdef", "abcxyz", edge=3)["start_cer"] == 0.0
    assert _rates("abcdef", "abcxyz", edge=3)["end_cer"] == 1.0


def test_scripts_without_spaces() -> None:
    found = _rates("今日は雨です", "今日は雪です")
    assert found["wer"] == found["cer"] == round(1 / 6, 4)
    assert found["wer_words"] == 6
    mixed = _rates("iPhoneが好き", "iphone が好き")
    assert (mixed["wer"], mixed["wer_words"]) == (0.0, 4)


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="edge must be 1 character"):
        Wer(edge=0)


def test_a_text_that_is_null_has_a_status_of_its_own() -> None:
    work = Wer().open(Place(Path()))
    null, missing = work([{"item_id": "1", "text": "a b", "pred_text": None}, {"item_id": "2"}])
    assert isinstance(null, dict)
    assert (null["wer"], null["wer_words"], null["wer_status"]) == (None, 2, "no_hypothesis")
    assert missing == Quarantined({"item_id": "2"}, "missing key", "pred_text")
