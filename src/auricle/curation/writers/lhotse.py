"""Items as Lhotse's manifests: cuts, and the recordings and supervisions that they consist of.

The files are plain JSON of Lhotse's own shape, so nothing of Lhotse is needed to write them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from auricle import audio
from auricle.curation.items import ID, Item, canonical, digest
from auricle.curation.running.specimens import items_with_sound
from auricle.curation.sound import sound_file, stretch
from auricle.curation.step import Place
from auricle.curation.writers.packing import WHERE, packed
from auricle.curation.writers.writer import (
    SPLIT,
    WriteExample,
    Writer,
    by_split,
    example_path,
    refuse_others,
    said,
    whole_folder,
)
from auricle.errors import AudioError

_FIELDS = WHERE | {"duration", "text", "lang", "speaker"}


@dataclass(frozen=True)
class Lhotse(Writer):
    """A folder with `cuts.jsonl.gz`, `recordings.jsonl.gz` and `supervisions.jsonl.gz`.

    Recordings are named from the root and stay where they are. Those in tars, and those of a kind
    that libsndfile does not read, are written to the folder, each item's as FLAC: Lhotse could not
    find the former, and would count other samples in the latter. With `{split}` in the path there
    is one for each part. A cut's `custom` has the keys that Lhotse has no field for.
    """

    path: str = "lhotse"

    def check(self, folder: Path) -> None:
        """See `Writer`."""
        if SPLIT not in self.path:
            refuse_others(folder / self.path)

    def write(self, items: Iterable[Item], folder: Path) -> None:
        """See `Writer`; a folder is whole or not there."""
        for name, some in by_split(items, self.path):
            target = folder.absolute() / name
            with whole_folder(target) as made, ExitStack() as stack:
                names = ("cuts", "recordings", "supervisions")
                cuts, recordings, supervisions = (
                    stack.enter_context(_lines(made / f"{name}.jsonl.gz")) for name in names
                )
                told = set[str]()
                # Cuts of one recording come one behind the other.
                stays = lru_cache(maxsize=64)(_stays)
                said_of = lru_cache(maxsize=64)(_recording)
                for item in some:
                    file = _path(item, folder)
                    with _named(item):
                        in_place = "tar" not in item and stays(file)
                    if not in_place:
                        item, file = _written(item, folder, made)
                    with _named(item):
                        recording = said_of(file, made, target, folder.absolute())
                    cut = _cut(item, recording)
                    cuts.write(_line(cut))
                    supervisions.write(_line(_from_start(cut)))
                    if recording["id"] not in told:
                        told.add(recording["id"])
                        recordings.write(_line(recording))

    def example(self, folder: Path) -> WriteExample:
        """See `Writer`: cuts as they stand in the file, for to import Lhotse takes seconds."""
        writer = replace(self, path=example_path(self.path))
        items = items_with_sound(folder)
        parts = [(folder / name, list(some)) for name, some in by_split(items, writer.path)]
        found = partial(_rows, [path / "cuts.jsonl.gz" for path, _ in parts])
        gives = [row for _, part in parts for row in said(part)]
        return WriteExample(writer, items, found, gives)


def _rows(paths: Iterable[Path]) -> Iterator[Item]:
    """What cuts say, as items."""
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            cut = json.loads(line)
            (source,), (spoken,) = cut["recording"]["sources"], cut["supervisions"]
            where = {"audio_filepath": source["source"], "offset": cut["start"]}
            yield {**spoken, **cut["custom"], **where, "duration": cut["duration"]}


def _cut(item: Item, recording: dict[str, Any]) -> dict[str, Any]:
    start, seconds = stretch(item)
    left = round(recording["duration"] - start, 9)
    channels = recording["channel_ids"]
    channel = item.get("channel", 0 if len(channels) == 1 else channels)
    kind = "MultiCut" if isinstance(channel, list) else "MonoCut"
    duration = left if seconds is None else min(seconds, left)
    supervision = {
        "id": item[ID],
        "recording_id": recording["id"],
        "start": 0.0,
        "duration": duration,
        "channel": channel,
        "text": item.get("text"),
        "language": item.get("lang"),
        "speaker": item.get("speaker"),
    }
    return {
        "id": item[ID],
        "start": start,
        "duration": duration,
        "channel": channel,
        "supervisions": [{k: v for k, v in supervision.items() if v is not None}],
        "recording": recording,
        "custom": {key: value for key, value in item.items() if key not in _FIELDS},
        "type": kind,
    }


def _from_start(cut: dict[str, Any]) -> dict[str, Any]:
    """A cut's supervision as it stands alone: its start is that in the recording."""
    return {**cut["supervisions"][0], "start": cut["start"]}


def _recording(file: Path, made: Path, target: Path, job: Path) -> dict[str, Any]:
    """What is said of a file, by the name that it will have in the end; its samples are counted."""
    path = target / file.relative_to(made) if file.is_relative_to(made) else file
    # Wherever the job lies, the ids are the same.
    name = path.relative_to(job).as_posix() if path.is_relative_to(job) else str(path)
    info = audio.probe(file)
    count = round(audio.length(file) * info.sample_rate)
    channels = list(range(info.channels))
    return {
        "id": digest(name),
        "sources": [{"type": "file", "channels": channels, "source": str(path)}],
        "sampling_rate": info.sample_rate,
        "num_samples": count,
        "duration": count / info.sample_rate,
        "channel_ids": channels,
    }


@contextmanager
def _named(item: Item) -> Iterator[None]:
    """Say of which item an error is."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"item {item[ID]}: {error}", error.reason) from error


def _path(item: Item, folder: Path) -> Path:
    return Path(os.path.normpath(folder.absolute() / item["audio_filepath"]))


def _stays(file: Path) -> bool:
    """Whether a recording is left where it is."""
    with sound_file({"audio_filepath": str(file)}, Place(file.parent)) as source:
        return audio.libsndfile_reads(source)


def _written(item: Item, folder: Path, made: Path) -> tuple[Item, Path]:
    """The item with its sound in a file of its own below `made`."""
    with packed(item, folder, "keep") as sound:
        file = made / "audio" / item[ID][:2] / sound.name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as copy:
            shutil.copyfileobj(sound.file, copy)
        return sound.row(item), file


@contextmanager
def _lines(path: Path) -> Iterator[gzip.GzipFile]:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        yield file


def _line(value: dict[str, Any]) -> bytes:
    return canonical(value).encode("utf-8") + b"\n"
