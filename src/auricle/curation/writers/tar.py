"""Items as tars of sound with manifests beside them, as NeMo's script lays them out.

audio_0.tar audio_1.tar ...                    the sound
sharded_manifests/manifest_0.json ...          the rows of each tar
tarred_audio_manifest.json                     the rows of all; `shard_id` says whose they are
"""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from auricle import manifests
from auricle.curation.items import Item
from auricle.curation.running.specimens import items_with_sound
from auricle.curation.writers.packing import StoredFormat, packed
from auricle.curation.writers.writer import (
    SPLIT,
    WriteExample,
    Writer,
    by_split,
    example_path,
    read_back,
    refuse_others,
    said,
    whole_folder,
)
from auricle.errors import ConfigError


@dataclass(frozen=True)
class Tar(Writer):
    """A folder of tars; with `{split}` in the path, one for each part.

    A tar is full with so many `items`, or `hours` of sound, whichever comes first. With `keep` as
    their `format`, recordings that NeMo can read stay as they are; else they become FLAC or WAV.
    """

    path: str = "tarred"
    items: int | None = 1000
    hours: float | None = None
    format: StoredFormat = "keep"

    def __post_init__(self) -> None:
        for name, value in (("items", self.items), ("hours", self.hours)):
            if value is not None and not value > 0:
                raise ConfigError(f"tar: {name} must be more than 0, got {value}")

    def check(self, folder: Path) -> None:
        """See `Writer`."""
        if SPLIT not in self.path:
            refuse_others(folder / self.path)

    def write(self, items: Iterable[Item], folder: Path) -> None:
        """See `Writer`; a folder is whole or not there."""
        for name, some in by_split(items, self.path):
            with whole_folder(folder / name) as made:
                (made / "sharded_manifests").mkdir()
                with closing(self._rows(some, folder, made)) as rows:
                    manifests.write(made / "tarred_audio_manifest.json", rows)

    def example(self, folder: Path) -> WriteExample:
        """See `Writer`: a tar for each item, in which the reader finds it with its sound."""
        from auricle.curation import readers

        writer = replace(self, path=example_path(self.path), items=1, hours=None)
        items = items_with_sound(folder)
        parts = [(folder / name, list(some)) for name, some in by_split(items, writer.path)]
        back = []
        for path, part in parts:
            numbers = f"{{0..{len(part) - 1}}}"
            rows = path / "sharded_manifests" / f"manifest_{numbers}.json"
            back.append(readers.Tar(str(path / f"audio_{numbers}.tar"), str(rows)))
        gives = [row for _, part in parts for row in said(part)]
        return WriteExample(writer, items, partial(read_back, back, folder), gives)

    def _rows(self, items: Iterable[Item], folder: Path, made: Path) -> Generator[Item, None, None]:
        """The rows of all tars, which are written on the way."""
        rest = iter(items)
        first = next(rest, None)
        number = 0
        while first is not None:
            rows: list[Item] = []
            seconds = 0.0
            with tarfile.open(
                made / f"audio_{number}.tar", "w", format=tarfile.USTAR_FORMAT
            ) as tar:
                while first is not None and not self._is_full(len(rows), seconds):
                    row = _added(tar, first, folder, self.format)
                    rows.append({**row, "shard_id": number})
                    seconds += row["duration"]
                    first = next(rest, None)
            manifests.write(made / "sharded_manifests" / f"manifest_{number}.json", rows)
            yield from rows
            number += 1

    def _is_full(self, count: int, seconds: float) -> bool:
        if self.items is not None and count >= self.items:
            return True
        return count > 0 and self.hours is not None and seconds >= 3600 * self.hours


def _added(tar: tarfile.TarFile, item: Item, folder: Path, stored: StoredFormat) -> Item:
    """Put an item's sound into a tar; gives its row. No date nor owner is in the bytes."""
    with packed(item, folder, stored) as sound:
        info = tarfile.TarInfo(sound.name)
        info.size = sound.size
        tar.addfile(info, sound.file)
        return sound.row(item)
