"""Values from files made into options: types, bounds, unknown names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from auricle.config import Within, fitted, hint, made, nearest, settle, shown, shown_name
from auricle.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    width: Annotated[int, Within(1, 8)] = 2

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True)
class Outer:
    rate: float
    name: str = "a"
    kind: Literal["lstm", "gru"] = "lstm"
    sizes: tuple[tuple[int, int], ...] = ()
    inner: Inner | None = None
    rows: tuple[Inner, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(self)


def test_values_become_what_the_fields_have() -> None:
    values = {"rate": 3, "sizes": [[1, 2.0]], "inner": {"width": 4.0}, "rows": [{}, {"width": 1}]}
    outer = made(Outer, values)
    assert outer == Outer(3.0, sizes=((1, 2),), inner=Inner(4), rows=(Inner(), Inner(1)))
    assert isinstance(outer.rate, float) and isinstance(outer.inner.width, int)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "rate"),
        ({"rate": "3"}, "rate is '3'; it must be a number"),
        ({"rate": True}, "rate is True; it must be a number"),
        ({"rate": math.nan}, "rate is nan"),
        ({"rate": math.inf}, "rate is inf"),
        ({"rate": 10**400}, "it must be a number"),
        ({"rate": 1, "name": 3}, "name is 3; it must be text"),
        ({"rate": 1, "kind": "rnn"}, "kind is 'rnn'; it must be lstm or gru"),
        ({"rate": 1, "kind": ["lstm"]}, "it must be lstm or gru"),
        ({"rate": 1, "sizes": [[1, 2, 3]]}, "sizes is"),
        ({"rate": 1, "sizes": 7}, "it must be a list"),
        ({"rate": 1, "inner": {"width": 9}}, "inner: width is 9; .* of 1 to 8"),
        ({"rate": 1, "inner": {"width": 1.5}}, "a whole number"),
        ({"rate": 1, "inner": {"widht": 1}}, r"inner\.widht; nearest is width"),
        ({"rate": 1, "inner": 3}, "inner is 3"),
        ({"rate": 1, "rows": [{"width": 0}]}, r"rows\.0: width is 0"),
        ({"rate": 1, "rows": [3]}, "rows is"),
        ({"rate": 1, "numbers": {"a": "b"}}, "numbers is"),
        ({"rate": 1, "numbers": {3: 1}}, "numbers is"),
        ({"rate": 1, "qqqq": 1}, "unknown configuration key qqqq; known are inner, kind"),
        ([1], "it must be a mapping"),
        (None, "it must be a mapping"),
    ],
)
def test_what_does_not_fit_is_named(values: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        made(Outer, values)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_names_are_suggested_only_where_they_are_near() -> None:
    known = ["n_layers", "d_model", "subsampling_factor"]
    assert nearest("n_layer", known) == ["n_layers"]
    assert nearest("something_else", known) == []
    assert hint("d_modle", known) == "nearest is d_model"
    assert hint("zzz", known) == "known are d_model, n_layers, subsampling_factor"
    assert hint("zzz", [f"k{i}" for i in range(99)]).endswith(", ...")
    assert hint("x" * 10**6, known).startswith("known are")


def test_values_are_cut_for_messages() -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    for value in ("x" * 10**6, list(range(10**5)), {"a": deep}, 10**4000, deep):
        assert len(shown(value)) < 200
    assert shown_name("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert len(shown_name("x" * 10**6)) == 80


def test_a_union_takes_what_one_of_its_members_takes() -> None:
    assert fitted(None, int | None, "x") is None
    assert fitted([1], tuple[int, ...] | None, "x") == (1,)
    with pytest.raises(ConfigError, match="x is 'a'; it must be a whole number or null"):
        fitted("a", int | None, "x")
