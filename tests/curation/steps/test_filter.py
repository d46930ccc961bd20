"""`filter`: conditions on items, and what it says of those that it keeps back."""

from __future__ import annotations

from typing import Any

import pytest

from auricle.curation.items import Filtered
from auricle.curation.steps.filter import Filter
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, outcomes


def test_kept_and_filtered_with_reason_and_value() -> None:
    items: list[dict[str, Any]] = [
        {"duration": 3.0},
        {"duration": 61.2, "other": [1]},
        {},
        {"duration": None},
        {"duration": "long"},
    ]
    found = outcomes(Filter({"duration": {"ge": 0.5, "le": 40}}), items)
    assert found[0] == items[0]
    assert found[1:] == [
        Filtered(items[1], "duration > 40", "duration is 61.2"),
        Filtered(items[2], "no duration"),
        Filtered(items[3], "no duration"),
        Filtered(items[4], "duration cannot be compared", 'duration is "long"'),
    ]


def test_mistakes_are_found_before_anything_is_opened() -> None:
    with pytest.raises(ConfigError, match="filter: duration: there is no comparison 'less'"):
        Filter({"duration": {"less": 3}})


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ({"duration": {"le": 40}}, 1),
        ({"lang": "en"}, 1),
        ({"lang": {"exists": True}}, 1),
        ({"lang": {"exists": False}, "duration": {"exists": False, "le": 40}}, 1),
        ({"lang": {"exists": False}}, 1),
        ({"any_of": [{"lang": "en"}, {"wer": {"lt": {"key": "other"}}}], "duration": 1}, 1),
        ({"any_of": [{"lang": "en"}, {"lang": {"exists": False}}], "duration": 1}, 1),
        ({"none_of": [{"lang": "en"}, {"lang": {"exists": False}}]}, 1),
        ({"none_of": [{"any_of": [{"lang": "en"}]}]}, 1),
        ({"item_id": {"matches": "^a"}}, 0),
    ],
)
def test_its_examples_hold(conditions: dict[str, Any], count: int) -> None:
    assert examples_hold(Filter(conditions)) == count
