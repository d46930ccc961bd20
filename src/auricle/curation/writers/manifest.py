"""Items as NeMo-style manifests, one or one for each part; no sound is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from auricle import manifests
from auricle.curation.items import Item
from auricle.curation.running.specimens import items_with_sound
from auricle.curation.writers.writer import (
    WriteExample,
    Writer,
    by_split,
    example_path,
    read_back,
    said,
)
from auricle.errors import ConfigError


@dataclass(frozen=True)
class Manifest(Writer):
    """A manifest, `.json` or `.jsonl`, gzipped if its name ends so.

    With `{split}` in the path there is one for each part. Files that the job made are named
    relative to the manifest, or from the root with `absolute`; the others always from the root.
    """

    path: str = "manifest-{split}.jsonl"
    absolute: bool = False

    def __post_init__(self) -> None:
        if not manifests.is_manifest(self.path):
            raise ConfigError(f"manifest: {self.path} should end with .jsonl or .jsonl.gz")

    def write(self, items: Iterable[Item], folder: Path) -> None:
        """See `Writer`; all parts are complete before the first takes its place."""
        done: dict[Path, Path] = {}
        try:
            for name, some in by_split(items, self.path):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                done[path.with_name(f".partial-{path.name}")] = path
                rows = (self._row(item, folder, path.parent) for item in some)
                manifests.write(path.with_name(f".partial-{path.name}"), rows)
            for made, path in done.items():
                made.replace(path)
        finally:
            for made in done:
                made.unlink(missing_ok=True)

    def example(self, folder: Path) -> WriteExample:
        """See `Writer`: the reader finds every row, and where its sound lies."""
        from auricle.curation import readers

        end = self.path[self.path.lower().rindex(".json") :]
        writer = replace(self, path=f"lists/{example_path(self.path)}{end}")
        items = items_with_sound(folder)
        parts = [(name, list(some)) for name, some in by_split(items, writer.path)]
        gives = [
            {**row, "audio_filepath": str(folder.absolute() / item["audio_filepath"])}
            for _, part in parts
            for item, row in zip(part, said(part), strict=True)
        ]
        reader = readers.Manifest(tuple(str(folder / name) for name, _ in parts))
        found = partial(read_back, [reader], folder)
        return WriteExample(writer, items, found, gives, sound=False)

    def _row(self, item: Item, folder: Path, beside: Path) -> Item:
        name = item["audio_filepath"]
        if "tar" in item or Path(name).is_absolute():
            return item
        path = folder.absolute() / name
        if self.absolute or not beside.absolute().is_relative_to(folder.absolute()):
            return {**item, "audio_filepath": str(path)}
        relative = os.path.relpath(path, beside.absolute())
        return {**item, "audio_filepath": Path(relative).as_posix()}
