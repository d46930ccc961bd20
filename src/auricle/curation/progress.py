"""What a run tells whoever watches it; how that looks is the watcher's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Stage(Protocol):
    """A run of steps whose results are kept together."""

    @property
    def name(self) -> str:
        """As in `metrics.jsonl` and in the folder `stages`."""


class Plan(Protocol):
    """What will be done."""

    @property
    def name(self) -> str:
        """The pipeline's."""

    @property
    def stages(self) -> Sequence[Stage]:
        """In the order in which they are done."""


@dataclass(frozen=True)
class Counts:
    """How far a run is, whatever part of it was done by earlier ones.

    Args:
        read: Items of all readers, as far as they are read.
        shards: Of each stage, by name: how many shards are committed, and how many there are.
        filtered: Items so far, by reason.
        quarantined: Items so far, by reason.
    """

    read: int = 0
    shards: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    filtered: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)


class Watcher(Protocol):
    """Hears of a run as it goes, in the driver."""

    def started(self, plan: Plan, shards: int) -> None:
        """All is checked, and work begins on so many shards of items as read."""

    def batch(self, record: Mapping[str, Any], counts: Counts) -> None:
        """A batch is done: its line of `metrics.jsonl`, and how far the run is."""

    def said(self, line: str) -> None:
        """Something that the user should know: a death, a retry."""

    def finished(self, summary: Mapping[str, Any]) -> None:
        """All is done, and `summary.json` written."""


class Silent:
    """Tells nobody."""

    def started(self, plan: Plan, shards: int) -> None:
        """Nothing."""

    def batch(self, record: Mapping[str, Any], counts: Counts) -> None:
        """Nothing."""

    def said(self, line: str) -> None:
        """Nothing."""

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Nothing."""
