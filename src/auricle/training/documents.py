"""YAML documents that people write, with plain values only, and `key=value` changes to them.

Safe to read whoever wrote them: bounded, without tags, aliases, doubled keys or surprises of type.
"""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from auricle.errors import ConfigError

MAX_BYTES = 2**18
MAX_DEPTH = 32

Values = dict[str, Any]


class Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `no` is a text, 1e-5 a number, a date a text."""


class Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML takes for something else than a text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always: what is said twice is written twice."""
        return True


_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
Loader.yaml_implicit_resolvers = {}
Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _PLAIN
}
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    for _kind in (Loader, Dumper):
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
        )


def read_document(file: Path | Traversable, *, where: str, what: str) -> Values:
    """The mapping of keys to values that a file holds.

    Args:
        file: In UTF-8.
        where: What messages call the file.
        what: What it should be, for messages: "recipe".

    Raises:
        ConfigError: It is no such file; one line, with the line's number where there is one.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is no text in UTF-8, and so no {what}") from None
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{where} has more than {MAX_BYTES} bytes; that is no {what}")
    values = parsed(text, where)
    if not isinstance(values, dict):
        raise ConfigError(f"{where} holds no mapping of keys to values, and so no {what}")
    return values


def parsed(text: str, where: str) -> Any:
    """The plain values of one YAML document.

    Aliases are refused, for with them a few lines can mean gigabytes.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                what = "has an alias (*)" if depth <= MAX_DEPTH else "nests too deeply"
                raise ConfigError(f"{where}{_line(event.start_mark)} {what}; write the values out")
        _refuse_strange(yaml.compose(text, Loader=Loader), where)
        return yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of absurd length
        if isinstance(error, ConfigError):
            raise
        line = _line(getattr(error, "problem_mark", None))
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}{line} is no plain YAML: {problem[:200]}") from None


def _line(mark: Any) -> str:
    return f", line {mark.line + 1}," if mark else ""


def _refuse_strange(node: yaml.Node | None, where: str) -> None:
    """PyYAML would quietly take the last of two equal keys, and halves of characters."""
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= c <= "\udfff" for c in node.value):
        raise ConfigError(
            f"{where}{_line(node.start_mark)} has half a character (a lone surrogate), which is no "
            "text"
        )
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_strange(item, where)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = _line(key.start_mark)
            if key.tag != "tag:yaml.org,2002:str":
                raise ConfigError(f"{where}{line} has a key that is no text; put it in quotes")
            if key.value in seen:
                raise ConfigError(f"{where}{line} says {key.value} a second time")
            seen.add(key.value)
            _refuse_strange(key, where)
            _refuse_strange(value, where)


def split_override(text: str, example: str) -> tuple[str, str]:
    """The key and the value, both as written, of `key=value`.

    Raises:
        ConfigError: It is no such thing; shows the example.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ConfigError(f"{text!r} is no override; write key=value, as in {example}")
    return name, value


def set_value(values: Values, name: str, value: Any, *, where: str) -> None:
    """Put a value where `name` says, `a.b.0.c`; what is missing on the way there is made.

    Raises:
        ConfigError: On the way there is something that has no keys, or no such entry.
    """
    path = name.split(".")
    node: Any = values
    for i, step in enumerate(path):
        so_far = ".".join(path[:i])
        if isinstance(node, list):
            at: Any = _index(node, step, so_far, where)
        elif isinstance(node, dict):
            at = step
        else:
            raise ConfigError(f"{where}: {so_far} is {node!r}, and has no {step} to set")
        if i == len(path) - 1:
            node[at] = value
        elif (node[at] if isinstance(node, list) else node.get(at)) is None:
            node[at] = [] if path[i + 1].isdecimal() else {}
        node = node[at]


def _index(node: list[Any], step: str, name: str, where: str) -> int:
    """The number of an entry, which is added if it is the one behind the last."""
    if not step.isdecimal() or int(step) > len(node):
        raise ConfigError(
            f"{where}: {name}.{step} is no entry of a list of {len(node)}; the next is "
            f"{name}.{len(node)}"
        )
    if int(step) == len(node):
        node.append(None)
    return int(step)
