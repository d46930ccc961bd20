"""What steps did with items, counted. Whole numbers, so that sums do not depend on their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StepCounts:
    """Of one step: `into` + `made` = `out` + filtered + quarantined + `cut`.

    Attributes:
        into: Items that reached it.
        out: Items that went on, those that it made included.
        passed: Items among both that its condition let by.
        cut: Items that it cut into others.
        made: Items that came of it.
        milliseconds: Audio of the items that reached it.
        filtered: By reason.
        quarantined: By reason.
    """

    into: int = 0
    out: int = 0
    passed: int = 0
    cut: int = 0
    made: int = 0
    milliseconds: int = 0
    filtered: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def add(self, other: StepCounts) -> None:
        """Count another's items too."""
        self.into += other.into
        self.out += other.out
        self.passed += other.passed
        self.cut += other.cut
        self.made += other.made
        self.milliseconds += other.milliseconds
        for reason, number in other.filtered.items():
            self.filtered[reason] = self.filtered.get(reason, 0) + number
        for reason, number in other.quarantined.items():
            self.quarantined[reason] = self.quarantined.get(reason, 0) + number

    def drop(self, how: str, reason: str) -> None:
        """Count an item that does not go on: "filtered", "quarantined" or "cut"."""
        if how == "cut":
            self.cut += 1
        else:
            reasons: dict[str, int] = getattr(self, how)
            reasons[reason] = reasons.get(reason, 0) + 1

    def balanced(self) -> bool:
        """Whether nothing was lost and nothing came of nothing."""
        gone = self.cut + sum(self.filtered.values()) + sum(self.quarantined.values())
        return self.into + self.made == self.out + gone

    def to_dict(self) -> dict[str, Any]:
        """As in `summary.json`."""
        return {
            "in": self.into,
            "out": self.out,
            "seconds_in": self.milliseconds / 1000,
            "filtered": dict(sorted(self.filtered.items())),
            "quarantined": dict(sorted(self.quarantined.items())),
            "cut": self.cut,
            "made": self.made,
            "passed": self.passed,
        }


def summed(parts: Iterable[Sequence[StepCounts]], steps: int) -> list[StepCounts]:
    """The counts of many batches or shards together, step by step."""
    total = [StepCounts() for _ in range(steps)]
    for part in parts:
        for counts, more in zip(total, part, strict=True):
            counts.add(more)
    return total
