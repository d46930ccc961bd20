"""NeMo-style manifests: one JSON object a line, naming a recording and what is said in it.

`.json` or `.jsonl`, optionally gzipped. Rows are read and written one by one, so that a manifest
may be larger than memory. Whether the recordings exist is not looked at here.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from auricle.errors import ConfigError, ManifestError, one_line
from auricle.files import encoded, file_beside

AUDIO_KEY = "audio_filepath"
_FIRST_ROWS = 20
_LIKE_PATHS = ("path", "audio", "audio_path", "wav", "file", "filename", "file_name", "filepath")
_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # what may be half of a character beyond U+FFFF
_MOST_SECONDS = 1e15  # so that samples can still be counted
_SHOWN = 80  # bytes of a wrong value in a message


@dataclass(frozen=True, slots=True)
class Row:
    """One recording, or the stretch of it from `offset` for `duration` seconds.

    `data` is the whole row as it stands in the file, keys that Auricle does not know included;
    `path` is its `audio_filepath`, taken from the manifest's folder; `line` is where it was read.
    """

    path: Path
    duration: float | None = None
    text: str | None = None
    offset: float = 0.0
    language: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    line: int | None = field(default=None, repr=False, compare=False)


class BadRow(ManifestError):
    """A row that cannot be read: where it stands, what is wrong with it, and what stands there."""

    def __init__(self, path: Path, line: int, problem: str, content: bytes) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path, self.line, self.problem, self.content = path, line, problem, content

    @property
    def is_json(self) -> bool:
        """Whether there is any JSON in it."""
        try:
            json.loads(self.content)
        except (json.JSONDecodeError, UnicodeDecodeError):
            return False
        except (ValueError, RecursionError):  # numbers of thousands of digits, deep nesting
            pass
        return True

    @property
    def recording(self) -> str | None:
        """Its `audio_filepath`, where that can be read."""
        try:
            data = json.loads(self.content)
            name = data["audio_filepath"]
            os.fsencode(name)
        except (ValueError, TypeError, LookupError, RecursionError):
            return None
        return name if isinstance(name, str) and name else None


OnBadRow = Callable[[ManifestError], None]


def is_manifest(path: str | Path) -> bool:
    """Whether a file's name is that of a manifest."""
    return Path(path).name.lower().endswith(_SUFFIXES)


def read(
    path: str | Path,
    *,
    bad_row: Callable[[BadRow], None] | None = None,
    audio_key: str = AUDIO_KEY,
) -> Iterator[Row]:
    """The rows of a manifest, in order; empty lines are passed over.

    Args:
        path: The manifest.
        audio_key: What rows call the recording's path.
        bad_row: Is given a `BadRow` for each row that cannot be read, and reading goes on; None
            raises it.

    Raises:
        ManifestError: No such file, or a row that cannot be read; it names the file and the line
            and comes when that row is reached.
    """
    for row in read_each(path, audio_key):
        if isinstance(row, Row):
            yield row
        elif bad_row is None:
            raise row
        else:
            bad_row(row)


def read_each(path: str | Path, audio_key: str = AUDIO_KEY) -> Iterator[Row | BadRow]:
    """The rows of a manifest as in `read`, with those that cannot be read in their places.

    Raises:
        ManifestError: No such file, or damaged; it comes when the damage is reached.
    """
    path = Path(path)
    for number, line in lines(path):
        try:
            row = _decoded(line, number, path.parent, audio_key)
        except _RowError as error:
            yield BadRow(path, number, str(error), line)
            continue
        if row is not None:
            yield row


def check_audio_key(path: Path, audio_key: str = AUDIO_KEY, *, cure: str) -> None:
    """Refuse a manifest whose rows name their recordings by another key, as far as can be seen.

    Args:
        path: The manifest.
        audio_key: What rows should call the recording's path.
        cure: What to do; `{key}` in it stands for the key that rows seem to use.

    Raises:
        ConfigError: None of the first 20 rows has the key, and another seems to be meant.
        ManifestError: The manifest cannot be read.
    """
    rows = []
    for _, line in islice(lines(path), _FIRST_ROWS):
        with suppress(ManifestError, UnicodeDecodeError):  # which are told of each row
            rows.append(json_object(line.decode("utf-8-sig").strip()))
    if not any(rows) or any(audio_key in row for row in rows):
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    best = min(keys, key=lambda key: (not _names_sound(rows, key), key not in _LIKE_PATHS))
    if best in _LIKE_PATHS or _names_sound(rows, best):
        raise ConfigError(
            f"{path}: no row has {audio_key}, the recording's path, but they have "
            f"{one_line(best, _SHOWN)}: {cure.format(key=best)}"
        )


def _names_sound(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Whether a key's values end as names of recordings do."""
    from auricle.audio import AUDIO_SUFFIXES

    values = [row[key] for row in rows if isinstance(row.get(key), str)]
    return any(value.lower().endswith(tuple(AUDIO_SUFFIXES)) for value in values)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, which may be gzipped, with their numbers from 1.

    Raises:
        ManifestError: No such file, or damaged; it comes when the damage is reached.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such manifest; check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ManifestError(f"{path}, line {number + 1}: damaged gzip: {error}") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error


def write(path: str | Path, rows: Iterable[Row | Mapping[str, Any]]) -> int:
    """Write rows as they come; the file appears whole or not at all.

    A mapping is written as it is. A `Row` is written as its `data` with its fields over it, its
    path relative where it lies below the manifest's folder. Gzip files are reproducible.

    Returns:
        The number of rows.

    Raises:
        ManifestError: A row that is not JSON, or that names no recording.
        OSError: The disk is full, or the folder missing or read-only.
    """
    path = Path(path)
    number = 0
    try:
        with file_beside(path) as raw, ExitStack() as stack:
            file: IO[bytes] | gzip.GzipFile = raw
            if path.suffix.lower() == ".gz":
                file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
            for row in rows:
                number += 1
                file.write(_line(row, path))
    except _RowError as error:
        raise ManifestError(f"{path}, line {number}: {error}") from None
    return number


def json_object(line: str) -> dict[str, Any]:
    """The object that a line of JSON holds.

    Raises:
        ManifestError: It holds no object, several, or text that is not Unicode; it does not say
            where.
    """
    try:
        data = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        whole = line.startswith("{") and line.endswith("}")
        glued = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        one = "; put one JSON object on each line" if glued or not whole else ""
        raise _RowError(f"not JSON ({error}){one}") from None
    except ValueError:
        raise _RowError("not JSON (a number of thousands of digits)") from None
    if not isinstance(data, dict):
        raise _RowError(f"a {type(data).__name__}, not an object; put one JSON object on each line")
    if _HALF.search(line):
        try:
            json.dumps({**data, "audio_filepath": None}, ensure_ascii=False).encode()
            os.fsencode(str(data.get("audio_filepath")))  # which may be in bytes that are no UTF-8
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise _RowError(f"holds half a Unicode character ({half}); write UTF-8") from None
    return data


def seconds(data: Mapping[str, Any], key: str) -> float | None:
    """A duration or an offset of a row; None where it has none.

    Raises:
        ManifestError: It is no number of seconds; it does not say where.
    """
    value = data.get(key)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _MOST_SECONDS:
        raise _RowError(f"{key} must be 0 or more seconds, got {_shown(value)}")
    return float(value)


class _RowError(ManifestError):
    """What is wrong with a row; `read` and `write` add where."""


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def _decoded(line: bytes, number: int, folder: Path, audio_key: str) -> Row | None:
    """The row of a line; None where it is empty."""
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        raise _RowError("not UTF-8; save it as UTF-8") from None
    return _row(text, number, folder, audio_key) if text else None


def _row(line: str, number: int, folder: Path, audio_key: str) -> Row:
    data = json_object(line)
    name = data.get(audio_key)
    if not isinstance(name, str) or not name:
        raise _RowError(f"needs {audio_key}, the recording's path, got {_shown(name)}")
    return Row(
        path=folder / (_expanded(name) if name.startswith("~") else name),
        duration=seconds(data, "duration") or None,  # 0 is what tools write for "not measured"
        text=_string(data, "text"),
        offset=seconds(data, "offset") or 0.0,
        language=_string(data, "lang"),
        data=data,
        line=number,
    )


def _expanded(name: str) -> Path:
    """With the home folder for `~`; `~name` of nobody here is a name like any other."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _string(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise _RowError(f"{key} must be a string, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A value for a message, its middle left out where it is long."""
    return one_line(repr(value), _SHOWN)


def _line(row: Row | Mapping[str, Any], manifest: Path) -> bytes:
    data = _fields(row, manifest) if isinstance(row, Row) else row
    if not data.get("audio_filepath"):
        raise _RowError("needs audio_filepath, the recording's path")
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=_plain)
        return encoded(text) + b"\n"
    except (TypeError, ValueError) as error:
        raise _RowError(f"cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    """What JSON does not know but rows often hold: paths, and NumPy's numbers."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _fields(row: Row, manifest: Path) -> dict[str, Any]:
    path, folder = _absolute(row.path), _absolute(manifest.parent)
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    known = {
        "duration": row.duration,
        "text": row.text,
        "offset": row.offset or None,
        "lang": row.language,
    }
    said = {key: value for key, value in known.items() if value is not None}
    return {**row.data, "audio_filepath": name, **said}


def _absolute(path: Path) -> Path:
    """Without `..`, and unlike `resolve` without following links: rows keep the names they had."""
    return Path(os.path.normpath(path.absolute()))
