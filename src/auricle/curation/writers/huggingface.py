"""Items as a Hugging Face data set: Parquet files that hold the sound, by split.

    data/train-00000-of-00002.parquet ...

Such a folder is what `datasets.load_dataset` reads, and what the hub shows, as it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from auricle.curation.items import Item, canonical
from auricle.curation.running.specimens import items_with_sound
from auricle.curation.writers.packing import WHERE, StoredFormat, packed
from auricle.curation.writers.writer import (
    WriteExample,
    Writer,
    by_split,
    refuse_others,
    said,
    split_of,
    whole_folder,
)
from auricle.errors import ConfigError, MissingExtra

_AUDIO = "audio"
_ROWS = 100  # of a row group: what a viewer fetches at once
_GROUP_BYTES = 64 << 20
_SAMPLE = 1000


@dataclass(frozen=True)
class HuggingFace(Writer):
    """A folder of Parquet files whose column `audio` holds the sound; `train` without a split.

    Other keys are columns: values of one kind as such, lists and mappings too, and those of
    several kinds as JSON. A file is full with `megabytes` of sound. As their `format`, recordings
    `keep` theirs where other toolkits can read it, or become FLAC or WAV. Needs the extra
    `datasets`.
    """

    path: str = "dataset"
    format: StoredFormat = "keep"
    megabytes: int = 500

    def __post_init__(self) -> None:
        if self.megabytes < 1:
            raise ConfigError(f"huggingface: megabytes must be 1 or more, got {self.megabytes}")

    def check(self, folder: Path) -> None:
        """See `Writer`."""
        _arrow()
        refuse_others(folder / self.path)

    def write(self, items: Iterable[Item], folder: Path) -> None:
        """See `Writer`; the folder is whole or not there."""
        columns = _Columns(items)
        with whole_folder(folder / self.path) as made:
            (made / "data").mkdir()
            splits: dict[str, _Split] = {}
            try:
                for item in items:
                    name = split_of(item, "train")
                    if name not in splits:
                        splits[name] = _Split(made / "data", name, columns, self.megabytes << 20)
                    with packed(item, folder, self.format) as sound:
                        stored = {"bytes": sound.file.read(), "path": sound.name}
                        splits[name].add({**sound.row(item), _AUDIO: stored}, sound.size)
            finally:
                for split in splits.values():
                    split.close()
            for split in splits.values():
                split.number()

    def example(self, folder: Path) -> WriteExample:
        """See `Writer`: rows as they stand in the files, for reading a data set takes seconds."""
        items = items_with_sound(folder)
        gives = [row for _, part in by_split(items, "{split}") for row in said(part)]
        found = partial(_rows, folder / "all")
        return WriteExample(replace(self, path="all"), items, found, gives)


def _rows(folder: Path) -> Iterator[Item]:
    """What is written below a folder; sound goes to files beside it."""
    _, pq = _arrow()
    for file in sorted((folder / "data").iterdir()):
        for row in pq.read_table(file).to_pylist():
            sound = row.pop(_AUDIO)
            path = folder.with_name(sound["path"])
            path.write_bytes(sound["bytes"])
            yield {**row, "audio_filepath": str(path)}


class _Columns:
    """The columns that hold the keys of all items, and the values as they take them."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Go through the items once."""
        pa, _ = _arrow()
        kinds: dict[str, Any] = {"duration": pa.float64()}
        rest = iter(items)
        while some := list(islice(rest, _SAMPLE)):
            values: defaultdict[str, list[Any]] = defaultdict(list)
            for item in some:
                for key, value in item.items():
                    if key not in WHERE:
                        values[key].append(value)
            for key, column in values.items():
                kinds[key] = _common(pa, kinds.get(key, pa.null()), column)
        if _AUDIO in kinds:
            raise ConfigError("a data set's column `audio` is the sound: rename the items' key")
        self._as_json = {key for key, kind in kinds.items() if not _storable(pa, kind)}
        own = [
            pa.field(key, pa.string() if key in self._as_json else kinds[key])
            for key in sorted(kinds)
        ]
        sound = pa.field(_AUDIO, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        said = {"info": {"features": {_AUDIO: {"_type": "Audio"}}}}
        self.schema = pa.schema([sound, *own], {"huggingface": json.dumps(said)})

    def table(self, rows: list[Item]) -> Any:
        """Rows as a table."""
        pa, _ = _arrow()
        columns = [
            pa.array([self._value(row, field.name) for row in rows], field.type)
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)

    def _value(self, row: Mapping[str, Any], key: str) -> Any:
        value = row.get(key)
        return canonical(value) if key in self._as_json and key in row else value


class _Split:
    """The files of one split, one after the other."""

    def __init__(self, folder: Path, name: str, columns: _Columns, most: int) -> None:
        self._folder, self._name, self._columns, self._most = folder, name, columns, most
        self._rows: list[Item] = []
        self._paths: list[Path] = []
        self._file: Any = None
        self._waiting = self._bytes = 0

    def add(self, row: Item, size: int) -> None:
        """Take a row; a group of them is written at once."""
        self._rows.append(row)
        self._waiting += size
        if len(self._rows) >= _ROWS or self._waiting >= _GROUP_BYTES:
            self._flush()
        if self._bytes >= self._most:
            self.close()

    def close(self) -> None:
        """End the file at hand."""
        self._flush()
        if self._file is not None:
            self._file.close()
        self._file, self._bytes = None, 0

    def number(self) -> None:
        """Give the files their names, in which stands how many there are."""
        for path in self._paths:
            path.rename(path.with_name(f"{path.stem}-of-{len(self._paths):05d}.parquet"))

    def _flush(self) -> None:
        if not self._rows:
            return
        _, pq = _arrow()
        rows, self._rows = self._rows, []
        if self._file is None:
            path = self._folder / f"{self._name}-{len(self._paths):05d}.parquet"
            self._paths.append(path)
            self._file = pq.ParquetWriter(path, self._columns.schema, compression="zstd")
        self._file.write_table(self._columns.table(rows))
        self._bytes += self._waiting
        self._waiting = 0


def _common(pa: Any, kind: Any, values: list[Any]) -> Any:
    """The type of a column that holds `kind` and values; None if there is none."""
    if kind is None:
        return None
    try:
        own = pa.array(values).type
        both = [pa.schema([("key", one)]) for one in (kind, own)]
        return pa.unify_schemas(both, promote_options="permissive").field("key").type
    except (pa.ArrowException, OverflowError):
        return None


def _storable(pa: Any, kind: Any) -> bool:
    """Whether a column may have a type; unknown ones and empty mappings may not."""
    if kind is None or pa.types.is_null(kind):
        return False
    inner: Iterator[Any] = (kind.field(i).type for i in range(kind.num_fields))
    first = next(inner, None)
    if first is None:
        return not pa.types.is_struct(kind)
    return all(_storable(pa, one) for one in chain([first], inner))


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(
            "writing a Hugging Face data set needs an extra: pip install 'auricle[datasets]'"
        ) from None
    return pa, pq
