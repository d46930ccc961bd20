"""Items from a folder of recordings, with a text beside each where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from auricle.audio import AUDIO_SUFFIXES
from auricle.curation.items import Item
from auricle.curation.readers.reader import BadRow, Reader, ReadExample, absolute, checked
from auricle.errors import ManifestError


@dataclass(frozen=True)
class Folder(Reader):
    """Every recording below a folder, sorted by path; what is hidden is passed over.

    So is the job's own folder, where that lies below it: what a job wrote is nothing to read.

    `talk.wav` has its transcript in `talk.txt`, if that is there. `folder_as` is the key that gets
    the name of the folder a recording lies in, such as `speaker`.
    """

    paths: ClassVar = ("path",)

    path: str
    text_suffix: str = ".txt"
    folder_as: str | None = None

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        """See `Reader`; a transcript that is not UTF-8 makes a bad row."""
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise ManifestError(f"{root}: no such folder; check the path")
        found = False
        for path in _recordings(root, Path(os.path.realpath(folder))):
            found = True
            yield self._item(path)
        if not found:
            raise ManifestError(f"{root}: holds no recordings that the names' ends tell")

    def _item(self, path: Path) -> Item | BadRow:
        item: Item = {"audio_filepath": absolute(path)}
        text = path.with_suffix(self.text_suffix)
        try:
            if text.is_file():
                item["text"] = text.read_text(encoding="utf-8-sig").strip()
        except (UnicodeDecodeError, OSError) as error:
            return BadRow(str(path), "broken transcript", f"{text.name}: {error}", item)
        if self.folder_as is not None:
            item[self.folder_as] = path.parent.name
        return checked(item, str(path))

    def example(self, folder: Path) -> ReadExample:
        """See `Reader`: recordings with a text, with one that is no UTF-8, and with none."""
        a, b, c = (folder / "anna" / name for name in ("a.wav", "b.flac", "c.wav"))
        a.parent.mkdir()
        for path in (a, b, c):
            path.touch()
        a.with_suffix(self.text_suffix).write_text("schön\n", encoding="utf-8")
        b.with_suffix(self.text_suffix).write_bytes(b"sch\xf6n")
        named = {} if self.folder_as is None else {self.folder_as: "anna"}
        gives = (
            {"audio_filepath": absolute(a), "text": "schön", **named},
            "broken transcript",
            {"audio_filepath": absolute(c), **named},
        )
        return ReadExample(replace(self, path=str(folder)), gives)


def _recordings(root: Path, job: Path) -> Iterator[Path]:
    """Sorted as their paths are, folder by folder; only one folder's names are held at a time."""
    with os.scandir(root) as entries:
        names = sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not entry.name.startswith(".")
        )
    for name, is_folder in names:
        path = root / name
        if is_folder:
            if Path(os.path.realpath(path)) == job:
                continue
            yield from _recordings(path, job)
        elif path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            yield path
