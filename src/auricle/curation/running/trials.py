"""Who is to blame when a batch fails: pure bookkeeping, which knows no worker and no clock.

A batch that raised, killed its worker or hung says nothing about which of its items did it. So its
items are tried one by one, each alone in a worker, and those results are thrown away: once the
guilty are known, the others are worked on as a batch, so that what comes out is the same whether
or not somebody killed a worker meanwhile. An item is guilty when it raises alone, or when its
worker dies or is given up twice with it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from auricle.curation.engines import TIMEOUT

SOLO_DEATHS = 2
# So often may a batch fail although each of its items passes alone; then those results are taken.
ROUNDS = 3
DIED = "worker_died"
_DETAILS = {
    DIED: "the process that worked on it died, twice with it alone",
    TIMEOUT: "it took too long, twice alone",
}

Members = tuple[int, ...]  # numbers of items in the batch
Note = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Why an item is quarantined, and at which step of its stage."""

    reason: str
    detail: str
    step: int


class Trial:
    """One batch until it is done. `start` and each report say what is to be tried next.

    Args:
        size: Items in the batch.
        note: Is given what must be known after a kill: it goes to the ledger.
        known: What was noted before.

    Attributes:
        finished: Whether all is known.
        parts: Then, results and whose they are: of the batch, or of each item alone.
        guilty: Then, those that are in no part.
    """

    def __init__(self, size: int, note: Callable[[Note], None], known: Iterable[Note] = ()) -> None:
        self.finished = False
        self.parts: list[tuple[Members, Any]] = []
        self.guilty: dict[int, Verdict] = {}
        self._size = size
        self._note = note
        self._deaths: dict[int, list[tuple[str, int]]] = {}
        self._one_by_one = False
        self._waiting: set[int] = set()  # who is still to pass or fail alone
        self._explained = False  # whether this round has found somebody guilty
        self._unexplained = 0
        for said in known:
            self._learn(said)

    def start(self) -> list[Members]:
        """What is to be tried first."""
        return self._next()

    def done(self, members: Members, value: Any) -> list[Members]:
        """They were worked on, together."""
        self.parts.append((members, value))
        if self._one_by_one:
            return self._heard(members[0])
        self.finished = True
        return []

    def failed(self, members: Members, reason: str, detail: str, step: int) -> list[Members]:
        """They raised an exception."""
        if len(members) > 1:
            return self._doubt(reason)
        self._tell(what="guilty", item=members[0], reason=reason, detail=detail, step=step)
        return self._heard(members[0])

    def died(self, members: Members, reason: str, step: int) -> list[Members]:
        """Their worker ended, or was ended because it took too long."""
        if len(members) > 1:
            return self._doubt(reason)
        self._tell(what="death", item=members[0], reason=reason, step=step)
        return self._heard(members[0]) if members[0] in self.guilty else [members]

    def _doubt(self, reason: str) -> list[Members]:
        self._tell(what="doubt", reason=reason)
        return self._next()

    def _heard(self, one: int) -> list[Members]:
        """One item has passed, or is guilty; the round may be over."""
        if not self._one_by_one:
            return self._next()  # a batch of one
        self._waiting.discard(one)
        if self._waiting:
            return []
        self._tell(what="round")
        if self._unexplained >= ROUNDS:
            self.finished = True
            return []
        return self._next()

    def _next(self) -> list[Members]:
        innocent = tuple(i for i in range(self._size) if i not in self.guilty)
        self.parts = []
        if not innocent:
            self.finished = True
            return []
        self._one_by_one |= self._unexplained >= ROUNDS
        if self._one_by_one:
            self._waiting = set(innocent)
            return [(i,) for i in innocent]
        return [innocent]

    def _tell(self, **said: Any) -> None:
        self._note(said)
        self._learn(said)

    def _learn(self, said: Note) -> None:
        """What follows from a note, now or after a kill."""
        if said["what"] == "doubt":
            self._one_by_one, self._explained = True, False
        elif said["what"] == "round":
            self._one_by_one = False
            self._unexplained += not self._explained
        elif said["what"] == "guilty":
            self._blame(said["item"], Verdict(said["reason"], said["detail"], said["step"]))
        elif said["what"] == "death":
            deaths = self._deaths.setdefault(said["item"], [])
            deaths.append((said["reason"], said["step"]))
            if len(deaths) >= SOLO_DEATHS:
                self._blame(said["item"], _of_deaths(deaths))

    def _blame(self, one: int, verdict: Verdict) -> None:
        self.guilty[one] = verdict
        self._explained = True


def _of_deaths(deaths: list[tuple[str, int]]) -> Verdict:
    """One of the deaths of an item that hangs may have come from outside: it did not hang then.

    An outside kill may also have come before the step that is to blame.
    """
    hung = [step for reason, step in deaths if reason == TIMEOUT]
    reason = TIMEOUT if hung else DIED
    return Verdict(reason, _DETAILS[reason], max(hung or [step for _, step in deaths]))
