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
from auricle.training.run import HEARD
from auricle.training.validating import Heard

REPORT = "report.md"
WORST = 10


@dataclass(frozen=True)
class Scores:
    """Errors of all clips together; texts are compared as the recipe writes them."""

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

    def summary(self) -> str:
        """In a line."""
        wer, cer = self.after.words.rate, self.after.characters.rate
        if self.before is None:
            return f"WER {_percent(wer)}, CER {_percent(cer)} on {self.clips} held-out clips"
        was = self.before.words.rate, self.before.characters.rate
        return (
            f"WER {_percent(was[0])} before, {_percent(wer)} after; CER {_percent(was[1])} before, "
            f"{_percent(cer)} after, on the same {self.clips} held-out clips"
            f"{': no better' * (wer >= was[0])}"
        )

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
            f"{self.clips} held-out clips, decoded greedily; texts are compared as they stand.",
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
    )


def write_report(run: Path, made: Report) -> Path:
    """Put it into the run's folder."""
    path = run / REPORT
    write_atomic(path, made.markdown())
    return path


def _read(run: Path, name: str) -> Sequence[Heard]:
    path = run / HEARD / f"{name}.jsonl"
    if not path.exists():
        return ()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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
