"""Items from tars of sound, NeMo's layout or WebDataset's; nothing is unpacked."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from auricle import manifests
from auricle.curation.items import Item
from auricle.curation.readers.reader import (
    BadRow,
    Reader,
    ReadExample,
    absolute,
    item_of,
    with_bad_rows,
)
from auricle.curation.running.specimens import tone

if TYPE_CHECKING:
    from auricle.manifests import OnBadRow
    from auricle.training.rows import Found


@dataclass(frozen=True)
class Tar(Reader):
    """The rows of `manifest` with their sound in tars; without one, the samples of WebDataset.

    `{0..9}`, `{a,b}` and NeMo's `_OP_0..9_CL_` in a path stand for many. An item's sound is a
    place in a tar (`tar`, `tar_offset`, `tar_size`); `audio_filepath` is the member's name.
    """

    paths: ClassVar = ("path", "manifest")

    path: str | tuple[str, ...]
    manifest: str | tuple[str, ...] | None = None
    text_column: str = "text"

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        """See `Reader`; rows whose sound is in no tar are bad ones, a tar cut short is refused."""
        from auricle.training.tar import expanded

        shards = expanded(self.path, Path())
        paths = [] if self.manifest is None else expanded(self.manifest, Path())
        for path in paths:
            if path.is_file():  # it is told later if it is not
                manifests.check_audio_key(path, cure="rename {key} in the manifest")
        for group in with_bad_rows(partial(self._groups, shards, paths)):
            if isinstance(group, BadRow):
                yield group
            else:
                yield from map(item_of, group)

    def sources(self) -> list[Path]:
        """See `Reader`."""
        from auricle.training.tar import expanded

        names = [self.path] if self.manifest is None else [self.path, self.manifest]
        return [path for name in names for path in expanded(name, Path())]

    def _groups(
        self, shards: Sequence[Path], paths: Sequence[Path], bad_row: OnBadRow
    ) -> Iterator[list[Found]]:
        from auricle.training.recipe import SourceRecipe
        from auricle.training.tar import rows_of_nemo, shard_number, webdataset_rows

        source = SourceRecipe(text_column=self.text_column)
        numbers = [shard_number(shard) for shard in shards]
        if not paths:
            yield from webdataset_rows(shards, source, bad_row)
        elif len(paths) == len(set(numbers)) and [shard_number(p) for p in paths] == numbers:
            # One manifest for each tar: only one pair's rows need be held.
            for path, shard in zip(paths, shards, strict=True):
                yield from rows_of_nemo([path], [shard], source, bad_row)
        else:
            yield from rows_of_nemo(paths, shards, source, bad_row)

    def example(self, folder: Path) -> ReadExample:
        """See `Reader`: a sound, a row or sample without one, and a row that is cut short."""
        shard, rows = folder / "audio_0.tar", folder / "manifest_0.json"
        sound, text = tone(), {self.text_column: "schön"}
        place = {"tar": absolute(shard), "tar_offset": 512, "tar_size": len(sound)}
        item = {"audio_filepath": "a.wav", "text": "schön", **place}
        if self.manifest is None:
            rest = {"b.wav": sound, "b.json": b"{", "c.json": b"{}"}
            _fill(shard, {"a.wav": sound, "a.json": json.dumps(text).encode(), **rest})
            return ReadExample(replace(self, path=str(shard)), ("broken row", item, "no sound"))
        _fill(shard, {"a.wav": sound})
        a, b = (json.dumps({"audio_filepath": name, **text}) for name in ("a.wav", "b.wav"))
        rows.write_text(f"{a}\n{b}\n{a[:-1]}\n", encoding="utf-8")
        reader = replace(self, path=str(shard), manifest=str(rows))
        return ReadExample(reader, ("broken row", "no sound", item))


def _fill(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
