"""`ledger.jsonl`: what was learnt from workers that ended, so that a kill does not make us forget.

A line for each note of a `Trial`, under the shard's key and the number of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auricle.curation.running.store import append_line, whole_lines

LEDGER = "ledger.jsonl"
Batch = tuple[str, int]  # a shard's key, and the number of a batch of it


class Ledger:
    """The notes on a job's batches, those of earlier runs too."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        self._notes: dict[Batch, list[Mapping[str, Any]]] = {}
        for said in whole_lines(self.path):
            self._notes.setdefault((said["shard"], said["batch"]), []).append(said["note"])
        self._torn = True

    def known(self, shard: str, batch: int) -> Sequence[Mapping[str, Any]]:
        """What is known of a batch, in order."""
        return tuple(self._notes.get((shard, batch), ()))

    def add(
        self, shard: str, batch: int, note: Mapping[str, Any], id_of: Callable[[int], str]
    ) -> None:
        """Note something; it is safe from a kill when this returns.

        Args:
            shard: Its key.
            batch: Its number.
            note: What a trial learnt.
            id_of: Gives the id of an item of the batch, for whoever reads the file.

        Raises:
            OSError: The disk is full.
        """
        said: dict[str, Any] = {"shard": shard, "batch": batch, "note": dict(note)}
        if "item" in note:
            said["item_id"] = id_of(note["item"])
        append_line(self.path, said, mend=self._torn)
        self._torn = False
        self._notes.setdefault((shard, batch), []).append(dict(note))
