"""Items from NeMo-style manifests: `.json` or `.jsonl`, gzipped or not, one or many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from auricle import manifests
from auricle.curation.items import Item
from auricle.curation.readers.reader import (
    BadRow,
    Reader,
    ReadExample,
    absolute,
    checked,
    with_bad_rows,
)
from auricle.errors import ManifestError


@dataclass(frozen=True)
class Manifest(Reader):
    """The rows of manifests, in order; `{0..9}` and `{a,b}` in a path stand for many.

    Every key of a row is kept. Paths of recordings are taken from the manifest's folder, also
    those of the tars that a row's `tar` names. `audio_column` is the key that rows have the path of
    the recording under, where that is not `audio_filepath`.
    """

    paths: ClassVar = ("path",)

    path: str | tuple[str, ...]
    audio_column: str = manifests.AUDIO_KEY

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        """See `Reader`; a manifest that is missing or cut short is refused, for all of them."""
        paths = self.sources()
        for path in paths:
            if not path.is_file():
                raise ManifestError(f"{path}: no such manifest; check the path")
            cure = "set read.manifest.audio_column={key}"
            manifests.check_audio_key(path, self.audio_column, cure=cure)
        for path in paths:
            for row in with_bad_rows(partial(self._rows, path)):
                yield row if isinstance(row, BadRow) else _item(row, path, self.audio_column)

    def sources(self) -> list[Path]:
        """See `Reader`."""
        from auricle.training.tar import expanded

        return expanded(self.path, Path())

    def example(self, folder: Path) -> ReadExample:
        """See `Reader`: two rows, and one that is cut short between them."""
        rows = [
            {"audio_filepath": "clips/a.wav", "duration": 1.5, "text": "schön", "own": [1]},
            {"audio_filepath": "b.wav", "tar": "0.tar", "tar_offset": 512, "tar_size": 9},
        ]
        first, last = (
            json.dumps({**row, self.audio_column: row["audio_filepath"]}) for row in rows
        )
        path = folder / "rows.jsonl"
        path.write_text(f"{first}\n{first[:-9]}\n{last}\n", encoding="utf-8")
        gives = (
            {**rows[0], "audio_filepath": absolute(folder / "clips/a.wav")},
            "broken row",
            {**rows[1], "tar": absolute(folder / "0.tar")},
        )
        return ReadExample(replace(self, path=str(path)), gives)

    def _rows(self, path: Path, bad_row: manifests.OnBadRow) -> Iterator[manifests.Row]:
        return manifests.read(path, bad_row=bad_row, audio_key=self.audio_column)


def _item(row: manifests.Row, path: Path, audio_column: str) -> Item | BadRow:
    item = dict(row.data)
    for key, value in (("offset", row.offset), ("duration", row.duration)):
        if not value:
            item.pop(key, None)  # 0 and null are what tools write for "not measured"
    if isinstance(item.get("tar"), str):
        item["tar"] = absolute(path.parent / item["tar"])
        item["audio_filepath"] = row.data[audio_column]
    else:
        item["audio_filepath"] = absolute(row.path)
    found = checked(item, f"{path}, line {row.line}")
    if isinstance(found, BadRow):
        where = {"manifest": absolute(path), "line": row.line}
        return replace(found, data={**where, **found.data})
    return found
