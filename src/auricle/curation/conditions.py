"""Conditions on an item's keys, as `filter` and `when` take them: read once, then asked per item.

`{"duration": {"ge": 0.5, "le": 40}, "lang": "en"}`: all must hold; a plain value means `eq`.
A condition on a key that an item does not have does not hold, and says so: it never raises.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from auricle.config import nearest, shown
from auricle.curation.items import Item, canonical
from auricle.errors import ConfigError

Conditions = Mapping[str, Any]

ANY_OF = "any_of"  # one of several conditions must hold
NONE_OF = "none_of"


class Unmet(NamedTuple):
    """Why a condition does not hold: `reason` is the same for many items, `detail` has the value.

    `missing` is the key that the item does not have, or whose value is null.
    """

    reason: str
    detail: str = ""
    missing: str | None = None


Check = Callable[[Item], Unmet | None]
_Test = Callable[[Any], bool | None]  # of a value: None where it cannot be compared


def compiled(conditions: Conditions, *, where: str) -> Check:
    """Read conditions; the function gives None where they hold, else the first that does not.

    Comparisons: `lt le eq ne ge gt`, `between: [low, high]` (both included), `in` and `not_in` a
    list, `matches` and `not_matches` a regular expression anywhere in the text, `exists: true` or
    `false`. A null value is no value: only `exists: false` holds for it, not even `ne`. A key with
    dots reaches into mappings, unless the item has that very key. `any_of` and `none_of` take
    lists of conditions. Instead of a value, `{key: other}` stands for what the item holds there.

    Raises:
        ConfigError: An unknown comparison, or a value that it cannot compare with; names `where`.
    """
    if not isinstance(conditions, Mapping) or not conditions:
        raise ConfigError(
            f"{where}: conditions must be a mapping such as {{duration: {{le: 40}}}}, "
            f"not {_shown(conditions)}"
        )
    checks = [_check(key, wanted, where) for key, wanted in conditions.items()]

    def first_unmet(item: Item) -> Unmet | None:
        for check in checks:
            unmet = check(item)
            if unmet is not None:
                return unmet
        return None

    return first_unmet


def value_of(item: Mapping[str, Any], key: str) -> Any:
    """What an item holds under a key, or below it where the key has dots; else None."""
    if key in item:
        return item[key]
    value: Any = item
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _check(key: Any, wanted: Any, where: str) -> Check:
    if not isinstance(key, str):
        raise ConfigError(f"{where}: {_shown(key)} is no key; write it in quotes")
    if key in (ANY_OF, NONE_OF):
        return _group(key, wanted, where)
    where = f"{where}: {key}"
    if not isinstance(wanted, Mapping):
        return _compare(key, "eq", wanted, where)
    if not wanted:
        raise ConfigError(f"{where}: no comparison is given; there are {', '.join(_COMPARISONS)}")
    checks = [_compare(key, name, value, where) for name, value in wanted.items()]
    return lambda item: next((unmet for check in checks if (unmet := check(item))), None)


def _group(key: str, wanted: Any, where: str) -> Check:
    if not isinstance(wanted, Sequence) or isinstance(wanted, str) or not wanted:
        raise ConfigError(f"{where}: {key} takes a list of conditions, not {_shown(wanted)}")
    parts = [compiled(part, where=f"{where}: {key}[{i}]") for i, part in enumerate(wanted)]
    names = [plainly(part) for part in wanted]

    def any_of(item: Item) -> Unmet | None:
        unmet = []
        for part in parts:
            answer = part(item)
            if answer is None:
                return None
            unmet.append(answer)
        details = "; ".join(u.detail for u in unmet if u.detail)
        missing = next((u.missing for u in unmet if u.missing), None)
        return Unmet(" and ".join(u.reason for u in unmet), details, missing)

    def none_of(item: Item) -> Unmet | None:
        met = next((name for part, name in zip(parts, names, strict=True) if not part(item)), None)
        return None if met is None else Unmet(met)

    return any_of if key == ANY_OF else none_of


def _compare(key: str, name: Any, wanted: Any, where: str) -> Check:
    if name not in _COMPARISONS:
        near = nearest(str(name), _COMPARISONS)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_COMPARISONS)}"
        raise ConfigError(f"{where}: there is no comparison {shown(name)}; {hint}")
    if name == "exists":
        return _exists(key, wanted, where)
    if isinstance(wanted, Mapping):
        return _compare_keys(key, name, wanted, where)
    test = _COMPARISONS[name](wanted, f"{where}: {name}")
    reason = f"{key} {_FAILED.get(name, f'not {name}')} {_shown(wanted)}"

    def check(item: Item) -> Unmet | None:
        value = value_of(item, key)
        if value is None:
            return Unmet(f"no {key}", missing=key)
        answer = test(value)
        if answer:
            return None
        detail = f"{key} is {_shown(value)}"
        return Unmet(reason if answer is False else f"{key} cannot be compared", detail)

    return check


def _compare_keys(key: str, name: str, wanted: Mapping[str, Any], where: str) -> Check:
    other = wanted.get("key")
    if set(wanted) != {"key"} or not isinstance(other, str) or name not in _OF_TWO:
        raise ConfigError(
            f"{where}: {name} cannot compare with {_shown(wanted)}; {', '.join(_OF_TWO)} take a "
            "value, or {key: another key}"
        )
    test, reason = _OF_TWO[name], f"{key} {_FAILED.get(name, f'not {name}')} {other}"

    def check(item: Item) -> Unmet | None:
        value, against = value_of(item, key), value_of(item, other)
        for name_of, held in ((key, value), (other, against)):
            if held is None:
                return Unmet(f"no {name_of}", missing=name_of)
        detail = f"{key} is {_shown(value)}, {other} is {_shown(against)}"
        if name not in ("eq", "ne") and not _alike(value, against):
            return Unmet(f"{key} cannot be compared", detail)
        return None if test(value, against) else Unmet(reason, detail)

    return check


def _exists(key: str, wanted: Any, where: str) -> Check:
    if not isinstance(wanted, bool):
        raise ConfigError(f"{where}: exists takes true or false, not {_shown(wanted)}")

    def check(item: Item) -> Unmet | None:
        value = value_of(item, key)
        if (value is not None) == wanted:
            return None
        if wanted:
            return Unmet(f"no {key}", missing=key)
        return Unmet(f"{key} exists", f"{key} is {_shown(value)}")

    return check


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, str], _Test]:
    def made(wanted: Any, where: str) -> _Test:
        _must_be_ordered(wanted, where)
        return lambda value: test(value, wanted) if _alike(value, wanted) else None

    return made


def _between(wanted: Any, where: str) -> _Test:
    if not isinstance(wanted, Sequence) or isinstance(wanted, str) or len(wanted) != 2:
        raise ConfigError(f"{where} takes [low, high], not {_shown(wanted)}")
    low, high = wanted
    _must_be_ordered(low, where)
    _must_be_ordered(high, where)
    if not _alike(low, high) or low > high:
        raise ConfigError(f"{where}: nothing lies between {_shown(low)} and {_shown(high)}")
    return lambda value: low <= value <= high if _alike(value, low) else None


def _equal(wanted: Any, where: str) -> _Test:
    _must_be_value(wanted, where)
    return lambda value: _same(value, wanted)


def _unequal(wanted: Any, where: str) -> _Test:
    _must_be_value(wanted, where)
    return lambda value: not _same(value, wanted)


def _member(wanted: Any, where: str) -> _Test:
    if not isinstance(wanted, Sequence) or isinstance(wanted, str) or not wanted:
        raise ConfigError(f"{where} takes a list, not {_shown(wanted)}")
    for value in wanted:
        _must_be_value(value, where)
    if {type(value) for value in wanted} == {bool, str}:
        raise ConfigError(
            f"{where}: {_shown(wanted)} holds both words and true or false; "
            "YAML reads no, yes, on and off as such: write them in quotes"
        )
    return lambda value: any(_same(value, one) for one in wanted)


def _no_member(wanted: Any, where: str) -> _Test:
    member = _member(wanted, where)
    return lambda value: not member(value)


def _matching(wanted: Any, where: str) -> _Test:
    if not isinstance(wanted, str):
        raise ConfigError(f"{where} takes a regular expression in quotes, not {_shown(wanted)}")
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        raise ConfigError(f"{where}: {wanted!r} is no regular expression: {error}") from error
    return lambda value: bool(pattern.search(value)) if isinstance(value, str) else None


def _not_matching(wanted: Any, where: str) -> _Test:
    matching = _matching(wanted, where)
    return lambda value: None if (found := matching(value)) is None else not found


def _must_be_value(wanted: Any, where: str) -> None:
    if wanted is None:
        raise ConfigError(f"{where}: null is no value to compare with; write exists: false")
    try:
        canonical(wanted)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: {wanted!r} can stand in no manifest; write a text in quotes"
        ) from error


def _must_be_ordered(wanted: Any, where: str) -> None:
    _must_be_value(wanted, where)
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float, str)):
        raise ConfigError(f"{where} takes a number or a text, not {_shown(wanted)}")
    if isinstance(wanted, str) and _reads_as_number(wanted):
        raise ConfigError(
            f"{where}: {wanted!r} is a text; write a number without quotes, and 1.0e-3 for 1e-3"
        )


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _alike(value: Any, wanted: Any) -> bool:
    """Whether two values have an order: numbers, or texts."""
    return (_number(value) and _number(wanted)) or (
        isinstance(value, str) and isinstance(wanted, str)
    )


def _same(value: Any, wanted: Any) -> bool:
    """As JSON has it: 1 is 1.0, and not true."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def plainly(conditions: Conditions) -> str:
    """Conditions as a reason, for those that should not have held."""
    parts = []
    for key, wanted in conditions.items():
        if isinstance(wanted, Mapping):
            parts += [f"{key} {name} {_shown(value)}" for name, value in wanted.items()]
        else:
            parts.append(f"{key} {_shown(wanted)}")
    return " and ".join(parts)


_OF_TWO: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": _same,
    "ne": lambda value, wanted: not _same(value, wanted),
    "ge": operator.ge,
    "gt": operator.gt,
}
# What holds where a condition does not, as reasons say it.
_FAILED = {
    "lt": "≥",
    "le": ">",
    "ge": "<",
    "gt": "≤",
    "eq": "not",
    "ne": "eq",
    "not_in": "in",
    "not_matches": "matches",
}
_COMPARISONS: dict[str, Callable[[Any, str], _Test]] = {
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "eq": _equal,
    "ne": _unequal,
    "ge": _ordered(operator.ge),
    "gt": _ordered(operator.gt),
    "between": _between,
    "in": _member,
    "not_in": _no_member,
    "matches": _matching,
    "not_matches": _not_matching,
    "exists": _equal,  # handled apart: it alone is asked where there is no value
}
