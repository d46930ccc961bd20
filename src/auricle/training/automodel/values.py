"""Reading the YAML of NeMo AutoModel: plain values, sections that know their keys, overrides.

Says what a file holds, not what it means (`automodel` does). Nothing is imported because a file
names it, and nothing is taken from the environment.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auricle.config import hint, shown_name
from auricle.errors import ConfigError

Values = dict[str, Any]

_SYMBOLS = {"none": None, "None": None, "true": True, "True": True, "false": False, "False": False}
_FLAGS = {"yes": True, "on": True, "no": False, "off": False}  # of YAML 1.1, which AutoModel reads
_NUMBER = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?")
_VARIABLE = re.compile(r"\$(\{|[A-Za-z_])")
_MAX_LITERAL = 4096

# What others call a key, where the names are too different to be near.
_TERMS = {
    "learning_rate": "lr",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lora_rank": "dim",
    "r": "dim",
    "rank": "dim",
}


def plain(value: Any) -> Any:
    """A value as AutoModel takes it: "1e-5" is a number, "none" nothing, "['a', 'b']" a list."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if not isinstance(value, str):
        return value
    if value in _SYMBOLS:
        return _SYMBOLS[value]
    if _NUMBER.fullmatch(value):
        return int(value) if re.fullmatch(r"[-+]?[\d_]+", value) else float(value)
    if value[:1] in ("[", "(", "{", "'", '"') and len(value) <= _MAX_LITERAL:
        try:
            parsed = ast.literal_eval(value)  # knows literals only, and calls nothing
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
        return plain(parsed) if isinstance(parsed, (list, tuple, dict)) else parsed
    return value


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that holds no others, with its dotted key."""
    if isinstance(value, (Mapping, list)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def refuse_variables(values: Mapping[str, Any]) -> None:
    """Refuse `${VAR}`, `${oc.env:VAR,default}` and `$VAR`, wherever they stand.

    Raises:
        ConfigError: Names the key, never the variable's value.
    """
    for name, value in leaves(values):
        if isinstance(value, str) and _VARIABLE.search(value):
            raise ConfigError(
                f"{name} is {value[:80]!r}; environment variables are not expanded: write the value"
            )


class Notes:
    """What the reader has to know, each once; keys that are passed over for one reason share it."""

    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = {}

    def add(self, text: str, keys: Sequence[str] = ()) -> None:
        """Keep a note, or a reason with the keys that it holds for."""
        held = self._keys.setdefault(text, [])
        held += [key for key in keys if key not in held]

    def lines(self) -> tuple[str, ...]:
        """All of them, in the order in which they came."""
        return tuple(
            f"{', '.join(keys)}: {text}" if keys else text for text, keys in self._keys.items()
        )


@dataclass
class Section:
    """A mapping of the file. Each key that is asked for is known; `end` refuses the others."""

    name: str
    values: Mapping[str, Any]
    notes: Notes
    _known: list[str] = field(default_factory=list)

    def key(self, key: str) -> str:
        """The key's full, dotted name."""
        return f"{self.name}.{key}" if self.name else key

    def note(self, text: str) -> None:
        """Say something about the translation."""
        self.notes.add(text)

    def get(self, key: str) -> Any:
        """The value, None where there is none."""
        self._known.append(key)
        return self.values.get(key)

    def wrong(self, key: str, wanted: str) -> ConfigError:
        """What to raise if the value of `key` is not what is wanted."""
        return ConfigError(f"{self.key(key)} is {self.values[key]!r}; it must be {wanted}")

    def number(self, key: str, *, above: float | None = None) -> float | None:
        """A finite number of 0 or more, or more than `above`."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        low = value > above if above is not None else value >= 0
        if not low or value == float("inf"):
            raise self.wrong(key, f"above {above:g}" if above is not None else "0 or more")
        return float(value)

    def whole(self, key: str, *, above: int | None = 0) -> int | None:
        """A whole number above `above`; of any size if that is None."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "a whole number")
        if above is not None and value <= above:
            raise self.wrong(key, f"a whole number above {above}")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false, as YAML 1.1 spells them."""
        value = self.get(key)
        if isinstance(value, str) and value.lower() in _FLAGS:
            return _FLAGS[value.lower()]
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str) -> str | None:
        """A text; a number that stands for one is one."""
        value = self.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "text")
        return value or None

    def texts(self, key: str) -> list[str]:
        """A list of texts, or one text."""
        value = self.get(key)
        several = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not all(isinstance(text, str) for text in several):
            raise self.wrong(key, "a list of texts")
        return several

    def section(self, key: str) -> Section | None:
        """A mapping below this one; None if it is not there, or null.

        At keys that end in `_fn` a text stands for a mapping that holds it as its target.
        """
        value = self.get(key)
        if key.endswith("_fn") and isinstance(value, str):
            value = {"_target_": value}
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping")
        return Section(self.key(key), value, self.notes)

    def ignore(self, keys: Iterable[str], reason: str) -> None:
        """Know these keys; those that are given are named in a note, with the reason."""
        keys = list(keys)
        self._known += keys
        given = [self.key(key) for key in keys if key in self.values]
        if given:
            self.notes.add(reason, given)

    def end(self) -> None:
        """Refuse what was never asked for.

        Raises:
            ConfigError: Names the first such key, and the nearest of those that are known.
        """
        for key in self.values:
            if key not in self._known:
                meant = _TERMS.get(key, "")
                if meant in self._known:
                    said = f"nearest is {self.key(meant)}"
                else:
                    said = hint(self.key(key), [self.key(name) for name in self._known])
                wrong = shown_name(self.key(key))
                raise ConfigError(f"{wrong} is no key of AutoModel's known here; {said}")


def needed(file: Section, key: str) -> Section:
    """A section that must be there.

    Raises:
        ConfigError: It is not.
    """
    section = file.section(key)
    if section is None:
        raise ConfigError(f"{key} is missing, which every recipe of AutoModel's has")
    return section


def overrides(words: Sequence[str]) -> list[str]:
    """AutoModel's command line as `a.b=v` each: `--a.b=v`, `--a.b v`, and `--flag` for true.

    Args:
        words: What stands behind the recipe; `a.b=v` without dashes is taken as well.

    Raises:
        ConfigError: A word that is none of these.
    """
    changes: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key = word.removeprefix("--")
        if "=" not in word and key != word and rest and not rest[0].startswith("--"):
            key = f"{key}={rest.pop(0)}"
        elif "=" not in word and key != word:
            key = f"{key}=true"
        name, equals, _ = key.partition("=")
        if not equals or not all(name.split(".")) or name.startswith("-"):
            raise ConfigError(
                f"{word!r} is no override; write --key value, as in --optimizer.lr 1e-4"
            )
        changes.append(key)
    return changes


def changed(data: Mapping[str, Any], changes: Sequence[str]) -> Values:
    """AutoModel's mapping with `a.b=v` put in; mappings on the way are made where there are none.

    Args:
        data: Is left as it is.
        changes: As `overrides` gives them, in AutoModel's own key names.

    Raises:
        ConfigError: A key that leads into a list.
    """
    values: Values = copy.deepcopy(dict(data))
    for change in changes:
        name, _, said = change.partition("=")
        *path, last = name.split(".")
        node = values
        for step in path:
            if isinstance(node.get(step), list):
                raise ConfigError(f"{name} leads into a list; give the whole list instead")
            if not isinstance(node.get(step), dict):
                node[step] = {}
            node = node[step]
        node[last] = plain(said)
    return values
