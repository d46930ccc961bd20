"""Folders of sound with a `metadata.csv` or `.jsonl`, as the hub's AudioFolder lays them out.

Read here and not by `datasets`, which cannot without torchcodec.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from auricle.errors import ConfigError, ManifestError
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


def folder_rows(folder: Path, source: SourceRecipe) -> Iterator[Found]:
    """The rows of a folder's metadata whose files lie in the wanted split.

    Raises:
        ConfigError: No such split, or no column of texts; it names those that there are.
        ManifestError: Metadata that cannot be read, or that names no file.
    """
    wanted, splits = _SPLITS.get(source.split, source.split), set[str]()
    for path in sorted(_metadata(folder)):
        for number, row in _rows(path):
            name = row.get("file_name")
            if not isinstance(name, str) or not name:
                raise ManifestError(f"{path}, line {number}: needs file_name, the sound's path")
            if source.text_column and source.text_column not in row:
                raise ConfigError(
                    f"{path}: has no column {source.text_column!r}; set text_column to one of "
                    f"{', '.join(row)}"
                )
            file = path.parent / name
            split = _split(file.relative_to(folder))
            splits.add(split)
            if split == wanted:
                text, language = row.get(source.text_column), row.get("lang") or row.get("language")
                duration = _seconds(row, f"{path}, line {number}")
                kept = {key: value for key, value in row.items() if key != source.text_column}
                sound = FileSound(str(file))
                yield Found(sound.path, sound, str(text or ""), duration, language, kept)
    if wanted not in splits:
        raise ConfigError(
            f"{source.dataset}: has no split {source.split!r}; it has {', '.join(sorted(splits))}"
        )


def _metadata(folder: Path) -> Iterator[Path]:
    return (path for name in _METADATA for path in folder.rglob(name))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers; all values of a CSV are texts."""
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                table = csv.DictReader(file)
                yield from ((table.line_num, row) for row in table)
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, dict(json.loads(line))
    except (ValueError, TypeError, csv.Error) as error:
        raise ManifestError(f"{path}, line {number}: cannot be read: {error}") from None


def _split(file: Path) -> str:
    return next((_SPLITS[part] for part in file.parts[:-1] if part in _SPLITS), "train")


def _seconds(row: dict[str, Any], where: str) -> float | None:
    value = row.get("duration")
    try:
        return float(value) or None if value not in (None, "") else None
    except (TypeError, ValueError):
        raise ManifestError(f"{where}: duration must be in seconds, got {value!r}") from None
