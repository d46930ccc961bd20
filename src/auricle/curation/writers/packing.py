"""An item's sound as a file to be stored: the one there is, or its stretch as a new one."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from auricle import audio
from auricle.audio import AudioFormat
from auricle.curation.items import ID, Item
from auricle.curation.sound import heard, sound_file, stretch
from auricle.curation.step import Place
from auricle.errors import AudioError

StoredFormat = Literal["keep", "flac", "wav"]

# Names under which others look for sound at all; whether libsndfile reads it, the content decides.
_KEPT = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
_NEAR = 0.02  # seconds by which rows and headers may differ
_IN_MEMORY = 16 << 20
WHERE = frozenset({"audio_filepath", "offset", "channel", "tar", "tar_offset", "tar_size"})


@dataclass(frozen=True)
class Packed:
    """An item's sound as a file of its own: `name` is unique, `seconds` is how long it is."""

    file: BinaryIO
    size: int
    name: str
    seconds: float

    def row(self, item: Item) -> Item:
        """The item with this for its sound."""
        rest = {key: value for key, value in item.items() if key not in WHERE}
        return {**rest, "audio_filepath": self.name, "duration": self.seconds}


@contextmanager
def packed(item: Item, folder: Path, stored: StoredFormat) -> Iterator[Packed]:
    """An item's sound, ready to be copied; a stretch of a file is cut out.

    With `keep`, files that libsndfile reads (and so NeMo and Lhotse) stay as they are; the others
    are decoded, mixed to one channel and written as FLAC of their own sample rate.

    Raises:
        AudioError: It cannot be read; it names the item.
    """
    place = Place(folder)
    try:
        whole = _whole_seconds(item, place) if stored == "keep" else None
        if whole is not None:
            with sound_file(item, place) as source, _opened(source) as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
                name = item[ID] + Path(item["audio_filepath"]).suffix.lower()
                yield Packed(file, size, name, whole)
            return
        audio_format: AudioFormat = "flac" if stored == "keep" else stored
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b") as spool:
            file = cast(BinaryIO, spool)
            with heard(item, place) as sound:
                rate = sound.sample_rate
                count = audio.write(file, sound.blocks, rate, audio_format)
            if not count:
                raise AudioError("there is no sound", "empty")
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            yield Packed(file, size, f"{item[ID]}.{audio_format}", round(count / rate, 3))
    except AudioError as error:
        raise AudioError(
            f"item {item[ID]} cannot be packed: {error}; let a probe step take such sound out",
            error.reason,
        ) from error


def _whole_seconds(item: Item, place: Place) -> float | None:
    """The length of an item that is all of a file which may stay as it is; None for others."""
    start, seconds = stretch(item)
    if start or "channel" in item or Path(item["audio_filepath"]).suffix.lower() not in _KEPT:
        return None
    with sound_file(item, place) as source:
        if not audio.libsndfile_reads(source):
            return None
        length = audio.length(source)
    if seconds is not None and seconds < length - _NEAR:
        return None
    return round(length, 3) if seconds is None or seconds > length + _NEAR else seconds


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(source, Path):
        yield source
        return
    with source.open("rb") as file:
        yield file
