"""Hugging Face data sets: by name or from a folder, on disk or streamed.

Their sound is decoded by Auricle's reader from the stored bytes or files, never by `datasets`.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from auricle.audio import Samples
from auricle.errors import AudioError, ConfigError, MissingExtra, first_line
from auricle.training.folders import folder_rows, is_audio_folder
from auricle.training.items import Item
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.rows import Found, Sieve
from auricle.training.sounds import BytesSound, FileSound, MeasuredSound

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
        return self._content().read(sample_rate)

    def seconds(self) -> float:
        """What the header says."""
        return self._content().seconds()

    def _content(self) -> BytesSound:
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

    @property
    def name(self) -> str:
        """What the recipe calls it."""
        return str(self.source.dataset)

    @property
    def weight(self) -> float | None:
        """The recipe's."""
        return self.source.weight

    @property
    def dropped(self) -> Counter[str]:
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
        return self._sieve.items(self._rows(self._stream))

    def order(self, rng: np.random.Generator, epoch: int) -> Iterator[Item]:
        """A pass with shards and a buffer shuffled."""
        seed, buffer = int(rng.integers(1 << 31)), min(_BUFFER, self.data.shuffle_buffer)
        return self._sieve.items(self._rows(self._stream.shuffle(seed=seed, buffer_size=buffer)))

    @cached_property
    def _sieve(self) -> Sieve:
        return Sieve(self.source, self.data)

    @cached_property
    def _stream(self) -> Any:
        stream = _undecoded(_loaded(self.source, self.folder), self.source)
        return stream if self.source.limit is None else stream.take(self.source.limit)

    def _rows(self, stream: Any) -> Iterator[Found]:
        labels = _labels(stream)
        for number, row in enumerate(stream):
            stored = row.pop(self.source.audio_column)
            name = _row_name(self.source, number, stored)
            sound = _sound(stored, name)
            yield _found(row, name, sound, self.source, labels)


def dataset_rows(source: SourceRecipe, folder: Path) -> Iterator[Found]:
    """The rows of a data set on disk.

    Raises:
        ConfigError: No such data set, split or column; it names those that there are.
        MissingExtra: The package is not installed.
    """
    folder_of_sound = folder / Path(str(source.dataset)).expanduser()
    if is_audio_folder(folder_of_sound):
        yield from folder_rows(folder_of_sound, source)
        return
    whole = _undecoded(_loaded(source, folder), source)
    audio = whole.select_columns([source.audio_column])
    address = pickle.dumps(audio.with_format(None))
    plain = [name for name, feature in whole.features.items() if _is_plain(feature)]
    labels = _labels(whole)
    numbers = iter(range(len(whole)))
    blocks = zip(
        audio.with_format("arrow").iter(1000),
        whole.select_columns(plain).with_format(None).iter(1000) if plain else iter([{}]),
        strict=True,
    )
    for sounds, columns in blocks:
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
            row = {key: values[i] for key, values in columns.items()}
            yield _found(row, name, sound, source, labels)


def _found(
    row: dict[str, Any],
    name: str,
    sound: MeasuredSound,
    source: SourceRecipe,
    labels: Mapping[str, Any],
) -> Found:
    data = {key: value for key, value in row.items() if _is_scalar(value)}
    data |= {key: names.int2str(row[key]) for key, names in labels.items() if row[key] is not None}
    duration = data.get("duration")
    language = next((data[key] for key in _LANGUAGES if isinstance(data.get(key), str)), None)
    text = data.pop(source.text_column, None)
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


def _undecoded(rows: Any, source: SourceRecipe) -> Any:
    """The data set with its sound as it is stored.

    Raises:
        ConfigError: It has no such column.
    """
    from datasets import Audio

    columns = rows.column_names or list(next(iter(rows.take(1)), {}))
    for key in ("audio_column", "text_column"):
        if (column := getattr(source, key)) not in columns:
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
