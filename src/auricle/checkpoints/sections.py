"""Reading a foreign configuration so that no key goes unseen and no value is of a wrong type."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from auricle.config import LISTED, fitted, nearest, shown_name
from auricle.errors import CheckpointError, ConfigError

_REQUIRED: Any = object()
_MISSING = "???"  # how OmegaConf spells a value that somebody has yet to give


class Section:
    """One mapping of a foreign configuration; remembers which keys were looked at.

    Args:
        values: The mapping.
        path: Where it stands, `encoder` or `aux_ctc.decoder`; empty for the root.
        where: The file, for messages.
    """

    def __init__(self, values: Any, path: str, where: str) -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{where}: {path or 'the root'} should be a mapping")
        self.values = values
        self.path = path
        self.where = where
        self._seen: set[str] = set()

    def take(self, key: str, default: Any = _REQUIRED, kind: Any = Any) -> Any:
        """The value of `key`, of the type `kind`; null counts as absent where there is a default.

        Raises:
            CheckpointError: Absent without a default, an interpolation that led nowhere, or a value
                of another type.
        """
        self._seen.add(key)
        value = self.values.get(key)
        if value is None or value == _MISSING:
            if default is _REQUIRED:
                raise CheckpointError(
                    f"{self.where}: {self.name(key)} is missing; fetch the checkpoint again"
                )
            return default
        return self._fitted(key, value, kind)

    def raw(self, key: str, default: Any, kind: Any = Any) -> Any:
        """The value of `key` where null means something else than absent."""
        self._seen.add(key)
        return self._fitted(key, self.values.get(key, default), kind)

    def section(self, key: str) -> Section:
        """The mapping under `key`, empty if absent."""
        return Section(self.take(key, {}), self.name(key), self.where)

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
                if near := nearest(str(key), names):
                    hint = f"the nearest known key is {near[0]}"
                else:
                    hint = f"known are {', '.join(names[:LISTED])}, ..."
                wrong = shown_name(self.name(str(key)))
                raise CheckpointError(f"{self.where}: unknown key {wrong}; {hint}")

    def name(self, key: str) -> str:
        """The full name of `key`, from the root."""
        return f"{self.path}.{key}" if self.path else key

    def _fitted(self, key: str, value: Any, kind: Any) -> Any:
        if isinstance(value, str) and "${" in value:
            raise CheckpointError(
                f"{self.where}: {self.name(key)} is {shown_name(value)}, which refers to nothing "
                "in the file; write the value there"
            )
        try:
            return fitted(value, kind, self.name(key))
        except ConfigError as error:
            raise CheckpointError(f"{self.where}: {error}; fetch the checkpoint again") from None
