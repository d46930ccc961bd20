"""What a fine-tuning has changed: WER and CER before and after, and the clips that are still worst.

Made of what the run folder holds, so that it can be made again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from auricle.files import write_atomic
from auricle.metrics import Errors, character_errors, word_errors
from auricle.text import spaced
from auricle.training.plots import read_metrics
from auricle.training.run import HEARD, METRICS
from auricle.training.validating import Heard

REPORT = "report.md"
WORST = 10


@dataclass(frozen=True)
class Scores:
    """Errors of all clips together; texts are compared as a validation has kept them."""

    words: Errors
    characters: Errors

    @classmethod
    def of(cls, heard: Iterable[Heard]) -> Scores:
        """Those of some clips."""
        words, characters = Errors(), Errors()
        for clip in heard:
            words += word_errors(clip["reference"], clip["hypothesis"], normalise=str)
            characters += character_errors(clip["reference"], clip["hypothesis"], normalise=str)
        return cls(words, characters)


@dataclass(frozen=True)
class Report:
    """`before` is None where the run did not begin from a model, or was not judged then."""

    name: str
    base: str | None
    before: Scores | None
    after: Scores
    worst: tuple[Heard, ...]
    clips: int
    left_out: int = 0
    unspaced: bool = False

    def summary(self) -> str:
        """In a line."""
        wer, cer = self.after.words.rate, self.after.characters.rate
        if self.before is None:
            return f"WER {_percent(wer)}, CER {_percent(cer)} on {self._held_out}"
        was = self.before.words.rate, self.before.characters.rate
        return (
            f"WER {_percent(was[0])} before, {_percent(wer)} after; CER {_percent(was[1])} before, "
            f"{_percent(cer)} after, on the same {self._held_out}{': no better' * (wer >= was[0])}"
        )

    @property
    def _held_out(self) -> str:
        left_out = f" ({self.left_out:,} more are left out)" if self.left_out else ""
        return f"{self.clips} held-out clips{left_out}"

    def lines(self) -> list[str]:
        """For a terminal: the figures, then the worst clips."""
        found = [self.summary()]
        if self.worst:
            found.append(f"the {len(self.worst)} worst clips:")
        for clip in self.worst:
            found.append(f"  {clip['name']} ({_share(clip)} words wrong)")
            found.append(f"    said:  {clip['reference']}")
            found.append(f"    heard: {clip['hypothesis']}")
        return found

    def markdown(self) -> str:
        """The whole of it as a page."""
        rows = [("before", self.before), ("after", self.after)]
        table = [
            f"| {name} | {_percent(s.words.rate)} | {_percent(s.characters.rate)} "
            f"| {s.words.total:,} of {s.words.words:,} |"
            for name, s in rows
            if s is not None
        ]
        base = f", begun from `{self.base}`" if self.base else ""
        lines = [
            f"# {self.name}{base}",
            "",
            f"{self._held_out}, decoded greedily; texts are compared as the tokenizer writes them, "
            "with case and marks"
            f"{', and in scripts without spaces each character is a word' * self.unspaced}.",
            "",
            "| | WER | CER | words wrong |",
            "|---|---|---|---|",
            *table,
            "",
            "## The clips with the most errors",
            "",
            "| clip | words wrong | said | heard |",
            "|---|---|---|---|",
        ]
        for clip in self.worst:
            cells = (clip["name"], _share(clip), clip["reference"], clip["hypothesis"])
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        return "\n".join(lines) + "\n"


def report(run: Path, name: str, base: str | None) -> Report | None:
    """What the run in a folder has changed; None where nothing was held out."""
    after = _read(run, "best")
    if not after:
        return None
    before = _read(run, "before")
    worst = sorted(after, key=_wrong, reverse=True)[:WORST]
    return Report(
        name=name,
        base=base,
        before=Scores.of(before) if before else None,
        after=Scores.of(after),
        worst=tuple(clip for clip in worst if _wrong(clip)[0]),
        clips=len(after),
        left_out=_left_out(run),
        unspaced=any(spaced(clip["reference"]) != clip["reference"] for clip in after),
    )


def _left_out(run: Path) -> int:
    """How many held-out rows the last validation could not judge."""
    rows = read_metrics(run / METRICS) if (run / METRICS).exists() else []
    return next((row.get("left_out", 0) for row in reversed(rows) if "left_out" in row), 0)


def write_report(run: Path, made: Report) -> Path:
    """Put it into the run's folder."""
    path = run / REPORT
    write_atomic(path, made.markdown())
    return path


def _read(run: Path, name: str) -> Sequence[Heard]:
    path = run / HEARD / f"{name}.jsonl"
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def _errors(clip: Heard) -> Errors:
    return word_errors(clip["reference"], clip["hypothesis"], normalise=str)


def _wrong(clip: Heard) -> tuple[int, float]:
    errors = _errors(clip)
    return errors.total, errors.rate


def _share(clip: Heard) -> str:
    errors = _errors(clip)
    return f"{errors.total} of {errors.words}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
