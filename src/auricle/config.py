"""Options as files give them: every value of its field's type and within its bounds.

A dataclass is its own schema: annotations say the types, `Within` the bounds. Knows no key's
meaning.
"""

from __future__ import annotations

import difflib
import functools
import math
import reprlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from auricle.errors import ConfigError, escaped

LISTED = 8  # how many known names an error lists
_WORD = 80  # characters of a wrong name that are compared, for that takes their square
_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
}


@dataclass(frozen=True)
class Within:
    """The bounds of a number, both included: `Annotated[int, Within(1, 64)]`."""

    least: float
    most: float


# Sizes of layers, and of the windows and lists that a model counts in frames or steps.
Size = Annotated[int, Within(1, 2**16)]
SizeOrNone = Annotated[int, Within(-1, 2**16)]  # -1 stands for a default or for no limit
Probability = Annotated[float, Within(0, 1)]


class _Unfit(Exception):
    """A value is not of the type that is wanted."""


def settle(options: Any) -> None:
    """Check each field of a dataclass; call it first in `__post_init__`.

    Lists become tuples, and whole numbers floats or the other way about, as the field has it.

    Raises:
        ConfigError: A value is of another type or out of bounds; names the field and the value.
    """
    kind: type = type(options)
    for name, hint in _hints(kind).items():
        object.__setattr__(options, name, fitted(getattr(options, name), hint, name))


def fitted(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint` has it.

    Raises:
        ConfigError: It is no such value; `name` says whose it is.
    """
    try:
        return _fit(value, hint)
    except _Unfit:
        raise ConfigError(f"{name} is {shown(value)}; it must be {_wanted(hint)}") from None


def made(kind: Any, values: Any, where: str = "") -> Any:
    """The dataclass `kind` from plain values; dataclasses in it from mappings.

    Raises:
        ConfigError: No mapping, a key that is unknown or missing, or a value that does not fit.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where or 'the configuration'} is {shown(values)}; it must be a mapping"
        )
    prefix = f"{where}." if where else ""
    known = {field.name: field for field in fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(
                f"unknown configuration key {prefix}{shown_name(key)}; {hint(str(key), known)}"
            )
    hints = _hints(kind)
    given = {name: _inner(hints[name], value, prefix + name) for name, value in values.items()}
    try:
        return kind(**given)
    except TypeError as error:  # a field without a default is missing
        raise ConfigError(f"{where or 'the configuration'}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def _inner(hint: Any, value: Any, where: str) -> Any:
    """A field's value, where a dataclass or a list of them is wanted and mappings are given."""
    for kind in (hint, *get_args(hint)):
        if not is_dataclass(kind):
            continue
        if isinstance(value, Mapping):
            return made(kind, value, where)
        if get_origin(hint) is tuple and isinstance(value, list | tuple):
            return tuple(_inner(kind, item, f"{where}.{i}") for i, item in enumerate(value))
    return value


def nearest(word: str, words: Iterable[str], count: int = 1) -> list[str]:
    """Those of `words` that `word` may have been meant for, the likeliest first; often none."""
    return difflib.get_close_matches(word[:_WORD], list(words), n=count, cutoff=0.6)


def hint(word: str, words: Collection[str], count: int = 1) -> str:
    """What an error about an unknown name adds: the names that are near, else those there are."""
    if near := nearest(word, words, count):
        return f"nearest is {' or '.join(near)}"
    names = [shown_name(name) for name in sorted(words)]
    more = ", ..." if len(names) > LISTED else ""
    return f"known are {', '.join(names[:LISTED])}{more}" if names else "there are none"


def shown(value: object) -> str:
    """A value for a message, cut to what tells it from others."""
    return _SHORT.repr(value)


def shown_name(name: object) -> str:
    """A key or name for a message."""
    text = name if isinstance(name, str) else _SHORT.repr(name)
    return escaped(text if len(text) <= _WORD else f"{text[: _WORD - 3]}...")


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 4


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fit(value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(_fit(value, arguments[0]), arguments[1:])
    if origin in (Union, UnionType):
        return _first(value, arguments)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _Unfit
        return value
    if origin is tuple:
        return _row(value, arguments)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _Unfit
        return {_fit(k, arguments[0]): _fit(v, arguments[1]) for k, v in value.items()}
    if hint is int:
        return _whole(value)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Unfit
        return _finite(value)
    if hint is Any or isinstance(value, hint):
        return value
    raise _Unfit


def _first(value: Any, hints: Iterable[Any]) -> Any:
    for one in hints:
        try:
            return _fit(value, one)
        except _Unfit:
            continue
    raise _Unfit


def _row(value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _Unfit
    if hints[-1] is Ellipsis:
        return tuple(_fit(item, hints[0]) for item in value)
    if len(value) != len(hints):
        raise _Unfit
    return tuple(_fit(item, one) for item, one in zip(value, hints, strict=True))


def _whole(value: Any) -> int:
    """YAML and JSON write whole numbers as 16000.0 too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value) % 1 == 0:
        raise _Unfit
    return int(value)


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond them
        raise _Unfit from None
    if not math.isfinite(number):
        raise _Unfit
    return number


def _bounded(value: Any, notes: Iterable[Any]) -> Any:
    for note in notes:
        if isinstance(note, Within) and not note.least <= value <= note.most:
            raise _Unfit
    return value


def _wanted(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [f"{n.least:g} to {n.most:g}" for n in arguments[1:] if isinstance(n, Within)]
        return " of ".join([_wanted(arguments[0]), *bounds])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_wanted(one) for one in arguments))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        some = [] if arguments[-1] is Ellipsis else [str(len(arguments))]
        return " ".join(["a list of", *some, "entries, each", _wanted(arguments[0])])
    return _PLAIN.get(hint, "a mapping")
