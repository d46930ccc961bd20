"""Folders of sound with a `metadata.csv` or `.jsonl`, as the hub's AudioFolder lays them out.

Read here and not by `datasets`, which cannot without torchcodec.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from auricle import manifests
from auricle.errors import ConfigError, ManifestError, one_line
from auricle.manifests import OnBadRow
from auricle.training.recipe import SourceRecipe
from auricle.training.rows import Found
from auricle.training.sounds import FileSound

_METADATA = ("metadata.jsonl", "metadata.csv")
# How the hub tells splits by the names of folders.
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def is_audio_folder(folder: Path) -> bool:
    """Whether a folder has metadata of sound."""
    return folder.is_dir() and next(_metadata(folder), None) is not None


def folder_rows(
    folder: Path, source: SourceRecipe, bad_row: OnBadRow | None = None
) -> Iterator[Found]:
    """The rows of a folder's metadata whose files lie in the wanted split.

    Rows that cannot be read go to `bad_row`, if there is one.

    Raises:
        ConfigError: No such split, or no column of texts; it names those that there are.
        ManifestError: Metadata that cannot be read, or that names no file.
    """
    wanted, splits, bad = _SPLITS.get(source.split, source.split), set[str](), False
    for path in sorted(_metadata(folder)):
        for number, line, row in _rows(path):
            try:
                found = _found(row(), path, source)
            except ManifestError as error:
                wrong = manifests.BadRow(path, number, str(error), line)
                if bad_row is None:
                    raise wrong from None
                bad_row(wrong)
                bad = True
                continue
            split = _split(path.parent.relative_to(folder) / found.data["file_name"])
            splits.add(split)
            if split == wanted:
                yield found
    if wanted not in splits and (splits or not bad):
        raise ConfigError(
            f"{source.dataset}: has no split {source.split!r}; it has {', '.join(sorted(splits))}"
        )


def _metadata(folder: Path) -> Iterator[Path]:
    return (path for name in _METADATA for path in folder.rglob(name))


def _rows(path: Path) -> Iterator[tuple[int, bytes, Callable[[], dict[str, Any]]]]:
    """Rows with their line numbers, each as it stands and as what reads it.

    All values of a CSV are texts.
    """
    if path.suffix != ".csv":
        for number, line in manifests.lines(path):
            if line.strip():
                yield number, line, partial(_of_json, line)
        return
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            for row in table:
                number = table.line_num
                yield number, repr(row).encode(), partial(dict, row)
    except (ValueError, csv.Error) as error:
        raise ManifestError(f"{path}, line {number}: cannot be read: {error}") from None


def _of_json(line: bytes) -> dict[str, Any]:
    try:
        return manifests.json_object(line.decode("utf-8-sig").strip())
    except ValueError as error:  # a ManifestError, or a UnicodeDecodeError
        raise ManifestError(f"cannot be read: {error}") from None


def _found(row: dict[str, Any], path: Path, source: SourceRecipe) -> Found:
    """The row of a line of a folder's metadata.

    Raises:
        ManifestError: It names no file, or has an impossible duration; it does not say where.
        ConfigError: It has no column of texts.
    """
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        raise ManifestError("needs file_name, the sound's path")
    if source.text_column and source.text_column not in row:
        raise ConfigError(
            f"{path}: has no column {source.text_column!r}; set text_column to one of "
            f"{', '.join(map(str, row))}"
        )
    sound = FileSound(str(path.parent / name))
    text, language = row.get(source.text_column), row.get("lang") or row.get("language")
    kept = {key: value for key, value in row.items() if key != source.text_column}
    return Found(sound.path, sound, str(text or ""), _seconds(row), language, kept)


def _split(file: Path) -> str:
    return next((_SPLITS[part] for part in file.parts[:-1] if part in _SPLITS), "train")


def _seconds(row: dict[str, Any]) -> float | None:
    value = row.get("duration")
    try:
        return float(value) or None if value not in (None, "") else None
    except (TypeError, ValueError, OverflowError):
        shown = one_line(repr(value), 80)
        raise ManifestError(f"duration must be in seconds, got {shown}") from None
