"""Hugging Face data sets: by name or from a folder, on disk or streamed.

Their sound is decoded by Auricle's reader from the stored bytes or files, never by `datasets`.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import numpy as np

from auricle.audio import Samples
from auricle.errors import AudioError, ConfigError, MissingExtra, first_line
from auricle.manifests import OnBadRow
from auricle.training.folders import folder_rows, is_audio_folder
from auricle.training.items import Item
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.rows import Dropped, Found, Sieve
from auricle.training.sounds import BytesSound, FileSound, MeasuredSound

_BLOCK = 1000  # rows that are read at a time
_BUFFER = 1000  # streamed items hold their sound, so fewer are mixed
_LANGUAGES = ("lang", "language", "locale")


@dataclass(frozen=True, slots=True)
class DatasetSound:
    """A row of a data set on disk: `rows` is its address, a pickle that holds no sound."""

    rows: bytes
    row: int
    column: str
    name: str

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]."""
        return self.stored().read(sample_rate)

    def seconds(self) -> float:
        """All of it."""
        return self.stored().seconds()

    def stored(self) -> BytesSound:
        """The file as the data set holds it.

        Raises:
            AudioError: It holds none.
        """
        stored = _opened(self.rows)[self.row][self.column]
        return BytesSound(_bytes(stored, self.name), self.name)


@dataclass(frozen=True)
class Streamed:
    """A data set that is fetched while it is learnt from: a pass each epoch, in a new order.

    Its items hold their sound. Every rank fetches all of them, and resuming fetches again what the
    epoch has already used.
    """

    source: SourceRecipe
    data: DataRecipe
    folder: Path
    held_out: bool = False

    @property
    def name(self) -> str:
        """What the recipe calls it."""
        return str(self.source.dataset)

    @property
    def weight(self) -> float | None:
        """The recipe's."""
        return self.source.weight

    @property
    def dropped(self) -> Dropped:
        """Rows that gave no item, of all passes so far."""
        return self._sieve.dropped

    def reasons(self) -> str:
        """What took rows, for a message."""
        return self._sieve.reasons()

    @property
    def size(self) -> None:
        """Nobody knows."""

    def items(self) -> Iterator[Item]:
        """A pass as the data lies."""
        return self._sieve.items(_stream_rows(self._stream, self.source))

    def order(self, rng: np.random.Generator) -> Iterator[Item]:
        """A pass with shards and a buffer shuffled."""
        seed, buffer = int(rng.integers(1 << 31)), min(_BUFFER, self.data.shuffle_buffer)
        stream = self._stream.shuffle(seed=seed, buffer_size=buffer)
        return self._sieve.items(_stream_rows(stream, self.source))

    @cached_property
    def _sieve(self) -> Sieve:
        return Sieve(self.source, self.data, held_out=self.held_out)

    @cached_property
    def _stream(self) -> Any:
        return _opened_stream(self.source, self.folder)


def dataset_rows(
    source: SourceRecipe,
    folder: Path,
    columns: Collection[str] | None = None,
    bad_row: OnBadRow | None = None,
) -> Iterator[Found]:
    """The rows of a data set on disk, or as they come if it is streamed.

    Columns of plain values are kept, or those that `columns` names, whatever they hold. Rows of a
    folder's metadata that cannot be read go to `bad_row`, if there is one.

    Raises:
        ConfigError: No such data set, split or column; it names those that there are.
        MissingExtra: The package is not installed.
    """
    folder_of_sound = folder / Path(str(source.dataset)).expanduser()
    if is_audio_folder(folder_of_sound):
        yield from folder_rows(folder_of_sound, source, bad_row)
    elif source.streaming:
        yield from _stream_rows(_opened_stream(source, folder, columns), source, columns)
    else:
        yield from _rows_on_disk(source, folder, columns)


def _rows_on_disk(
    source: SourceRecipe, folder: Path, columns: Collection[str] | None
) -> Iterator[Found]:
    whole = _undecoded(_loaded(source, folder), source, columns)
    audio = whole.select_columns([source.audio_column])
    address = pickle.dumps(audio.with_format(None))
    plain = [name for name, feature in whole.features.items() if _is_plain(feature)]
    if columns is not None:
        plain = [name for name in whole.features if name in {*columns, source.text_column}]
    kept = _Kept(_labels(whole), columns)
    numbers = iter(range(len(whole)))
    others = whole.select_columns(plain).with_format(None).iter(_BLOCK) if plain else repeat({})
    for sounds, values in zip(audio.with_format("arrow").iter(_BLOCK), others, strict=False):
        stored = sounds.column(source.audio_column).combine_chunks()
        paths, held = stored.field("path").to_pylist(), stored.field("bytes").is_valid().to_pylist()
        for i, path in enumerate(paths):
            number = next(numbers)
            name = _row_name(source, number, {"path": path})
            sound: MeasuredSound
            if held[i] or path is None:
                sound = DatasetSound(address, number, source.audio_column, name)
            else:
                sound = FileSound(path)
            row = {key: column[i] for key, column in values.items()}
            yield _found(row, name, sound, source, kept)


def _opened_stream(
    source: SourceRecipe, folder: Path, columns: Collection[str] | None = None
) -> Any:
    stream = _undecoded(_loaded(source, folder), source, columns)
    return stream if source.limit is None else stream.take(source.limit)


def _stream_rows(
    stream: Any, source: SourceRecipe, columns: Collection[str] | None = None
) -> Iterator[Found]:
    kept = _Kept(_labels(stream), columns)
    for number, row in enumerate(stream):
        stored = row.pop(source.audio_column) or {}
        name = _row_name(source, number, stored)
        yield _found(row, name, _sound(stored, name), source, kept)


@dataclass(frozen=True)
class _Kept:
    """What is kept of a row: plain values, or the columns wanted; names for their numbers."""

    labels: Mapping[str, Any]
    wanted: Collection[str] | None

    def data(self, row: Mapping[str, Any]) -> dict[str, Any]:
        named = {k: v.int2str(row[k]) for k, v in self.labels.items() if row.get(k) is not None}
        row = {**row, **named}
        if self.wanted is None:
            return {key: value for key, value in row.items() if _is_scalar(value)}
        return {key: value for key, value in row.items() if key in self.wanted}


def _found(
    row: dict[str, Any], name: str, sound: MeasuredSound, source: SourceRecipe, kept: _Kept
) -> Found:
    text = row.pop(source.text_column, None)
    data = kept.data(row)
    duration = data.get("duration")
    language = next((data[key] for key in _LANGUAGES if isinstance(data.get(key), str)), None)
    return Found(name, sound, str(text or ""), duration or None, language, data)


def _loaded(source: SourceRecipe, folder: Path) -> Any:
    """The data set that a source names, as the library reads it."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra(
            "Hugging Face data sets need an extra: pip install 'auricle[datasets]'"
        ) from None
    assert source.dataset is not None
    path, name = folder / Path(source.dataset).expanduser(), source.dataset
    streaming = source.streaming
    try:
        if path.is_dir() and _is_saved(path):
            found = datasets.load_from_disk(str(path), keep_in_memory=False)
            if isinstance(found, datasets.DatasetDict):
                known = ", ".join(found)
                if source.split not in found:
                    raise ConfigError(f"{name}: has no split {source.split!r}; it has {known}")
                found = found[source.split]
            return found.to_iterable_dataset() if streaming else found
        options: dict[str, Any] = {"split": source.split, "streaming": streaming}
        place = str(path) if path.is_dir() else name
        return datasets.load_dataset(place, source.subset, keep_in_memory=False, **options)
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        if "torchcodec" in str(cause):
            raise ConfigError(
                f"{name}: in this layout `datasets` needs torchcodec to read it; give tars of it "
                "as `tar`, a manifest, or a folder with a metadata.csv"
            ) from None
        raise ConfigError(f"{name}: cannot be read as a data set: {first_line(cause)}") from None


def _undecoded(rows: Any, source: SourceRecipe, wanted: Collection[str] | None = None) -> Any:
    """The data set with its sound as it is stored.

    Raises:
        ConfigError: It has no such column.
    """
    from datasets import Audio

    columns = rows.column_names or list(next(iter(rows.take(1)), {}))
    named = [(key, getattr(source, key)) for key in ("audio_column", "text_column")]
    for key, column in [*named, *(("columns", column) for column in wanted or ())]:
        if column and column not in columns:
            raise ConfigError(
                f"{source.dataset}: has no column {column!r}; set {key} to one of "
                f"{', '.join(columns)}"
            )
    return rows.cast_column(source.audio_column, Audio(decode=False))


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` has written a folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _is_plain(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    return isinstance(feature, Value | ClassLabel)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _labels(rows: Any) -> dict[str, Any]:
    """Columns that hold numbers for names."""
    from datasets import ClassLabel

    features = rows.features or {}
    return {name: feature for name, feature in features.items() if isinstance(feature, ClassLabel)}


def _row_name(source: SourceRecipe, number: int, stored: Mapping[str, Any]) -> str:
    path = stored.get("path")
    return f"{source.dataset} {source.split} row {number}" + (f" ({path})" if path else "")


def _sound(stored: Mapping[str, Any], name: str) -> MeasuredSound:
    if stored.get("bytes") is None and stored.get("path") and Path(stored["path"]).is_file():
        return FileSound(stored["path"])
    return BytesSound(stored.get("bytes") or b"", name)


def _bytes(stored: Mapping[str, Any], name: str) -> bytes:
    if stored["bytes"] is None:
        raise AudioError(f"{name}: the data set holds no sound in this row")
    return cast(bytes, stored["bytes"])


@lru_cache(maxsize=8)
def _opened(address: bytes) -> Any:
    """The rows at an address; a worker opens them once."""
    return pickle.loads(address)
