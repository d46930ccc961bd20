"""The stand-in for speech recognition of `curation_auricle.py`; workers import this file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from auricle.curation.items import Item
from auricle.curation.step import Batch, Place, Step, Work


@dataclass(frozen=True)
class NoModel(Step):
    """Copies a key, and notes the time and how many rows there were, as `curation_curator.py` does.

    Costly, as `transcribe` is: what it gave is kept batch by batch.
    """

    costly: ClassVar[bool] = True

    calls: str
    rows: int
    wait: float

    @property
    def inputs(self) -> tuple[str, ...]:
        """What there is to hear."""
        return ("said",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What was heard."""
        return ("pred_text",)

    @property
    def batch(self) -> Batch:
        """As many rows as the other engine's."""
        return Batch(items=self.rows)

    def open(self, place: Place) -> Work:
        """Nothing to load."""

        def work(items: Sequence[Item]) -> Iterator[Item]:
            time.sleep(self.wait * len(items))
            with Path(self.calls).open("a") as file:  # one write: whole lines
                file.write(f"{time.time()} {len(items)}\n")
            for item in items:
                yield {**item, "pred_text": item["said"]}

        return work
