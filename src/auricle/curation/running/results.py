"""What a job leaves: the items that are kept, and why each of the others is not.

    manifest.jsonl      the items that are kept, in the order of reading
    filtered.jsonl      what a step decided against; `filtered` has step, reason and detail
    quarantined.jsonl   what could not be worked on; `quarantined` has the same
    summary.json        how many there are of each, and where they went; written last

Each appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from auricle.curation.items import Item, canonical
from auricle.curation.plan import Plan, Stage
from auricle.curation.running.batches import milliseconds
from auricle.curation.running.counts import StepCounts
from auricle.curation.running.store import Committed, Store
from auricle.files import file_beside, write_atomic

MANIFEST = "manifest.jsonl"
FILTERED = "filtered.jsonl"
QUARANTINED = "quarantined.jsonl"
SUMMARY = "summary.json"
_FILES = {"kept": MANIFEST, "filtered": FILTERED, "quarantined": QUARANTINED}


@dataclass
class StageDone:
    """What is known of a stage's shards.

    Attributes:
        keys: Of its shards, in the order of reading; empty for one that is not done.
        digests: Of their rows.
        counts: Of each step, all shards together.
        milliseconds: Audio of the rows that go on.
        done: How many shards are done.
    """

    keys: list[str]
    digests: list[str]
    counts: list[StepCounts]
    milliseconds: int = 0
    done: int = 0

    @classmethod
    def of(cls, stage: Stage, shards: int) -> Self:
        """A stage of which nothing is done yet."""
        return cls([""] * shards, [""] * shards, [StepCounts() for _ in stage.counted])

    def add(self, shard: int, key: str, committed: Committed) -> None:
        """Note a shard that is done."""
        self.keys[shard], self.digests[shard] = key, committed.digest
        self.milliseconds += committed.milliseconds
        self.done += 1
        for total, more in zip(self.counts, committed.counts, strict=True):
            total.add(more)


@dataclass(frozen=True)
class Summary:
    """What became of all items: `read` + `made` = `kept` + `filtered` + `quarantined` + `cut`.

    Attributes:
        name: The pipeline's.
        read: Rows, the broken ones too.
        made: Items that others were cut into.
        cut: Items that were cut into others.
        kept: Items in the manifest.
        filtered: Items that a step decided against.
        quarantined: Items that could not be worked on.
        seconds: Audio that was read, kept, filtered, quarantined.
        steps: Of each step what went in and out, and why items did not go on.
    """

    name: str
    read: int
    made: int
    cut: int
    kept: int
    filtered: int
    quarantined: int
    seconds: Mapping[str, float]
    steps: Sequence[Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As in `summary.json`."""
        return asdict(self)


class KeptItems:
    """The items of a manifest, to be gone through again and again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / MANIFEST

    def __iter__(self) -> Iterator[Item]:
        with self.path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)


def write_results(plan: Plan, folder: Path, stages: Sequence[StageDone]) -> Summary:
    """Write the rows of all outcomes; `stages` are the plan's, all done.

    Raises:
        RuntimeError: Items were lost or came from nowhere: a defect, nothing is written.
        OSError: The disk is full.
    """
    trunk = [i for i, stage in enumerate(plan.stages) if not stage.in_branch]
    counts = [of.counts for of in stages]
    store = Store(folder)
    with ExitStack() as stack:
        tally = _Tally({h: stack.enter_context(file_beside(folder / n)) for h, n in _FILES.items()})
        last = trunk[-1]
        for key in stages[last].keys:
            tally.keep(store.lines(plan.stages[last].name, key))
        tally.milliseconds["kept"] = stages[last].milliseconds
        for i in trunk:
            for key in stages[i].keys:
                tally.drop(store.dropped(plan.stages[i].name, key), plan.stages[i].labels)
        seconds = {"read": counts[0][0].milliseconds / 1000}
        seconds |= {how: length / 1000 for how, length in tally.milliseconds.items()}
        summary = Summary(
            name=plan.name,
            read=counts[0][0].into,
            made=sum(each.made for i in trunk for each in counts[i]),
            cut=sum(each.cut for i in trunk for each in counts[i]),
            **tally.items,
            seconds=seconds,
            steps=[
                {"step": label, **each.to_dict()}
                for stage, of in zip(plan.stages, counts, strict=True)
                for label, each in zip(stage.counted, of, strict=True)
            ],
        )
        _check(summary, counts)
    return summary


def write_summary(summary: Summary, folder: Path) -> None:
    """Write `summary.json`, which says that a job is done.

    Raises:
        OSError: The disk is full.
    """
    text = json.dumps(summary.to_dict(), ensure_ascii=False, indent=2, sort_keys=False)
    write_atomic(folder / SUMMARY, text + "\n")


class _Tally:
    """Writes rows to the files of their outcomes, and counts them."""

    def __init__(self, files: Mapping[str, BinaryIO]) -> None:
        self.files = files
        self.items = dict.fromkeys(files, 0)
        self.milliseconds = dict.fromkeys(files, 0)

    def keep(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.files["kept"].write(line.encode() + b"\n")
            self.items["kept"] += 1

    def drop(self, dropped: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> None:
        for said in dropped:
            how = said["as"]
            if how not in self.files:  # cut: its parts go their own ways
                continue
            told = {"step": labels[said["step"]], **{k: said[k] for k in ("reason", "detail")}}
            self.files[how].write(canonical({**said["item"], how: told}).encode() + b"\n")
            self.items[how] += 1
            self.milliseconds[how] += milliseconds(said["item"])


def _check(summary: Summary, counts: Sequence[Sequence[StepCounts]]) -> None:
    came = summary.read + summary.made
    went = summary.kept + summary.filtered + summary.quarantined + summary.cut
    if came != went or not all(each.balanced() for of in counts for each in of):
        raise RuntimeError(
            f"{came} items came and {went} are accounted for; this is a defect of Auricle's: "
            "please report it with summary.json and curation.json"
        )
