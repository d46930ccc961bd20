"""What a check of the data has found: values, one table for terminals, and plain JSON."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from auricle.errors import ConfigError, ManifestError

Kind = Literal[
    "row",
    "missing",
    "unreadable",
    "duration",
    "header",
    "language",
    "text",
    "characters",
    "empty",
    "long",
]
# What each kind is called, and what to do about it.
KINDS: Mapping[Kind, tuple[str, str]] = {
    "row": ("rows that cannot be read", "mend these lines, or take them out"),
    "missing": ("missing files", "check the paths; relative ones begin at the manifest's folder"),
    "unreadable": ("files that cannot be read", "record or copy them again"),
    "duration": ("durations that cannot be", "write them anew, or leave them out of the rows"),
    "header": ("durations that the file denies", "write them anew, or leave them out of the rows"),
    "language": (
        "languages that the model does not know",
        "set the row's lang, or the source's language",
    ),
    "text": ("texts that the tokenizer refuses", "set the row's lang, or the source's language"),
    "characters": (
        "texts that the tokenizer cannot write",
        "set data.text, or build the tokenizer from these texts",
    ),
    "empty": ("empty texts", "right where nothing is said; else write them"),
    "long": ("texts too long for their sound", "check text and duration, or cut the rows better"),
}
_BAR = 40
_SHOWN, _MOST_KINDS = 5, 20  # bad rows of a kind that are shown; kinds that are told apart
_ENDS = re.compile(r" \(|, got |; ")  # what tells one row's problem from another's stands behind


@dataclass(frozen=True)
class Problem:
    """One kind of problem; `drops` says whether such items cannot be learnt from."""

    kind: Kind
    items: int
    seconds: float
    drops: bool
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """A source: what it gave, and how many rows were left out, by reason, with some problems."""

    name: str
    items: int
    seconds: float
    left_out: Mapping[str, int]
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """What was found in all sources.

    Args:
        items: How many items there are.
        seconds: How long they are together.
        kept: How many can be learnt from.
        kept_seconds: How long those are together.
        sources: What each source gave.
        problems: What was found, in the order of `KINDS`.
        characters: Those that the tokenizer cannot write, and in how many texts they are.
        durations: How many items are at most so many seconds long, and longer than the one before.
        invalid: What the recipe does with items that cannot be learnt from.
        dropped: Name, text and duration of each of these.
        held_out: Whether they are judged, and not learnt from.
    """

    items: int
    seconds: float
    kept: int
    kept_seconds: float
    sources: tuple[Checked, ...]
    problems: tuple[Problem, ...]
    characters: Mapping[str, int]
    durations: tuple[tuple[float, int], ...]
    invalid: Literal["skip", "refuse"]
    dropped: frozenset[tuple[str, str, float]]
    held_out: bool = False

    @property
    def passed(self) -> bool:
        """Whether a training with these data would begin."""
        return self._refusal() is None

    def refuse(self) -> None:
        """Raise where a training must not begin.

        Raises:
            ManifestError: Rows that cannot be read, nothing left to learn from, or problems that
                the recipe refuses.
            ConfigError: The first problem that the recipe refuses is one of the tokenizer.
        """
        if (error := self._refusal()) is not None:
            raise error

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain = asdict(self)
        del plain["dropped"], plain["held_out"]
        plain["durations"] = [
            {"up_to": top if math.isfinite(top) else None, "items": n}
            for top, n in self.durations
            if n
        ]
        for problem in plain["problems"]:
            problem["what"], problem["cure"] = KINDS[problem["kind"]]
        return {**plain, "passed": self.passed}

    def text(self) -> str:
        """A table for people."""
        return "\n".join(line.rstrip() for line in self._lines())

    def _refusal(self) -> ManifestError | ConfigError | None:
        worst = [
            p for p in self.problems if p.drops and (p.kind == "row" or self.invalid != "skip")
        ]
        if not self.kept and not worst:
            worst = [p for p in self.problems if p.drops]
        if worst:
            first = worst[0]
            what, cure = KINDS[first.kind]
            others = "".join(f"; {KINDS[p.kind][0]}: {p.items:,}" for p in worst[1:])
            written = first.kind in ("language", "text", "characters")
            kind = ConfigError if written else ManifestError
            return kind(f"{what}: {first.items:,} ({first.examples[0]}): {cure}{others}")
        if not self.kept:
            return ManifestError("there is nothing to learn from: no source has any items")
        return None

    def _lines(self) -> Iterator[str]:
        yield f"{'source':<44}{'items':>10}{'hours':>10}  left out by the recipe"
        for source in self.sources:
            reasons = ", ".join(f"{why}: {count:,}" for why, count in source.left_out.items())
            yield f"{_short(source.name):<44}{source.items:>10,}{_hours(source.seconds)}  {reasons}"
            yield from (f"    {example}" for example in source.examples)
        if self.problems:
            yield ""
            yield f"{'problem':<44}{'items':>10}{'hours':>10}  what becomes of them"
        for problem in self.problems:
            what, cure = KINDS[problem.kind]
            count = f"{problem.items:>10,}{_hours(problem.seconds)}"
            yield f"{what:<44}{count}  {self._fate(problem)}"
            yield from (f"    {example}" for example in problem.examples)
            if problem.items > len(problem.examples):
                yield "    ..."
            if problem.kind == "characters":
                yield f"    {_characters(self.characters)}"
            yield f"    -> {cure}"
        yield ""
        yield from self._histogram()
        yield (
            f"{self.kept:,} of {self.items:,} items can be learnt from: "
            f"{self.kept_seconds / 3600:.2f} of {self.seconds / 3600:.2f} hours"
        )

    def _fate(self, problem: Problem) -> str:
        if not problem.drops:
            return f"{'judged' if self.held_out else 'learnt from'} all the same"
        return "refused" if problem.kind == "row" or self.invalid == "refuse" else "skipped"

    def _histogram(self) -> Iterator[str]:
        most, last = max((count for _, count in self.durations), default=0), 0.0
        for top, count in self.durations:
            if count:
                bar = "#" * max(1, round(_BAR * count / most))
                span = f"over {last:g} s" if math.isinf(top) else f"{last:g} to {top:g} s"
                yield f"{span:>14} {count:>10,} {bar}"
            last = top


def some_of_each(lines: Iterable[str]) -> Iterator[str]:
    """Lines about bad rows, the first few of each kind, and how many more there are of it."""
    counts = Counter[str]()
    for line in lines:
        kind = _ENDS.split(line)[0].rpartition(": ")[2]
        if kind not in counts and len(counts) >= _MOST_KINDS:
            kind = "other problems"
        counts[kind] += 1
        if counts[kind] <= _SHOWN:
            yield line
    for kind, count in counts.items():
        if count > _SHOWN:
            yield f"and {count - _SHOWN:,} more rows: {kind}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:>10.2f}"


def _short(name: str) -> str:
    return name if len(name) <= 42 else "..." + name[-39:]


def _characters(counts: Mapping[str, int]) -> str:
    shown = sorted(counts, key=lambda c: -counts[c])[:20]
    more = f", and {len(counts) - len(shown)} others" if len(counts) > len(shown) else ""
    return "in so many texts: " + ", ".join(f"{spelt(c)} {counts[c]:,}" for c in shown) + more


def spelt(character: str) -> str:
    """A character as people can see it."""
    if unicodedata.category(character)[0] in "CMZ":
        name = unicodedata.name(character, "")
        return f"U+{ord(character):04X} {name}".rstrip()
    return f"'{character}'"
