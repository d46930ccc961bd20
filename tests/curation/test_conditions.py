"""Conditions: every comparison, missing keys, and what is refused before a job."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import yaml

from auricle.curation.conditions import compiled
from auricle.errors import ConfigError

ITEM = {
    "duration": 4.0,
    "lang": "en",
    "text": "so it goes",
    "ok": True,
    "n": 1,
    "signs": [],
    "speaker": None,
    "meta": {"source": {"name": "radio"}},
    "a.b": 3,
}


@pytest.mark.parametrize(
    "conditions",
    [
        {"duration": {"lt": 4.1}},
        {"duration": {"le": 4}},
        {"duration": {"eq": 4}},
        {"duration": 4},
        {"duration": {"ne": 5}},
        {"duration": {"ge": 4}},
        {"duration": {"gt": 3.9, "lt": 5}},
        {"duration": {"between": [4, 4]}},
        {"lang": {"in": ["de", "en"]}},
        {"lang": {"not_in": ["de"]}},
        {"lang": {"lt": "fr"}},
        {"text": {"matches": r"\bit\b"}},
        {"text": {"not_matches": r"\d"}},
        {"ok": True},
        {"signs": []},
        {"text": {"exists": True}},
        {"speaker": {"exists": False}},
        {"nowhere": {"exists": False}},
        {"meta.source.name": "radio"},
        {"a.b": 3},
        {"duration": {"gt": {"key": "n"}}, "lang": {"ne": {"key": "text"}}},
        {"any_of": [{"duration": {"gt": 9}}, {"lang": "en"}]},
        {"none_of": [{"duration": {"gt": 9}}, {"lang": "de"}, {"nowhere": 1}]},
    ],
)
def test_what_holds(conditions: dict[str, Any]) -> None:
    assert compiled(conditions, where="filter")(ITEM) is None


@pytest.mark.parametrize(
    ("conditions", "reason", "detail"),
    [
        ({"duration": {"lt": 4}}, "duration ≥ 4", "duration is 4.0"),
        ({"duration": {"ge": 0.5, "le": 3}}, "duration > 3", "duration is 4.0"),
        ({"duration": {"between": [5, 6]}}, "duration not between [5, 6]", "duration is 4.0"),
        ({"lang": "de"}, 'lang not "de"', 'lang is "en"'),
        ({"lang": {"ne": "en"}}, 'lang eq "en"', 'lang is "en"'),
        ({"lang": {"in": ["de"]}}, 'lang not in ["de"]', 'lang is "en"'),
        ({"lang": {"not_in": ["en"]}}, 'lang in ["en"]', 'lang is "en"'),
        ({"text": {"matches": "x"}}, 'text not matches "x"', 'text is "so it goes"'),
        ({"text": {"exists": False}}, "text exists", 'text is "so it goes"'),
        # values of another kind are never equal, and have no order: said, not raised
        ({"lang": {"lt": 3}}, "lang cannot be compared", 'lang is "en"'),
        ({"ok": {"ge": 1}}, "ok cannot be compared", "ok is true"),
        ({"duration": {"matches": "4"}}, "duration cannot be compared", "duration is 4.0"),
        ({"n": True}, "n not true", "n is 1"),
        # a key that is not there, or null, is a reason of its own, whatever the comparison
        ({"wer": {"le": 0.2}}, "no wer", ""),
        ({"wer": {"ne": 0.2}}, "no wer", ""),
        ({"speaker": {"not_in": ["x"]}}, "no speaker", ""),
        ({"speaker": {"exists": True}}, "no speaker", ""),
        ({"lang.code": "en"}, "no lang.code", ""),
        ({"duration": {"lt": {"key": "n"}}}, "duration ≥ n", "duration is 4.0, n is 1"),
        ({"lang": {"eq": {"key": "text"}}}, "lang not text", 'lang is "en", text is "so it goes"'),
        ({"lang": {"lt": {"key": "n"}}}, "lang cannot be compared", 'lang is "en", n is 1'),
        ({"lang": {"eq": {"key": "heard"}}}, "no heard", ""),
        (
            {"any_of": [{"duration": {"gt": 9}}, {"wer": {"gt": 0.5}}]},
            "duration ≤ 9 and no wer",
            "duration is 4.0",
        ),
        ({"none_of": [{"lang": "de"}, {"duration": {"gt": 3}}]}, "duration gt 3", ""),
    ],
)
def test_what_does_not_hold(conditions: dict[str, Any], reason: str, detail: str) -> None:
    unmet = compiled(conditions, where="filter")(ITEM)
    assert unmet is not None
    assert (unmet.reason, unmet.detail) == (reason, detail)


def test_the_missing_key_is_named_apart() -> None:
    unmet = compiled({"wer": {"le": 0.2}}, where="filter")({})
    assert unmet is not None and unmet.missing == "wer"
    unmet = compiled({"wer": {"le": 0.2}}, where="filter")({"wer": 1})
    assert unmet is not None and unmet.missing is None


def test_a_value_that_is_no_number_passes_no_bound() -> None:
    """-1 for an unknown duration is a number like others: so readers leave the key out instead."""
    nan = {"duration": float("nan")}
    for name in ("lt", "le", "ge", "gt"):
        assert compiled({"duration": {name: 40}}, where="filter")(nan) is not None


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({}, "3-filter: conditions must be a mapping"),
        (None, "must be a mapping"),
        ({1: 2}, "write it in quotes"),
        ({"duration": {}}, "3-filter: duration: no comparison is given; there are lt, le"),
        ({"duration": {"=": 3}}, "there is no comparison '='"),
        ({"duration": {"matchs": "x"}}, "did you mean 'matches'"),
        ({"duration": {"lt": None}}, "exists: false"),
        ({"duration": None}, "exists: false"),
        ({"duration": {"lt": {"keys": "n"}}}, "or {key: another key}"),
        ({"duration": {"in": {"key": "n"}}}, "in cannot compare with"),
        ({"duration": {"lt": [1]}}, "takes a number or a text, not [1]"),
        ({"duration": {"lt": True}}, "takes a number or a text, not true"),
        ({"duration": {"between": [2, 1]}}, "nothing lies between 2 and 1"),
        ({"duration": {"between": [1]}}, "takes [low, high]"),
        ({"lang": {"in": "en"}}, 'takes a list, not "en"'),
        ({"lang": {"in": []}}, "takes a list"),
        ({"text": {"matches": "("}}, "no regular expression"),
        ({"text": {"matches": 3}}, "regular expression in quotes"),
        ({"text": {"exists": 1}}, "takes true or false, not 1"),
        ({"date": datetime.date(2020, 1, 1)}, "write a text in quotes"),
        ({"any_of": {"a": 1}}, "takes a list of conditions"),
        ({"any_of": [{"a": {"is": 1}}]}, "any_of[0]: a: there is no comparison 'is'"),
    ],
)
def test_what_is_refused(conditions: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compiled(conditions, where="3-filter")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_yaml_makes_of_words_and_numbers_is_noticed() -> None:
    """YAML 1.1 reads `no` as false, and `1e-3` as a text."""
    with pytest.raises(ConfigError, match="write them in quotes"):
        compiled(yaml.safe_load("lang: {in: [no, sv]}"), where="filter")
    with pytest.raises(ConfigError, match=r"1\.0e-3"):
        compiled(yaml.safe_load("wer: {lt: 1e-3}"), where="filter")
