"""Items as NeMo-style manifests, one or one for each part; no sound is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from auricle import manifests
from auricle.curation.items import Item
from auricle.curation.writers.writer import Writer, by_split
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
            for partial, path in done.items():
                partial.replace(path)
        finally:
            for partial in done:
                partial.unlink(missing_ok=True)

    def _row(self, item: Item, folder: Path, beside: Path) -> Item:
        name = item["audio_filepath"]
        if "tar" in item or Path(name).is_absolute():
            return item
        path = folder.absolute() / name
        if self.absolute or not beside.absolute().is_relative_to(folder.absolute()):
            return {**item, "audio_filepath": str(path)}
        relative = os.path.relpath(path, beside.absolute())
        return {**item, "audio_filepath": Path(relative).as_posix()}
