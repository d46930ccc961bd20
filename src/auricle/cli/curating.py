"""A curation as people see it on stderr: live on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from auricle.cli.reporting import clock, say_above
from auricle.curation.progress import Counts, Plan
from auricle.curation.wording import span

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_EVERY = 60.0  # seconds between plain lines
_REASONS = 4  # of what was dropped, that are named
_STEPS = 8  # that are shown
READ = "read"  # the stage that reads; it is done before the others begin


class Curating:
    """Hears of a run (`curation.progress.Watcher`) and shows it; a context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._on_terminal = sys.stderr.isatty() and not quiet
        self._live: Live | None = None
        self._counts = Counts()
        self._steps: dict[str, _Work] = {}
        self._stages: dict[str, _Stage] = {}
        self._busy = 0.0
        self._began = time.monotonic()
        self._told = -_EVERY  # the first batch is told at once

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def started(self, plan: Plan, shards: int) -> None:
        """Begin to count, and to show."""
        self._began = time.monotonic()
        self.said(f"auricle: curating {plan.name}: {_count(shards, 'shard')}")
        if self._on_terminal:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._shown,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def batch(self, record: Mapping[str, Any], counts: Counts) -> None:
        """Count a batch, and show it if it is time."""
        self._counts = counts
        seconds = float(record.get("seconds") or 0.0)
        self._busy += seconds
        name = str(record.get("stage", ""))
        done = counts.shards.get(name, (0, 0))[0]
        stage = self._stages.setdefault(name, _Stage(first=done))
        stage.seconds += seconds
        for label, took in record.get("steps", {}).items():
            self._steps.setdefault(label, _Work()).add(took)
        now = time.monotonic()
        if self._live is None and not self._quiet and now - self._told >= _EVERY:
            self._told = now
            self.said(f"auricle: {', '.join(self._parts())}")

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Take the display away; what came out is the command's to say."""
        self._stop()

    def said(self, line: str) -> None:
        """A line, above what is live."""
        if not self._quiet:
            self.say(line)

    def say(self, line: str) -> None:
        """A line on stderr whether or not the rest is quiet."""
        say_above(self._live, line)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _shown(self) -> RenderableType:
        """A bar with the state of the whole, and a line for each step."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        steps = Table.grid(padding=(0, 2))
        for label, work in list(self._steps.items())[-_STEPS:]:
            cells = (label, _count(work.items, "item"), span(work.audio), work.speed)
            steps.add_row(*(Text(cell) for cell in cells))
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1.0, completed=self.share, width=24),
            Text(", ".join(self._parts(live=True))),
        )
        return Group(head, steps)

    def _parts(self, *, live: bool = False) -> Iterator[str]:
        """The state of the whole."""
        yield f"{100 * self.share:.0f} %"
        most = max(self._steps.values(), key=lambda work: work.items, default=_Work())
        yield _count(most.items, "item")
        yield f"{span(max((w.audio for w in self._steps.values()), default=0.0))} of audio"
        if not live:
            yield from (f"{name} {w.speed}" for name, w in self._steps.items() if w.speed)
        for fate in ("filtered", "quarantined"):
            reasons: Mapping[str, int] = getattr(self._counts, fate)
            if reasons:
                yield f"{fate} {sum(reasons.values()):,} ({_most(reasons)})"
        if (left := self.left) is not None:
            yield f"{clock(left)} left"

    @property
    def share(self) -> float:
        """How much of the work is done, stages weighed by what a shard of each takes."""
        done, left = self._work()
        return done / (done + left) if done + left else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to the end at the speed so far; None while nothing tells."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        if not self._known():
            return None
        # Workers are busy side by side: so many seconds of work are done in each second.
        return self._work()[1] / (self._busy / elapsed)

    def _known(self) -> dict[str, float]:
        """Seconds of work in a shard of each stage of which one was done in this run."""
        shards = self._counts.shards
        return {
            name: stage.seconds / (shards[name][0] - stage.first)
            for name, stage in self._stages.items()
            if stage.seconds and name in shards and shards[name][0] > stage.first
        }

    def _work(self) -> tuple[float, float]:
        """Seconds of work that are done and left, as far as can be told.

        Of a stage that has not begun, a shard is taken to cost as much as those of the others do on
        average.
        """
        shards = {name: n for name, n in self._counts.shards.items() if name != READ}
        known = self._known()
        usual = sum(known.values()) / len(known) if known else 1.0
        done = sum(known.get(name, usual) * n for name, (n, _) in shards.items())
        left = sum(known.get(name, usual) * (total - n) for name, (n, total) in shards.items())
        return done, left


class _Stage:
    """Seconds that a stage took in this run, and how many shards of it were done before."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.seconds = 0.0


class _Work:
    """What a step did in this run."""

    def __init__(self) -> None:
        self.items = 0
        self.audio = self.seconds = 0.0

    def add(self, took: Mapping[str, Any]) -> None:
        """Count a batch."""
        self.items += int(took.get("items") or 0)
        self.audio += float(took.get("audio_seconds") or 0.0)
        self.seconds += float(took.get("seconds") or 0.0)

    @property
    def speed(self) -> str:
        """Seconds of audio a second, of one worker; nothing for steps that take no time."""
        if self.seconds < 0.01 or not self.audio:
            return ""
        return f"RTFx {self.audio / self.seconds:,.0f}"


def told(summary: Mapping[str, Any]) -> list[str]:
    """What came out, in lines."""
    seconds = summary.get("seconds", {})
    read = f"{summary['read']:,} items read"
    if seconds.get("read"):  # rows do not always say how long they are
        read += f" ({span(seconds['read'])})"
    if summary.get("made"):
        read += f", {summary['cut']:,} of them cut into {summary['made']:,}"
    fates = [
        f"{summary[fate]:,} {fate} ({span(seconds.get(fate, 0.0))})"
        for fate in ("kept", "filtered", "quarantined")
    ]
    lines = [f"{read}: {', '.join(fates)}"]
    for fate in ("filtered", "quarantined"):
        lines += [
            f"  {step['step']} {fate}: {_most(step[fate])}"
            for step in summary.get("steps", ())
            if step.get(fate)
        ]
    return lines


def _most(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons with their counts."""
    most = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    named = [f"{reason} {items:,}" for reason, items in most[:_REASONS]]
    others = sum(items for _, items in most[_REASONS:])
    return ", ".join([*named, f"others {others:,}"] if others else named)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
