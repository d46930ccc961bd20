"""Reading a foreign configuration so that no key goes unseen."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from auricle.errors import CheckpointError

_REQUIRED: Any = object()
_MISSING = "???"  # how OmegaConf spells a value that somebody has yet to give


class Section:
    """One mapping of a foreign configuration; remembers which keys were looked at.

    Args:
        values: The mapping.
        path: Where it stands, `encoder` or `aux_ctc.decoder`; empty for the root.
        where: The file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], path: str, where: str) -> None:
        self.values = values
        self.path = path
        self.where = where
        self._seen: set[str] = set()

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value of `key`; null counts as absent where there is a default.

        Raises:
            CheckpointError: Absent without a default, or an interpolation that led nowhere.
        """
        self._seen.add(key)
        value = self.values.get(key)
        if value is None or value == _MISSING:
            if default is _REQUIRED:
                raise CheckpointError(
                    f"{self.where}: {self.name(key)} is missing; fetch the checkpoint again"
                )
            return default
        return self._resolved(key, value)

    def raw(self, key: str, default: Any) -> Any:
        """The value of `key` where null means something else than absent."""
        self._seen.add(key)
        return self._resolved(key, self.values.get(key, default))

    def section(self, key: str) -> Section:
        """The mapping under `key`, empty if absent."""
        values = self.take(key, {})
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{self.where}: {self.name(key)} should be a mapping")
        return Section(values, self.name(key), self.where)

    def ignore(self, keys: Iterable[str]) -> None:
        """Keys that are known and mean nothing for inference."""
        self._seen.update(keys)

    def finish(self, known: Collection[str] = ()) -> None:
        """Refuse what nobody looked at.

        Raises:
            CheckpointError: Names the first such key and the nearest known one.
        """
        names = sorted({*self._seen, *known})
        for key in self.values:
            if key not in self._seen:
                near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
                hint = f"; the nearest known key is {near[0]}" if near else ""
                raise CheckpointError(f"{self.where}: unknown key {self.name(key)}{hint}")

    def name(self, key: str) -> str:
        """The full name of `key`, from the root."""
        return f"{self.path}.{key}" if self.path else key

    def _resolved(self, key: str, value: Any) -> Any:
        if isinstance(value, str) and "${" in value:
            raise CheckpointError(
                f"{self.where}: {self.name(key)} is {value}, which refers to nothing in the file; "
                "write the value there"
            )
        return value
