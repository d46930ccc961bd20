"""An item's sound: read from wherever its row says, and kept in files of the job's own.

A row says a file (`audio_filepath`), or a member of a tar (`tar`, `tar_offset`, `tar_size`), and a
stretch of it: from `offset` for `duration` seconds, as NeMo's manifests mean it.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from auricle import audio
from auricle.audio import AudioFormat, AudioInfo, FilePart, ReadReport, Samples
from auricle.curation.items import Item, Outcome, Quarantined
from auricle.curation.step import Place, Work
from auricle.errors import AudioError
from auricle.files import file_beside

_IN_MEMORY = 16 << 20
_WHERE = ("audio_filepath", "offset", "tar", "tar_offset", "tar_size", "channel")


@dataclass(frozen=True)
class Heard:
    """An item's sound while it is read: `blocks` are mono samples at `sample_rate`."""

    info: AudioInfo
    sample_rate: int
    blocks: Iterator[Samples]


def read_sound(item: Mapping[str, Any], place: Place, *, sample_rate: int = 16_000) -> Samples:
    """All of an item's sound, mono [S].

    Raises:
        AudioError: It cannot be read, or is not all there; `reason` is what to count it by.
    """
    with heard(item, place, sample_rate=sample_rate) as sound:
        return np.concatenate(list(sound.blocks))


@contextmanager
def heard(
    item: Mapping[str, Any],
    place: Place,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    report: ReadReport | None = None,
) -> Iterator[Heard]:
    """An item's sound in blocks of 30 s, so that its length does not matter.

    Without a `sample_rate`, it comes at the file's own; a `channel` goes before the row's. With a
    `report`, what is missing is written there and not refused; nor is it of an item whose
    `missing_seconds` say that it was let through.

    Raises:
        AudioError: As `read_sound` does; what is wrong behind the header comes with the blocks.
    """
    start, seconds = stretch(item)
    if channel is None and not isinstance(item.get("channel"), list):  # of several, all are mixed
        channel = None if item.get("channel") is None else _whole(item, "channel")
    if report is None and item.get("missing_seconds", 0) != 0:
        report = ReadReport()
    with (
        sound_file(item, place) as source,
        audio.opened_blocks(
            source,
            sample_rate=sample_rate,
            channel=channel,
            start=start,
            seconds=seconds,
            report=report,
        ) as (info, blocks),
    ):
        rate = sample_rate or info.sample_rate
        name = str(item["audio_filepath"])
        yield Heard(info, rate, _complete(blocks, rate, seconds, name, report))


def stretch(item: Mapping[str, Any]) -> tuple[float, float | None]:
    """Where an item's sound begins in its file, and how long it is; None is to the file's end.

    Raises:
        AudioError: `offset` or `duration` is no number of seconds.
    """
    start = _seconds(item, "offset") or 0.0
    return start, _seconds(item, "duration") or None  # 0 is what tools write for "not measured"


def keep_sound(
    samples: Samples | Iterable[Samples],
    rate: int,
    item_id: str,
    place: Place,
    *,
    format: AudioFormat = "flac",
) -> str:
    """Write an item's sound, [S] or blocks of it, into the job's folder.

    Returns:
        The file's name relative to that folder. It ends with a digest of the file's content: sound
        that two steps make of one item, or a step before and after an edit, does not collide.

    Raises:
        AudioError: There are no samples.
        OSError: The disk is full.
    """
    return kept(samples, rate, item_id, place, format=format)[0]


def kept(
    samples: Samples | Iterable[Samples],
    rate: int,
    item_id: str,
    place: Place,
    *,
    format: AudioFormat = "flac",
) -> tuple[str, int]:
    """`keep_sound`, and how many samples there were."""
    blocks = [samples] if isinstance(samples, np.ndarray) else samples
    folder = place.folder / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b", dir=str(folder)) as spool:
        content = cast(BinaryIO, spool)
        count = audio.write(content, blocks, rate, format)
        if not count:
            raise AudioError(f"{item_id}: there is no sound to write", "empty")
        content.seek(0)
        digest = hashlib.blake2b(digest_size=4)
        for piece in iter(lambda: content.read(1 << 20), b""):
            digest.update(piece)
        name = f"audio/{item_id[:2]}/{item_id}-{digest.hexdigest()}.{format}"
        path = place.folder / name
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            content.seek(0)
            with file_beside(path) as file:
                shutil.copyfileobj(content, file, 1 << 20)
    return name, count


def with_file(item: Mapping[str, Any], name: str, start: float, seconds: float) -> Item:
    """An item whose sound is now all of the file `name`: it was cut from `start` on.

    Where it first came from stays: `source_filepath`, `source_offset` and, for a tar, `source_tar`.
    """
    new = {key: value for key, value in item.items() if key not in _WHERE}
    first = "source_filepath" not in item
    if first:
        new["source_filepath"] = item["audio_filepath"]
        if "tar" in item:
            new["source_tar"] = item["tar"]
    if start or (not first and "source_offset" in item):
        new["source_offset"] = round(float(item.get("source_offset", 0.0)) + start, 3)
    return {**new, "audio_filepath": name, "duration": round(seconds, 3)}


def refused(item: Item, error: AudioError, place: Place) -> Quarantined:
    """What becomes of an item whose sound cannot be used; where the job lies is no part of it."""
    return Quarantined(item, error.reason, str(error).replace(f"{place.folder}{os.sep}", ""))


def on_sound(place: Place, one: Callable[[Item], Outcome]) -> Work:
    """The work of a step that hears one item at a time; sound that cannot be used is refused."""

    def work(items: Sequence[Item]) -> Iterator[Outcome]:
        for item in items:
            try:
                yield one(item)
            except AudioError as error:
                yield refused(item, error, place)

    return work


@contextmanager
def sound_file(item: Mapping[str, Any], place: Place) -> Iterator[Path | BinaryIO]:
    """The file that holds an item's sound, or the part of a tar, whatever the stretch is.

    Raises:
        AudioError: There is no tar, or it is cut short, or the file is a pipe; whether there is a
            file is not looked at.
    """
    name = item.get("audio_filepath")
    if not isinstance(name, str) or not name:
        raise AudioError(f"audio_filepath is {name!r}, which names no file", "no such file")
    if "tar" not in item:
        path = place.folder / name
        try:
            endless = path.is_fifo()  # it may never end, and cannot be read twice
        except OSError as error:  # a name of 300 characters, a folder that is closed to us
            raise AudioError(
                f"{path}: cannot be opened: {error.strerror}", "cannot be read"
            ) from error
        if endless:
            raise AudioError(f"{path}: is a pipe, not a file; give an audio file", "not a file")
        yield path
        return
    shard = place.folder / str(item["tar"])
    try:
        file = shard.open("rb")
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise AudioError(f"{shard}: cannot be opened: {error.strerror}", reason) from error
    with file:
        start, size = (_whole(item, key) for key in ("tar_offset", "tar_size"))
        if shard.stat().st_size < start + size:
            raise AudioError(f"{shard}: is cut short before the end of {name}", "truncated")
        yield cast(BinaryIO, FilePart(file, start, size, f"{shard}: {name}"))


def _complete(
    blocks: Iterator[Samples],
    rate: int,
    stated: float | None,
    name: str,
    report: ReadReport | None,
) -> Iterator[Samples]:
    """The blocks, and at their end an error, or an entry, if the row promised well more."""
    count = 0
    for block in blocks:
        count += len(block)
        yield block
    seconds = count / rate
    if stated is None or stated - seconds <= 0.5 + 0.01 * stated:
        return
    if report is not None:
        report.cut = max(report.cut or 0.0, stated - seconds)
    else:
        raise AudioError(
            f"{name}: cut short: {seconds:.1f} of the {stated:.1f} seconds that its row says "
            "are there",
            "truncated",
        )


def _whole(item: Mapping[str, Any], key: str) -> int:
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise AudioError(f"{key} must be a number from 0 up, got {value!r}", f"no such {key}")
    return value


def _seconds(item: Mapping[str, Any], key: str) -> float | None:
    value = item.get(key)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise AudioError(f"{key} must be 0 or more seconds, got {value!r}", f"no such {key}")
    return float(value)
