"""What a job keeps on disk of its stages: rows committed as a whole, and journals of batches.

    stages/<stage>/<key>.jsonl           the rows of a shard that go on, one a line
    stages/<stage>/<key>.dropped.jsonl   what did not: filtered, quarantined, cut into others
    stages/<stage>/<key>.done            written last: without it, the others do not count
    stages/<stage>/<key>.journal         of a shard at work: a line for each batch that is done

A key stands for the content that went in and for what was done with it. So nothing here is ever
wrong, only unused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from auricle.curation.items import Item, canonical
from auricle.curation.running.counts import StepCounts
from auricle.files import write_atomic

STAGES = "stages"


@dataclass(frozen=True)
class Committed:
    """What a done marker says of a shard.

    Args:
        rows: How many go on.
        milliseconds: Their audio.
        digest: Of the rows that go on.
        dropped: Of the file of those that do not; empty if there are none.
        size: Bytes of the rows, against files cut short by a crash of the whole machine.
        counts: Of each step.
    """

    rows: int
    milliseconds: int
    digest: str
    dropped: str
    size: int
    counts: tuple[StepCounts, ...] = ()


class Result(NamedTuple):
    """What became of one item of a stage, as lines: the rows that go on, and the others."""

    kept: list[str]
    dropped: list[str]


@dataclass(frozen=True)
class BatchResult:
    """What became of the items of a batch, in order; `milliseconds` is audio that goes on."""

    items: list[Result]
    milliseconds: int = 0
    counts: list[StepCounts] = field(default_factory=list)


def dropped_line(item: Item, *, how: str, step: int, reason: str = "", detail: str = "") -> str:
    """A line on an item that does not go on; `step` is a number of its stage's `labels`."""
    return canonical({"as": how, "step": step, "reason": reason, "detail": detail, "item": item})


class Store:
    """The folder of a job's stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / STAGES

    def _path(self, stage: str, key: str, suffix: str) -> Path:
        return self.folder / stage / f"{key}{suffix}"

    def committed(self, stage: str, key: str) -> Committed | None:
        """What is known of a shard that is done; None if it is not."""
        try:
            said = json.loads(self._path(stage, key, ".done").read_bytes())
            counts = tuple(StepCounts(**each) for each in said.pop("counts"))
            done = Committed(**said, counts=counts)
            whole = self._path(stage, key, ".jsonl").stat().st_size == done.size
            dropped = not done.dropped or self._path(stage, key, ".dropped.jsonl").exists()
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return done if whole and dropped else None

    def commit(
        self,
        stage: str,
        key: str,
        results: Iterable[Result],
        *,
        milliseconds: int,
        counts: Sequence[StepCounts],
    ) -> Committed:
        """Keep what became of a shard, whole or not at all.

        Raises:
            OSError: The disk is full; nothing of it counts.
        """
        (self.folder / stage).mkdir(parents=True, exist_ok=True)
        rows: list[str] = []
        dropped: list[str] = []
        for result in results:
            rows += result.kept
            dropped += result.dropped
        content, drops = _bytes(rows), _bytes(dropped)
        write_atomic(self._path(stage, key, ".jsonl"), content)
        if dropped:
            write_atomic(self._path(stage, key, ".dropped.jsonl"), drops)
        done = Committed(
            rows=len(rows),
            milliseconds=milliseconds,
            digest=_digest(content),
            dropped=_digest(drops) if dropped else "",
            size=len(content),
            counts=tuple(counts),
        )
        write_atomic(self._path(stage, key, ".done"), canonical(asdict(done)) + "\n")
        with suppress(FileNotFoundError):
            self._path(stage, key, ".journal").unlink()
        return done

    def lines(self, stage: str, key: str) -> Iterator[str]:
        """The rows of a shard that go on, as they are written."""
        return _lines(self._path(stage, key, ".jsonl"))

    def dropped(self, stage: str, key: str) -> Iterator[dict[str, Any]]:
        """The rows that do not, as `dropped_line` made them."""
        path = self._path(stage, key, ".dropped.jsonl")
        return (json.loads(line) for line in _lines(path)) if path.exists() else iter(())

    def journal(self, stage: str, key: str) -> Journal:
        """The journal of a shard at work."""
        (self.folder / stage).mkdir(parents=True, exist_ok=True)
        return Journal(self._path(stage, key, ".journal"))


class Journal:
    """Batches of a shard that are done. A line that a kill cut short counts as not written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torn = False

    def read(self) -> dict[int, BatchResult]:
        """The batches that are done, by number."""
        done: dict[int, BatchResult] = {}
        for said in whole_lines(self.path):
            number, items, milliseconds, counts = said
            results = [Result(*item) for item in items]
            done[number] = BatchResult(results, milliseconds, [StepCounts(**c) for c in counts])
        self._torn = True
        return done

    def add(self, number: int, result: BatchResult) -> None:
        """Note a batch; it is safe from a kill of this process when this returns.

        Raises:
            OSError: The disk is full.
        """
        counts = [asdict(each) for each in result.counts]
        said = [number, result.items, result.milliseconds, counts]
        append_line(self.path, said, mend=self._torn)
        self._torn = False


def append_line(path: Path, value: Any, *, mend: bool = False) -> None:
    """Add a line of JSON; `mend` if the last line may have been cut short.

    Raises:
        OSError: The disk is full; names the file.
    """
    try:
        with path.open("ab") as file:
            start = b"\n" if mend and file.tell() else b""
            file.write(start + canonical(value).encode() + b"\n")
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def whole_lines(path: Path) -> Iterator[Any]:
    """The lists and mappings of a file's lines that were written whole; none without a file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            with suppress(ValueError):  # one that was cut short lacks its last bracket
                yield json.loads(line)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def _bytes(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
