"""The sources of a recipe, opened: bodies of speech that give their items in a seeded order.

What is read here are names, texts and headers; sound is read by workers, when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np

from auricle import manifests
from auricle.errors import ConfigError, ManifestError
from auricle.manifests import OnBadRow
from auricle.training.cuts import cut_rows
from auricle.training.folders import is_audio_folder
from auricle.training.huggingface import Streamed, dataset_rows
from auricle.training.items import Item
from auricle.training.listed import Joined, Listed
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.rows import Dropped, Found, Sieve, check_values
from auricle.training.sounds import FileSound
from auricle.training.tar import expanded, rows_of_nemo, webdataset_rows
from auricle.training.texts import check_one_style, style_of

_STYLE_ROWS = 1000


class Source(Protocol):
    """A body of speech; `dropped` counts the rows that gave no item, by what took them."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def weight(self) -> float | None:
        """Its share of what is drawn; None draws every item once an epoch."""

    @property
    def dropped(self) -> Dropped:
        """Rows that gave no item."""

    @property
    def size(self) -> int | None:
        """Items in a pass; None where they are streamed."""

    def items(self) -> Iterator[Item]:
        """A pass in an order that is always the same."""

    def order(self, rng: np.random.Generator) -> Iterator[Item]:
        """A pass in an order that `rng` draws."""


def open_sources(
    sources: Sequence[SourceRecipe],
    data: DataRecipe,
    *,
    folder: Path | None = None,
    held_out: bool = False,
) -> list[Source]:
    """Open the sources of a recipe; relative names are taken from `folder`.

    Of `held_out` sources, items up to `batch_seconds` are taken, so that a WER leaves out few.

    Raises:
        ConfigError: A source that cannot be, such as one of two kinds; a column that is not there;
            styles of writing that differ, where the recipe does not say what to make of them.
        ManifestError: A missing manifest, a row that cannot be read, a damaged shard, or a source
            of which no row is left.
        AudioError: A row without duration whose sound cannot be read, where that is refused.
    """
    opened = [_opened(source, data, folder or Path(), held_out) for source in sources]
    check_styles(opened, data)
    return opened


def check_styles(opened: Sequence[Source], data: DataRecipe) -> None:
    """Refuse sources whose transcripts are written differently, if the recipe lets them stand.

    Raises:
        ConfigError: They are.
    """
    if data.text is None:
        check_one_style({s.name: style_of(texts([s], _STYLE_ROWS)) for s in opened})


def texts(sources: Iterable[Source], most: int | None = None) -> Iterator[str]:
    """The transcripts of all sources, or of the first items of each."""
    for source in sources:
        yield from (item.text for item in islice(source.items(), most))


def rows_at_fault(source: SourceRecipe, folder: Path) -> Iterator[ManifestError]:
    """What is wrong with each row of a source that no training would begin with.

    Raises:
        ManifestError: A file that is missing or damaged.
    """
    wrong: list[ManifestError] = []
    if source.dataset is None or is_audio_folder(folder / Path(source.dataset).expanduser()):
        for found in chain.from_iterable(_rows(source, folder, wrong.append)):
            try:
                check_values(found)
            except ManifestError as error:
                wrong.append(error)
            yield from wrong
            wrong.clear()
    yield from wrong


def _opened(source: SourceRecipe, data: DataRecipe, folder: Path, held_out: bool) -> Source:
    name = _name(source)
    if source.weight is not None and not source.weight > 0:
        raise ConfigError(f"{name}: weight must be more than 0, got {source.weight}")
    if source.streaming and (source.dataset is None or source.join is not None):
        what = "join" if source.dataset is not None else "a source that is no dataset"
        raise ConfigError(f"{name}: streaming does not go with {what}")
    if source.streaming and not is_audio_folder(folder / name):
        return _streamed(Streamed(source, data, folder, held_out))
    sieve = Sieve(source, data, held_out=held_out)
    rows = (list(sieve.items(group)) for group in _first(source.limit, _rows(source, folder)))
    groups = [items for items in rows if items]
    if not groups:
        raise ManifestError(f"{name}: no items to learn from: {sieve.reasons()}")
    if source.join is not None:
        parts = [item for group in groups for item in group]
        limit = data.max_seconds
        return Joined(name, source.weight, parts, sieve.dropped, source.join, limit)
    return Listed(name, source.weight, groups, sieve.dropped, data.shuffle_buffer)


def _streamed(source: Streamed) -> Source:
    if next(source.items(), None) is None:
        raise ManifestError(f"{source.name}: no items to learn from: {source.reasons()}")
    return source


def _name(source: SourceRecipe) -> str:
    """What the recipe calls a source: the first of its names."""
    kinds = {k: v for k in ("tar", "dataset", "cuts") if (v := getattr(source, k)) is not None}
    if source.manifest is not None and set(kinds) != {"tar"}:
        kinds["manifest"] = source.manifest
    if len(kinds) != 1:
        raise ConfigError(
            "a source needs exactly one of manifest, tar, dataset and cuts (manifest beside tar "
            f"is NeMo's tarred layout), got {' and '.join(sorted(kinds)) or 'none of them'}"
        )
    (value,) = kinds.values()
    return value if isinstance(value, str) else ", ".join(value[:2])


def _rows(
    source: SourceRecipe, folder: Path, bad_row: OnBadRow | None = None
) -> Iterator[Iterable[Found]]:
    """The rows of a source, in groups that lie side by side.

    Rows of manifests, tars and cuts that cannot be read go to `bad_row`; None raises them.
    """
    paths = [] if source.manifest is None else expanded(source.manifest, folder)
    if source.tar is not None:
        shards = expanded(source.tar, folder)
        if paths:
            yield from rows_of_nemo(paths, shards, source, bad_row)
        else:
            yield from webdataset_rows(shards, source, bad_row)
    elif source.dataset is not None:
        yield dataset_rows(source, folder, bad_row=bad_row)
    elif source.cuts is not None:
        yield cut_rows(folder / Path(source.cuts).expanduser(), bad_row)
    else:
        yield _manifest_rows(paths, source, bad_row)


def _first(limit: int | None, groups: Iterator[Iterable[Found]]) -> Iterator[Iterable[Found]]:
    """The groups without what lies beyond `limit` rows; no more of them is read."""
    if limit is None:
        yield from groups
        return
    for rows in groups:
        some = list(islice(rows, limit))
        limit -= len(some)
        yield some
        if limit == 0:
            return


def _manifest_rows(
    paths: Iterable[Path], source: SourceRecipe, bad_row: OnBadRow | None
) -> Iterator[Found]:
    for path in paths:
        for row in manifests.read(path, bad_row=bad_row):
            sound = FileSound(str(row.path), row.offset, row.duration)
            at = f" at {row.offset:g} s" if row.offset else ""
            text = row.data.get(source.text_column) or ""
            yield Found(sound.path + at, sound, text, row.duration, row.language, row.data)
