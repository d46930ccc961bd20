"""What a writer is, and what all of them share: folders that appear whole, and parts by split."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.curation.items import ID, Item
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.curation.readers import BadRow, Reader

SPLIT = "{split}"

_NAME = re.compile(r"\w+(\.\w+)*")
MARK = ".auricle"


@dataclass(frozen=True)
class WriteExample:
    """What a writer must leave of some items: see `Writer.example`.

    Args:
        writer: Writes the items.
        items: What is to be written.
        found: Reads what was written.
        gives: The rows that are found; as in a reader's example.
        sound: Whether found items must sound as those did that were given.
    """

    writer: Writer
    items: Sequence[Item]
    found: Callable[[], Iterable[Item | BadRow]]
    gives: Sequence[Mapping[str, Any]]
    sound: bool = True


class Writer:
    """Where items go at the end; a frozen dataclass, whose fields are its options in YAML.

    Relative paths start from the job's folder, and so do those in items.
    """

    path: str  # of a file or a folder; perhaps with `{split}` in it

    def options(self) -> dict[str, Any]:
        """What it writes, as JSON."""
        assert is_dataclass(self)
        return asdict(self)

    def check(self, folder: Path) -> None:
        """Refuse before a job what could not be written after it.

        Raises:
            ConfigError: Something of somebody else's is where the result should go.
            MissingExtra: A package is not installed.
        """

    def targets(self, items: Iterable[Item]) -> list[str]:
        """The files or folders that `write` makes of these items."""
        return [name for name, _ in by_split(items, self.path)]

    def write(self, items: Iterable[Item], folder: Path) -> None:
        """Write all items, whole or not at all: the same bytes for the same items.

        Args:
            items: May be gone through more than once.
            folder: The job's.

        Raises:
            ConfigError, ManifestError: Items that cannot be written so.
            AudioError: Sound that cannot be read; it names the item.
            OSError: The disk is full, for instance.
        """
        raise NotImplementedError

    def example(self, folder: Path) -> WriteExample | None:
        """Items of a job in `folder`: tried before a job starts, in a folder thrown away.

        Its writer has this one's options, but another path. None: there is nothing to try.
        """
        return None


def example_path(path: str) -> str:
    """A path for an example: one for each part, if the writer's own is."""
    return SPLIT if SPLIT in path else "all"


def read_back(readers: Iterable[Reader], folder: Path) -> Iterator[Item | BadRow]:
    """What readers find, one after the other."""
    return (row for reader in readers for row in reader.items(folder))


def said(items: Iterable[Item]) -> list[Item]:
    """What every format keeps of an example's items."""
    keys = (ID, "text", "speaker", "split", "duration")
    return [{key: item[key] for key in keys if key in item} for item in items]


@dataclass(frozen=True)
class OfSplit:
    """Those items that a split has given to one part."""

    items: Iterable[Item]
    name: str

    def __iter__(self) -> Iterator[Item]:
        """In their order."""
        return (item for item in self.items if split_of(item) == self.name)


def by_split(items: Iterable[Item], path: str) -> Iterator[tuple[str, Iterable[Item]]]:
    """A path and its items for each part, if `{split}` stands in the path; else all of them.

    Raises:
        ConfigError: An item without `split`, or one whose `split` is no name.
    """
    if SPLIT not in path:
        yield path, items
        return
    for name in sorted({split_of(item) for item in items}):
        yield path.replace(SPLIT, name), OfSplit(items, name)


def split_of(item: Item, default: str | None = None) -> str:
    """The part that an item is in.

    Raises:
        ConfigError: It is in none, or the name has other than letters, digits, `_` and dots.
    """
    name = item.get("split", default)
    if name is None:
        raise ConfigError("an item has no `split`, by which it is to be written: add a split step")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"an item's `split` is {name!r}, which is no name of a part: train, say")
    return name


def refuse_others(path: Path) -> None:
    """Raise if `path` is there and is neither empty nor what a writer left.

    Raises:
        ConfigError: It is.
    """
    if path.is_dir() and ((path / MARK).is_file() or not any(path.iterdir())):
        return
    if path.exists():
        raise ConfigError(f"{path} is there already: remove it, or write to another folder")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; at the end of the block it takes the place of `path`.

    If the block fails, nothing of it stays. After a kill the next one clears up.

    Raises:
        ConfigError: What is there was not written by this.
        OSError: The disk is full, for instance.
    """
    partial, old = (path.with_name(f".{path.name}.{end}") for end in ("partial", "old"))
    if old.exists() and not path.exists():
        old.rename(path)  # a kill came between the two renames below
    refuse_others(path)
    for rest in (partial, old):
        shutil.rmtree(rest, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        (partial / MARK).touch()
        for file in sorted(partial.rglob("*")):
            if file.is_file():
                _flush(file)
        if path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(path)


def _flush(path: Path) -> None:
    """To the disk, where that says if there is no room."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
