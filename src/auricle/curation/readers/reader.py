"""What a reader is: it gives items, and a name and a reason for whatever gave none."""

from __future__ import annotations

import json
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from auricle.curation.items import Item, canonical
from auricle.errors import ManifestError
from auricle.manifests import BadRow as ManifestRow

if TYPE_CHECKING:
    from auricle.training.rows import Found

T = TypeVar("T")

_MANY_DIGITS = re.compile(r"\d{309}")  # what no float can hold has so many


@dataclass(frozen=True, slots=True)
class BadRow:
    """What should have given an item and did not; `data` is what there was of it."""

    name: str
    reason: str
    detail: str = ""
    data: Item = field(default_factory=dict)


@dataclass(frozen=True)
class ReadExample:
    """What a reader must give of files that were laid for it: see `Reader.example`.

    `gives` is a row for each item, of which only the keys it names are compared; `...` fits any
    value. A text stands for a bad row of that reason.
    """

    reader: Reader
    gives: Sequence[Mapping[str, Any] | str]


class Reader:
    """Where items come from; a frozen dataclass, whose fields are its options in YAML."""

    paths: ClassVar[tuple[str, ...]] = ()  # fields that hold paths, from the pipeline's folder
    maybe_paths: ClassVar[tuple[str, ...]] = ()  # or perhaps the name of something

    def options(self) -> dict[str, Any]:
        """What it reads, as JSON."""
        assert is_dataclass(self)
        return asdict(self)

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        """All items, in an order that is always the same; sound that is no file goes to `folder`.

        Raises:
            ManifestError: What is to be read is not there, or damaged as a whole.
            ConfigError: An option that makes no sense, or a column that is not there.
            MissingExtra: A package is not installed.
        """
        raise NotImplementedError

    def sources(self) -> list[Path]:
        """The files and folders that are read to find items; recordings are told by the items.

        Raises:
            ConfigError: As `items`.
        """
        return []

    def example(self, folder: Path) -> ReadExample | None:
        """Lay small files into a folder: tried before a job starts, in a folder thrown away.

        Its reader has this one's options, but reads those files. None: there is nothing to try.
        """
        return None


def absolute(path: str | Path) -> str:
    """A path from the root, without `..`; links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100  # which `Path.absolute` leaves in


def checked(item: Item, name: str) -> Item | BadRow:
    """The item, if it can be written down again and worked with.

    That is JSON without NaN and without numbers that no float can hold, text without half
    characters.
    """
    try:
        text = canonical(item)
        text.encode("utf-8")
        if _MANY_DIGITS.search(text):
            json.loads(text, parse_int=_bounded)
    except UnicodeEncodeError:
        return _unwritable(item, name, "a text or a file's name that is not UTF-8")
    except (TypeError, ValueError, RecursionError) as error:
        return _unwritable(item, name, str(error))
    if "\0" in str(item.get("audio_filepath")):
        return _unwritable(item, name, "audio_filepath holds a null character")
    return item


def _bounded(digits: str) -> float:
    """A whole number as a float.

    Raises:
        ValueError: It is too large for one.
    """
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"a number of {len(digits)} digits")
    return number


def item_of(found: Found) -> Item | BadRow:
    """The item of a row that training's readers have found; its sound is a file or in a tar."""
    from auricle.training.rows import NO_SOUND, check_values
    from auricle.training.sounds import FileSound, TarSound

    if found.problem is not None:
        reason = "no sound" if found.reason == NO_SOUND else "broken row"
        return checked_bad(BadRow(found.name, reason, found.problem, dict(found.data)))
    try:
        check_values(found)
    except ManifestError as error:
        return checked_bad(BadRow(found.name, "broken row", str(error), dict(found.data)))
    item = {key: value for key, value in found.data.items() if key not in ("offset", "duration")}
    sound = found.sound
    if isinstance(sound, TarSound):
        place = {"tar_offset": sound.position, "tar_size": sound.size}
        item |= {"audio_filepath": sound.name, "tar": absolute(sound.path), **place}
    else:
        assert isinstance(sound, FileSound)
        item["audio_filepath"] = absolute(sound.path)
        if sound.channel is not None:
            item["channel"] = sound.channel
    if sound.offset:
        item["offset"] = sound.offset
    if found.duration is not None:
        item["duration"] = found.duration
    if found.text:
        item["text"] = found.text
    if isinstance(found.language, str):
        item["lang"] = found.language
    return checked(item, found.name)


def with_bad_rows(
    rows: Callable[[Callable[[ManifestError], None]], Iterator[T]],
) -> Iterator[T | BadRow]:
    """What `rows` gives, and between them the rows that it gave to the function it was given."""
    wrong: deque[ManifestError] = deque()
    for row in rows(wrong.append):
        while wrong:
            yield bad_row(wrong.popleft())
        yield row
    yield from map(bad_row, wrong)


def bad_row(error: ManifestError) -> BadRow:
    """What is told of a row that cannot be read; it is kept as it stands in its file."""
    if not isinstance(error, ManifestRow):
        return BadRow(str(error), "broken row", str(error))
    data = {
        "manifest": absolute(error.path),
        "line": error.line,
        "row": error.content.decode("utf-8", "backslashreplace").rstrip("\r\n"),
    }
    name = f"{error.path}, line {error.line}"
    return checked_bad(BadRow(name, "broken row", error.problem, data))


def checked_bad(row: BadRow) -> BadRow:
    """The same, with data that can be written down."""
    found = checked(row.data, row.name)
    if not isinstance(found, BadRow):
        return row
    return BadRow(row.name, row.reason, row.detail, found.data)


def _unwritable(item: Item, name: str, detail: str) -> BadRow:
    return BadRow(_plain(name), "broken row", detail, {"row": _plain(repr(item))})


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
