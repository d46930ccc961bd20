"""Items from Lhotse's cuts: plain ones are stretches of files, others become files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from auricle.curation.items import Item, digest
from auricle.curation.readers.reader import (
    BadRow,
    Reader,
    ReadExample,
    absolute,
    checked_bad,
    item_of,
    with_bad_rows,
)
from auricle.curation.sound import keep_sound
from auricle.curation.step import Place
from auricle.errors import AudioError

if TYPE_CHECKING:
    from auricle.manifests import OnBadRow
    from auricle.training.rows import Found


@dataclass(frozen=True)
class Cuts(Reader):
    """The cuts of a Lhotse file.

    A cut that is mixed or changed is loaded by Lhotse and written below `audio` as FLAC of
    `sample_rate`. Needs the extra `lhotse`.
    """

    paths: ClassVar = ("path",)

    path: str
    sample_rate: int = 16_000

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        """See `Reader`; cuts whose sound cannot be loaded are bad rows."""
        for found in with_bad_rows(partial(_rows, Path(self.path).expanduser())):
            yield found if isinstance(found, BadRow) else self._item(found, folder)

    def sources(self) -> list[Path]:
        """See `Reader`."""
        return [Path(self.path).expanduser()]

    def example(self, folder: Path) -> ReadExample:
        """See `Reader`: a stretch of a file, a cut of a command's output, and no cut at all."""
        path = folder / "cuts.jsonl"
        files = [("file", str(folder / "a.wav")), ("command", "cat a.wav")]
        plain, command = (json.dumps(_cut(kind, source)) for kind, source in files)
        path.write_text(f"{plain}\n{command}\n{plain[:-1]}\n", encoding="utf-8")
        stretch = {"audio_filepath": absolute(folder / "a.wav"), "offset": 0.5, "duration": 1.0}
        said = {"text": "schön", "lang": "de", "speaker": "anna"}
        gives = ({**stretch, **said}, "no sound", "broken row")
        return ReadExample(replace(self, path=str(path)), gives)

    def _item(self, found: Found, folder: Path) -> Item | BadRow:
        from auricle.training.cuts import CutSound
        from auricle.training.sounds import FileSound

        sound = found.sound
        if found.problem is not None or not isinstance(sound, CutSound):
            return item_of(found)
        try:
            samples = sound.read(self.sample_rate)
        except AudioError as error:
            return checked_bad(BadRow(found.name, error.reason, str(error), dict(found.data)))
        place = Place(folder=folder)
        name = keep_sound(samples, self.sample_rate, digest(sound.cut, self.sample_rate), place)
        item = item_of(replace(found, sound=FileSound(name)))
        if not isinstance(item, BadRow):
            item["audio_filepath"] = name
        return item


def _rows(path: Path, bad_row: OnBadRow) -> Iterator[Found]:
    from auricle.training.cuts import cut_rows

    return cut_rows(path, bad_row)


def _cut(kind: str, source: str) -> Item:
    """A cut for the example."""
    where = {"start": 0.5, "duration": 1.0, "channel": 0}
    supervision = {"id": "1", "recording_id": "a", **where, "start": 0.0}
    return {
        "id": "1",
        **where,
        "supervisions": [{**supervision, "text": "schön", "language": "de", "speaker": "anna"}],
        "recording": {
            "id": "a",
            "sources": [{"type": kind, "channels": [0], "source": source}],
            "sampling_rate": 16_000,
            "num_samples": 32_000,
            "duration": 2.0,
            "channel_ids": [0],
        },
        "type": "MonoCut",
    }
