"""Items from tars of sound, NeMo's layout or WebDataset's; nothing is unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from auricle.curation.items import Item
from auricle.curation.readers.reader import BadRow, Reader, item_of, with_bad_rows

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
        for group in with_bad_rows(partial(self._groups, shards, paths)):
            if isinstance(group, BadRow):
                yield group
            else:
                yield from map(item_of, group)

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
