"""Dataclasses from plain values: strictly typed, without unknown keys, wrong ones said in a line.

Knows no recipe: a dataclass is its schema, and pydantic does the checking.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from auricle.config import hint, nearest, shown_name
from auricle.errors import ConfigError, MissingExtra

T = TypeVar("T")
Key = str | int
Path = tuple[Key, ...]


def validated(
    kind: type[T],
    values: Mapping[str, Any],
    *,
    where: str = "",
    terms: Mapping[str, str] | None = None,
    what: str = "a recipe",
    extra: str = "train",
) -> T:
    """The dataclass `kind` made of `values`; lists become tuples, whole numbers floats.

    Args:
        kind: May hold further dataclasses.
        values: What a YAML file can say.
        where: The key at which `values` stand, for messages.
        terms: Full names of keys by what others call them, where that is not near.
        what: What has these keys, for messages.
        extra: The extra to install where pydantic is not.

    Raises:
        ConfigError: A key that is unknown or missing, or a value that does not fit; names the key
            and the nearest known one.
        MissingExtra: pydantic is not installed.
    """
    schema: Any = kind
    holder = _holder(schema, extra)
    from pydantic import ValidationError

    try:
        made: T = holder.model_validate_json(json.dumps({"held": values})).held
    except ValidationError as error:
        prefix = f"{where}." if where else ""
        complaint = _complaint(
            error.errors(), values, _keys(schema), prefix, terms=terms or {}, what=what
        )
        raise ConfigError(complaint) from None
    return made


@functools.cache
def _holder(kind: type, extra: str) -> Any:
    try:
        from pydantic import ConfigDict, create_model
    except ImportError:
        cure = f"this needs the extra {extra}: pip install 'auricle[{extra}]'"
        raise MissingExtra(cure) from None
    # A dataclass takes its rules from the model that holds it; JSON is where lists are tuples.
    rules = ConfigDict(extra="forbid", strict=True)
    return create_model("Holder", __config__=rules, held=(kind, ...))


_WANTED = {
    "bool_type": "true or false",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "mapping_type": "a mapping",
    "string_type": "text",
    "too_long": "a shorter list",
    "tuple_type": "a list",
}


def _complaint(
    errors: Sequence[Any],
    values: Mapping[str, Any],
    schema: Mapping[str, Any],
    prefix: str,
    *,
    terms: Mapping[str, str],
    what: str,
) -> str:
    """The first thing that is wrong; what a union's members each want is said together."""
    paths = [_path(error, values) for error in errors]
    # Of a union's members the one that was meant is the one that was understood the furthest.
    inner = max((p for p in paths if p[: len(paths[0])] == paths[0]), key=len)
    path = next((p for p, e in zip(paths, errors, strict=True) if _unknown(e)), inner)
    here = [e for p, e in zip(paths, errors, strict=True) if p == path]
    name = prefix + ".".join(str(key) for key in path)
    if _unknown(here[0]):
        wrong = shown_name(name)
        return f"{wrong} is no key of {what}; {_hint(path, schema, prefix, terms)}"
    if here[0]["type"] == "missing":
        return f"{name} is missing"
    if here[0]["type"] == "value_error":  # what the dataclass itself refuses
        return f"{name.removesuffix('.')}: {here[0]['ctx']['error']}"
    wanted = " or ".join(dict.fromkeys(_wanted(error) for error in here))
    said = json.dumps(here[0]["input"], ensure_ascii=False)
    said = said if len(said) <= 60 else f"{said[:57]}..."
    return f"{name} is {said}; it must be {wanted}"


def _wanted(error: Any) -> str:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    message = str(error["msg"]).removeprefix("Input should be ")
    return _WANTED.get(str(error["type"]), message)


def _unknown(error: Any) -> bool:
    return str(error["type"]) == "unexpected_keyword_argument"


def _path(error: Any, values: Mapping[str, Any]) -> Path:
    """The keys among what pydantic says; the others name members of unions."""
    loc: Path = error["loc"][1:]
    node: Any = values
    path: list[Key] = []
    for key in loc:
        keys = range(len(node)) if isinstance(node, list) else node
        if isinstance(keys, (dict, range)) and key in keys:
            node = node[key]
            path.append(key)
    return (*path, loc[-1]) if error["type"] == "missing" else tuple(path)


def _hint(path: Path, schema: Mapping[str, Any], prefix: str, terms: Mapping[str, str]) -> str:
    """The key that was probably meant: a like one beside it, else a like one anywhere."""
    wrong = str(path[-1])
    before = "".join(f"{key}." for key in path[:-1])
    level: Mapping[str, Any] = schema
    for key in path[:-1]:
        level = level if isinstance(key, int) else level.get(key) or {}
    if beside := nearest(wrong, level):
        return f"nearest is {prefix}{before}{beside[0]}"
    if wrong in terms:
        return f"nearest is {prefix}{terms[wrong]}"
    everywhere = {name.rpartition(".")[2]: name for name in _names(schema)}
    if far := nearest(wrong, everywhere):
        return f"nearest is {prefix}{everywhere[far[0]]}"
    return hint(wrong, [f"{prefix}{before}{name}" for name in level])


@functools.cache
def _keys(kind: Any) -> Mapping[str, Any]:
    """The keys of a dataclass, each with those below it, None where there are none."""
    hints = get_type_hints(kind)
    return {f.name: next(map(_keys, _dataclasses(hints[f.name])), None) for f in fields(kind)}


def _dataclasses(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from _dataclasses(inner)


def _names(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, below in schema.items():
        listed = key in ("train", "validation") and prefix == "data."
        yield f"{prefix}{key}"
        yield from _names(below or {}, f"{prefix}{key}.0." if listed else f"{prefix}{key}.")
