"""What a job's writers write at its end: all of it, and nothing left of what they wrote before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from auricle.curation.items import Item
from auricle.curation.running.store import STAGES
from auricle.curation.writers.writer import MARK, Writer
from auricle.errors import ConfigError
from auricle.files import write_atomic

WRITTEN = f"{STAGES}/written.json"
# What the job itself keeps in its folder.
_OWN = (
    *("manifest.jsonl", "filtered.jsonl", "quarantined.jsonl", "summary.json", "report.html"),
    *("metrics.jsonl", "ledger.jsonl", "curation.json", "lock", "audio", STAGES),
)


def check_writers(writers: Sequence[Writer], folder: Path) -> None:
    """Refuse before a job what could not be written after it.

    Raises:
        ConfigError: A path is the job's own, or two writers would write over each other, or
            something of somebody else's is there.
        MissingExtra: A package is not installed.
    """
    _refuse_clashes([writer.path for writer in writers])
    for writer in writers:
        writer.check(folder)


def write_all(writers: Sequence[Writer], items: Iterable[Item], folder: Path) -> None:
    """Have each writer write, and remove what writers of an earlier pipeline left in the folder.

    Parts of a split that there are no more would else lie beside those of another split, with the
    same speakers in them.

    Raises:
        ConfigError, AudioError, OSError: As `Writer.write`; a part has the name of a file of the
            job's own.
    """
    before = _known(folder)
    now = {os.path.normpath(name) for writer in writers for name in writer.targets(items)}
    _refuse_clashes(sorted(now))
    _note(folder, before | now)  # whoever is killed behind this leaves nothing unknown
    for writer in writers:
        writer.write(items, folder)
    for name in sorted(before - now):
        _remove(folder / name)
    _note(folder, now)


def _refuse_clashes(paths: Sequence[str]) -> None:
    names = [PurePath(os.path.normpath(path)) for path in paths]
    for i, name in enumerate(names):
        if name.parts[:1] and name.parts[0] in _OWN:
            raise ConfigError(f"write: {name} is the job's own: choose another path")
        for other in names[:i]:
            if name.is_relative_to(other) or other.is_relative_to(name):
                raise ConfigError(f"write: {other} and {name} are in each other's way")


def _known(folder: Path) -> set[str]:
    """What writers left, as far as it lies in the job's folder."""
    try:
        return set(json.loads((folder / WRITTEN).read_bytes()))
    except (FileNotFoundError, ValueError):
        return set()


def _note(folder: Path, names: set[str]) -> None:
    own = sorted(name for name in names if not (Path(name).is_absolute() or name.startswith("..")))
    (folder / WRITTEN).parent.mkdir(exist_ok=True)
    write_atomic(folder / WRITTEN, json.dumps(own).encode("ascii"))


def _remove(path: Path) -> None:
    if path.is_dir():
        if (path / MARK).is_file():
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
