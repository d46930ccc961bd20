"""What a job's writers write at its end: all of it, and nothing left of what they wrote before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePath

from auricle.curation.items import Item
from auricle.curation.plan import Plan
from auricle.curation.running.store import STAGES
from auricle.curation.writers.writer import MARK, SPLIT, Writer
from auricle.errors import ConfigError
from auricle.files import refuse_overwriting, write_atomic

WRITTEN = f"{STAGES}/written.json"
# What the job itself keeps in its folder.
_OWN_FILES = (
    *("manifest.jsonl", "filtered.jsonl", "quarantined.jsonl", "summary.json", "report.html"),
    *("metrics.jsonl", "ledger.jsonl", "curation.json", "lock"),
)
_OWN = (*_OWN_FILES, "audio", STAGES)


ELSEWHERE = "choose another folder with -o, or another path under `write`"


def outputs(plan: Plan, folder: Path) -> list[str]:
    """What a job in `folder` will replace; of paths with `{split}` also those of all known parts.

    Rows may say that they are in further parts: `parts_of` fills those in.
    """
    from auricle.curation.steps.split import Split

    steps = (each.step for stage in plan.stages for each in stage.steps)
    splits = {part for step in steps if isinstance(step, Split) for part in step.parts}
    names = [*_OWN_FILES, *(writer.path for writer in plan.pipeline.write)]
    paths = [str(folder / name) for name in names]
    return [*paths, *parts_of(paths, splits)]


def parts_of(paths: Iterable[str], splits: Iterable[str]) -> list[str]:
    """The paths with `{split}`, for each part."""
    parts = sorted(splits)
    return [path.replace(SPLIT, part) for path in paths if SPLIT in path for part in parts]


def sources(plan: Plan) -> list[str | Path]:
    """The files and folders that a job reads besides recordings: what readers and steps name."""
    named: list[str | Path] = [path for one in plan.pipeline.read for path in one.sources()]
    named += plan.pipeline.step_files
    for stage in plan.stages:
        for each in stage.steps:
            for key in ("paths", "maybe_paths"):
                values = [getattr(each.step, name) for name in getattr(each.step, key, ())]
                named += [value for value in values if isinstance(value, str)]
    return named


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


def write_all(
    writers: Sequence[Writer],
    items: Iterable[Item],
    folder: Path,
    read: Iterable[str | Path] = (),
) -> None:
    """Have each writer write, and remove what writers of an earlier pipeline left in the folder.

    Parts of a split that there are no more would else lie beside those of another split, with the
    same speakers in them.

    Args:
        writers: The pipeline's.
        items: Those that are kept.
        folder: The job's.
        read: The files that items came from.

    Raises:
        ConfigError, AudioError, OSError: As `Writer.write`; a part has the name of a file of the
            job's own, or of one that was read.
    """
    before = _known(folder)
    now = {os.path.normpath(name) for writer in writers for name in writer.targets(items)}
    _refuse_clashes(sorted(now))
    replaced = [folder / name for name in now]
    refuse_overwriting(replaced, chain(read, recordings(items, folder)), cure=ELSEWHERE)
    _note(folder, before | now)  # whoever is killed behind this leaves nothing unknown
    for writer in writers:
        writer.write(items, folder)
    for name in sorted(before - now):
        _remove(folder / name)
    _note(folder, now)


def sound_path(item: Item, folder: Path) -> Path | None:
    """The file that holds an item's sound, which may be a tar; None if no path is said."""
    name = item.get("tar") or item.get("audio_filepath")
    return folder / name if isinstance(name, str) else None


def recordings(items: Iterable[Item], folder: Path) -> Iterator[Path]:
    """The files that hold the sound of items, as far as they are there."""
    for item in items:
        sound = sound_path(item, folder)
        with suppress(OSError, ValueError):  # a name too long, or with a null character
            if sound is not None and sound.is_file():
                yield sound


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
