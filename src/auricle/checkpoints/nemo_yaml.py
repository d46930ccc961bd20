"""NeMo's YAML as text: read as OmegaConf reads it, interpolations resolved, and written back.

Plain values only: any tag that would build an object is refused. Knows no key's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from auricle.errors import CheckpointError

MAX_BYTES = 32 * 2**20
MAX_NODES = 2_000_000  # a vocabulary of 100 000 pieces, listed in five places, stays far below
MAX_DEPTH = 64

# libyaml reads the vocabularies of a large model in a tenth of the time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_INTERPOLATION = re.compile(r"\$\{([^${}]*)\}")
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)


class _OmegaLoader(_Loader):  # type: ignore[misc]
    """Differs from YAML 1.1 as OmegaConf does: 1e-5 is a number, a date is a string."""


_OmegaLoader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if not rule[0].endswith((":timestamp", ":float"))]
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}
_OmegaLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class _QuotingDumper(_Dumper):  # type: ignore[misc]
    """Writes no anchors, and quotes what any YAML reader might take for a boolean."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    # PyYAML alone takes 'n' and 'y' for strings; YAML 1.1 takes them for booleans.
    style = "'" if text.lower() in ("y", "n", "yes", "no", "on", "off", "null", "~", "=") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_QuotingDumper.add_representer(str, _represent_text)
_QuotingDumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(content: bytes, where: str) -> dict[str, Any]:
    """The model's section with every interpolation resolved that can be.

    What cannot be resolved (an environment variable, a key that is not there) stays as written:
    it matters only where somebody uses it. A top-level `model:` is taken off.

    Raises:
        CheckpointError: No YAML, no mapping, objects in it, or a document that blows up.
    """
    if len(content) > MAX_BYTES:
        raise CheckpointError(f"{where} has {len(content)} bytes; it is hostile, do not use it")
    try:
        _check_depth(content, where)
        document = yaml.load(content, Loader=_OmegaLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: numbers of absurd length
        brief = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{where} is no plain YAML; fetch it again ({brief})") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{where} holds no mapping; fetch the checkpoint again")
    resolved = _Resolver(document, where).resolve()
    inner = resolved.get("model")
    return inner if isinstance(inner, dict) else resolved


def fed_from(content: bytes) -> frozenset[str]:
    """Keys of the root that interpolations name, `mels` for `${mels}` or `${model.mels}`."""
    named = re.findall(r"\$\{\s*(?:model\.)?(\w+)", content.decode(errors="replace"))
    return frozenset(named)


def write_yaml(values: Mapping[str, Any]) -> bytes:
    """YAML that NeMo reads back; the order of keys is kept."""
    text: str = yaml.dump(
        dict(values), Dumper=_QuotingDumper, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text.encode()


def _check_depth(content: bytes, where: str) -> None:
    """Before anything is built: libyaml builds by recursion in C and crashes."""
    depth = 0
    for event in yaml.parse(content, Loader=_OmegaLoader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        if depth > MAX_DEPTH:
            raise CheckpointError(f"{where} is nested too deeply; it is hostile, do not use it")


class _Resolver:
    """Copies a document while replacing interpolations; counts nodes against alias bombs."""

    def __init__(self, root: dict[Any, Any], where: str) -> None:
        self._root = root
        self._where = where
        self._nodes = 0

    def resolve(self) -> dict[str, Any]:
        result: dict[str, Any] = self._copy(self._root, (), 0)
        return result

    def _copy(self, value: Any, path: tuple[Any, ...], depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise CheckpointError(f"{self._where} grows without end; it is hostile, do not use it")
        if isinstance(value, dict):
            value = _modernised(value)
            return {str(k): self._copy(v, (*path, k), depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self._copy(v, (*path, i), depth + 1) for i, v in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self._text(value, path, depth)
        return value

    def _text(self, text: str, path: tuple[Any, ...], depth: int) -> Any:
        """Innermost interpolations first, so that `${a.${b}}` works."""
        for _ in range(MAX_DEPTH):
            match = _INTERPOLATION.search(text)
            if match is None:
                return text
            found, value = self._look_up(match[1].strip(), path)
            if not found:
                return text
            if match.span() == (0, len(text)):
                return self._copy(value, path, depth + 1)
            text = f"{text[: match.start()]}{value}{text[match.end() :]}"
        raise CheckpointError(f"{self._where}: {'.'.join(map(str, path))} refers to itself")

    def _look_up(self, reference: str, path: tuple[Any, ...]) -> tuple[bool, Any]:
        """`.x` is a sibling, each further dot goes up one; without a dot, from the root."""
        dots = len(reference) - len(reference.lstrip("."))
        keys = re.findall(r"[^.\[\]]+", reference)
        if dots:
            if dots > len(path):
                return False, None
            return self._walk([*path[: len(path) - dots], *keys])
        found, value = self._walk(keys)
        if not found and keys[:1] == ["model"]:  # the wrapper is already off in a saved file
            return self._walk(keys[1:])
        return found, value

    def _walk(self, keys: list[Any]) -> tuple[bool, Any]:
        node: Any = self._root
        for key in keys:
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and str(key).isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                return False, None
        return bool(keys), node


def _modernised(node: dict[Any, Any]) -> dict[Any, Any]:
    """The form before NeMo 1.0, `cls` and `params`, as today's `_target_` and keys."""
    if set(node) == {"cls", "params"} and isinstance(node["params"], dict):
        return {"_target_": node["cls"], **node["params"]}
    return node
