"""Items from Hugging Face data sets, on disk or streamed; sound they hold becomes files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from auricle.audio import AUDIO_SUFFIXES
from auricle.curation.items import Item
from auricle.curation.readers.reader import (
    BadRow,
    Reader,
    ReadExample,
    checked_bad,
    item_of,
    with_bad_rows,
)
from auricle.curation.running.specimens import tone
from auricle.errors import AudioError
from auricle.files import write_atomic

if TYPE_CHECKING:
    from auricle.training.rows import Found


@dataclass(frozen=True)
class Dataset(Reader):
    """The rows of a data set, by its name on the hub or a folder.

    Recordings that lie on disk stay there; those in Parquet files or a stream are written once
    below `audio`, named by their content. Columns of plain values are kept, or those of `columns`.
    An empty `text_column` says that there are no transcripts.
    """

    maybe_paths: ClassVar = ("name",)

    name: str
    split: str = "train"
    subset: str | None = None
    streaming: bool = False
    audio_column: str = "audio"
    text_column: str = "text"
    columns: tuple[str, ...] | None = None

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        """See `Reader`; a row without sound is a bad one."""
        from auricle.training.huggingface import dataset_rows
        from auricle.training.recipe import SourceRecipe

        _without_bars()
        source = SourceRecipe(
            dataset=self.name,
            split=self.split,
            subset=self.subset,
            streaming=self.streaming,
            audio_column=self.audio_column,
            text_column=self.text_column,
        )
        rows = partial(dataset_rows, source, Path(), self.columns)
        for found in with_bad_rows(rows):
            yield found if isinstance(found, BadRow) else _item(found, folder)

    def sources(self) -> list[Path]:
        """See `Reader`; a name of the hub is no folder here."""
        return [Path(self.name).expanduser()]

    def example(self, folder: Path) -> ReadExample:
        """See `Reader`: rows of which one has no sound; a folder of sound, if this reads one."""
        from auricle.training.folders import is_audio_folder

        item = {"audio_filepath": ..., **({"text": "schön"} if self.text_column else {})}
        reader = replace(self, name=str(folder / "set"), subset=None, columns=None)
        if not is_audio_folder(Path(self.name).expanduser()):
            self._save(folder / "set")
            return ReadExample(reader, (item, "no sound"))
        (folder / "set").mkdir()
        row = {"file_name": "a.wav", **({self.text_column: "schön"} if self.text_column else {})}
        (folder / "set/metadata.jsonl").write_text(json.dumps(row), encoding="utf-8")
        return ReadExample(replace(reader, split="train"), (item,))

    def _save(self, path: Path) -> None:
        """Save a data set with the columns that this one reads."""
        try:
            from datasets import Dataset, Features, Value
        except ImportError:
            return  # which is told when it is read
        _without_bars()
        kinds = {"bytes": Value("binary"), "path": Value("string")}
        columns: dict[str, list[Any]] = {
            self.audio_column: [{"bytes": tone(), "path": "a.wav"}, {"bytes": None, "path": None}]
        }
        features = {self.audio_column: kinds}
        if self.text_column:
            columns[self.text_column] = ["schön", "no"]
            features[self.text_column] = Value("string")
        Dataset.from_dict(columns, Features(features)).save_to_disk(str(path))


def _without_bars() -> None:
    """Progress is told by who runs a job."""
    with suppress(ImportError):  # which is told when the data set is opened
        import datasets

        datasets.disable_progress_bars()


def _item(found: Found, folder: Path) -> Item | BadRow:
    from auricle.training.huggingface import DatasetSound
    from auricle.training.sounds import BytesSound, FileSound

    sound = found.sound
    if isinstance(sound, FileSound):
        return item_of(found)
    try:
        stored = sound.stored() if isinstance(sound, DatasetSound) else cast(BytesSound, sound)
    except AudioError as error:
        return checked_bad(BadRow(found.name, "no sound", str(error), dict(found.data)))
    if not stored.content:
        return checked_bad(BadRow(found.name, "no sound", "", dict(found.data)))
    name = _kept(stored.content, found.name, folder)
    item = item_of(replace(found, sound=FileSound(name)))
    if not isinstance(item, BadRow):
        item["audio_filepath"] = name
    return item


def _kept(content: bytes, name: str, folder: Path) -> str:
    """Write a recording below `audio`, if it is not there; gives its path from `folder`."""
    suffix = Path(name.rstrip(")")).suffix.lower()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    relative = f"audio/{digest[:2]}/{digest}{suffix if suffix in AUDIO_SUFFIXES else ''}"
    path = folder / relative
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    return relative
