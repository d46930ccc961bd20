"""One text out of several, and the best of several."""

from __future__ import annotations

from typing import Any

import pytest

from auricle.curation.steps.select import NO_GOOD, Select
from auricle.curation.steps.vote import NO_PREDICTION, Vote, agreement
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept, reason

ABC = ("a", "b", "c")


def test_examples() -> None:
    assert examples_hold(Vote(ABC)) == 2
    for by in ("confidence", "agreement", "wer"):
        assert examples_hold(Select(ABC, by=by)) == 2  # type: ignore[arg-type]
    assert examples_hold(Select(("a", "b"), primary="a", enough=0.5)) == 1


def test_the_models_vote() -> None:
    item = {"a": "the cat sat", "b": "The hat sat.", "c": "a cat sat", "text": "kept"}
    found = kept(Vote(ABC, alpha=1.0), item)
    assert found["pred_text"] == "the cat sat"
    assert found["confidence"] == round((2 / 3 + 2 / 3 + 1) / 3, 4)
    # a-b and a-c differ in a word of three, b-c in two
    assert found["agreement"] == round(1 - 4 / 9, 4)
    assert {key: found[key] for key in item} == item


def test_confidences_of_words_before_that_of_the_text() -> None:
    words = [{"word": "yes", "confidence": 0.3}, {"word": "sir", "confidence": 0.9}]
    item = {
        "a": "yes sir",
        "a_confidence": 0.9,
        "a_words": words,
        "b": "no sir",
        "b_confidence": 0.5,
    }
    found = kept(Vote(("a", "b"), into="best"), item)
    assert found["best"] == "no sir"
    assert found["best_confidence"] == round((0.5 * 0.5 + 1.0 * 0.7) / 2, 4)
    assert "a_words" not in found
    assert kept(Vote(("a", "b"), keep_words=True), item)["a_words"] == words


def test_parts_of_words_and_marks() -> None:
    found = kept(Vote(ABC), {"a": "twenty-one - yes", "b": "Twenty one, yes!", "c": "twenty one"})
    assert found["pred_text"].lower().replace(",", "") in ("twenty one yes", "twenty one yes!")
    assert found["agreement"] == round(1 - (0 + 1 / 3 + 1 / 3) / 3, 4)


def test_missing_predictions_do_not_vote() -> None:
    found = kept(Vote(ABC), {"a": None, "b": "yes"})
    assert (found["pred_text"], found["agreement"]) == ("yes", 1.0)
    assert reason(Vote(ABC), {"a": None, "c": 3}) == NO_PREDICTION
    silent = kept(Vote(ABC), dict.fromkeys(ABC, ""))
    assert (silent["pred_text"], silent["confidence"], silent["agreement"]) == ("", 0.0, 1.0)


def test_agreement_does_not_depend_on_the_order() -> None:
    assert agreement(["a b", "a b c d"]) == agreement(["a b c d", "a b"]) == 0.5
    assert agreement(["", "a"]) == 0.0
    assert agreement(["", ""]) == 1.0
    assert agreement(["雨です", "雪です"]) == round(2 / 3, 4)


ITEM: dict[str, Any] = {
    "text": "the cat sat",
    "a": "the hat sat",
    "a_confidence": 0.9,
    "b": "the cat sat",
    "b_confidence": 0.7,
    "b_words": [{"word": "the", "start": 0.0, "end": 0.1, "confidence": 0.7}],
    "c": "a cat sat",
    "c_confidence": 0.8,
    "pred_text": "older",
    "confidence": 0.1,
    "words": [],
}


@pytest.mark.parametrize(
    ("by", "best", "score"),
    [("confidence", "a", 0.9), ("agreement", "b", 0.6667), ("wer", "b", 1.0)],
)
def test_the_best_by_each_measure(by: Any, best: str, score: float) -> None:
    found = kept(Select(ABC, by=by), ITEM)
    assert (found["selected"], found["selected_score"]) == (best, score)
    assert found["pred_text"] == ITEM[best]
    assert found["confidence"] == ITEM[f"{best}_confidence"]
    assert found.get("words") == ITEM.get(f"{best}_words")


def test_a_primary_is_taken_if_it_is_good_enough() -> None:
    for enough, best in ((0.7, "b"), (0.75, "a")):
        step = Select(ABC, primary="b", enough=enough)
        assert kept(step, ITEM)["selected"] == best
    assert kept(Select(ABC, primary="b", enough=0.1), {"a": "x", "b": "y"})["selected"] == "a"


def test_none_is_good_enough() -> None:
    assert reason(Select(ABC, least=0.95), ITEM) == NO_GOOD
    assert reason(Select(ABC, by="wer", least=0.5), {"a": "x", "b": "y"}) == NO_GOOD
    assert reason(Select(ABC), {"b": None}) == NO_PREDICTION


def test_ties_and_unknown_scores_go_to_the_first() -> None:
    assert kept(Select(ABC), {"b": "x", "c": "y"})["selected"] == "b"
    same = {"a": "x", "b": "y", "a_confidence": 0.5, "b_confidence": 0.5}
    assert kept(Select(("b", "a")), same)["selected"] == "b"
    found = kept(Select(("a", "b"), by="wer"), {"a": "x", "b": "y", "text": "..."})
    assert (found["selected"], found["selected_score"]) == ("a", None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vote(("a",)), "two or more different"),
        (lambda: Vote(("a", "a")), "two or more different"),
        (lambda: Vote(ABC, alpha=2), "alpha must lie between 0 and 1"),
        (lambda: Select(ABC, by="luck"), "by is 'luck'; use confidence, agreement, wer"),  # type: ignore[arg-type]
        (lambda: Select(ABC, primary="a"), "belong together"),
        (lambda: Select(ABC, primary="d", enough=0.5), "primary 'd' is none of a, b, c"),
    ],
)
def test_wrong_options(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
