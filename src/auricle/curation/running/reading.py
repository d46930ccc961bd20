"""Rows as they are read: each gets an id that stands for its content, and shards form.

Where one shard ends is said by the ids of the rows, so that a row more or less in the middle of a
manifest changes one shard, and not all that come after it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from auricle.curation.items import ID, Item, canonical, digest
from auricle.curation.plan import READ, Plan
from auricle.curation.running.batches import milliseconds
from auricle.curation.running.counts import StepCounts
from auricle.curation.running.store import Result, Store, dropped_line
from auricle.curation.running.writing import ELSEWHERE, parts_of, recordings, sound_path, sources
from auricle.files import overwriting, refuse_overwriting

if TYPE_CHECKING:
    from auricle.curation.readers import BadRow


@dataclass(frozen=True)
class ShardRead:
    """A shard of rows as read; `sound` tells whether a recording was replaced under its name."""

    key: str
    rows: int
    milliseconds: int
    sound: str = ""


@dataclass
class _Open:
    """The shard that rows go into."""

    ids: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    stamps: list[list[int]] = field(default_factory=list)
    milliseconds: int = 0
    counts: StepCounts = field(default_factory=StepCounts)


class Numbers:
    """How often each row has come so far; on disk where there are many."""

    def __init__(self) -> None:
        self._known = sqlite3.connect("")  # a file of its own, without a name
        self._known.execute("CREATE TABLE rows (id BLOB PRIMARY KEY, n INTEGER) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._known.close()

    def of(self, row: str) -> int:
        """0 for the first row of this digest, 1 for the next."""
        (n,) = self._known.execute(
            "INSERT INTO rows VALUES (?, 0) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n",
            (bytes.fromhex(row),),
        ).fetchone()
        return int(n)


def read_shards(
    plan: Plan, folder: Path, *, limit: int | None = None, outputs: Sequence[str] = ()
) -> list[ShardRead]:
    """Read all rows and keep them in shards; those that are there already stay as they are.

    Args:
        plan: Names the readers.
        folder: The job's.
        limit: Take no more rows than these.
        outputs: What the job will replace, as `writing.outputs` gives it.

    Raises:
        ManifestError, ConfigError, MissingExtra: See `Reader.items`; also if an output is a file
            that is read.
        OSError: The disk is full.
    """
    refuse_overwriting(outputs, sources(plan), cure=ELSEWHERE)
    refuse = overwriting(outputs, cure=ELSEWHERE)
    store = Store(folder)
    shards: list[ShardRead] = []
    size = plan.pipeline.shard.items
    rows = (row for reader in plan.pipeline.read for row in reader.items(folder))
    now = _Open()
    splits: set[str] = set()
    with Numbers() as numbers:
        for row in islice(rows, limit):
            identity = _take(row, now, numbers)
            if isinstance(row, dict):
                now.stamps.append(_stamp(sound_path(row, folder)))
                if refuse is not None:
                    for sound in recordings([row], folder):
                        refuse(sound)
                if isinstance(row.get("split"), str):
                    splits.add(row["split"])
            if ends_shard(identity, len(now.ids), size):
                shards.append(_closed(now, store))
                now = _Open()
    if now.ids:
        shards.append(_closed(now, store))
    # Rows may say themselves which part they are in: whether those paths are free is known now.
    rows_of_all = (json.loads(line) for each in shards for line in store.lines(READ, each.key))
    parts = parts_of(outputs, splits)
    everything = chain(sources(plan), recordings(rows_of_all, folder))
    refuse_overwriting(parts, everything, cure=ELSEWHERE)
    return shards


def ends_shard(identity: str, rows: int, most: int) -> bool:
    """Whether a shard of so many rows ends with the row of this id."""
    return rows >= most or (2 * rows >= most and int(identity[:8], 16) % max(1, most // 4) == 0)


def with_id(item: Item, numbers: Numbers) -> Item:
    """The item under its id: the digest of the row, and of how often it was there before."""
    content = digest(item)
    again = numbers.of(content)
    return {**item, ID: digest(content, again) if again else content}


def sample(plan: Plan, folder: Path) -> int:
    """Read the first row of each reader: whether they are there at all.

    Raises:
        ManifestError, ConfigError, MissingExtra: See `Reader.items`.
    """
    first: Iterable[Iterator[Item | BadRow]] = (r.items(folder) for r in plan.pipeline.read)
    return sum(len(list(islice(rows, 1))) for rows in first)


def _take(row: Item | BadRow, now: _Open, numbers: Numbers) -> str:
    """Put a row into the shard; gives its id."""
    now.counts.into += 1
    if isinstance(row, dict):
        item = with_id(row, numbers)
        told = Result([canonical(item)], [])
        now.milliseconds += milliseconds(item)
        now.counts.out += 1
    else:
        item = with_id({**row.data, "source": row.name}, numbers)
        told = _dropped(item, row.reason, row.detail)
        now.counts.drop("quarantined", row.reason)
    now.counts.milliseconds += milliseconds(item)
    now.results.append(told)
    now.ids.append(item[ID])
    return str(item[ID])


def _dropped(item: Item, reason: str, detail: str) -> Result:
    line = dropped_line(item, how="quarantined", step=0, reason=reason, detail=detail)
    return Result([], [line])


def _closed(now: _Open, store: Store) -> ShardRead:
    key = digest(now.ids)
    if store.committed(READ, key) is None:
        store.commit(READ, key, now.results, milliseconds=now.milliseconds, counts=[now.counts])
    return ShardRead(key, len(now.ids), now.counts.milliseconds, digest(now.stamps))


def _stamp(sound: Path | None) -> list[int]:
    """Size and time of change of the file that holds an item's sound; empty if there is none."""
    try:
        about = None if sound is None else sound.stat()
    except (ValueError, OSError):
        about = None
    return [] if about is None else [about.st_size, about.st_mtime_ns]
