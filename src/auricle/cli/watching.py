"""A training as people see it on stderr: a live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from auricle.cli.reporting import clock, say_above

if TYPE_CHECKING:
    from rich.progress import Progress

_EVERY = 60.0  # seconds between plain lines
_SMOOTHED = 50  # steps that the shown loss is a mean of


class Watch:
    """Hears of a training (`training.progress.Progress`) and shows it; a context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._bar: Progress | None = None
        self._total: int | None = None
        self._minutes: float | None = None
        self._first = self._step = 0
        self._loss = self._weight = 0.0
        self._wer: float | None = None
        self._memory: int | None = None
        self._heard = 0.0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def started(
        self, total_steps: int | None, total_minutes: float | None, start_step: int
    ) -> None:
        """Begin to count, and show the bar."""
        self._total, self._minutes = total_steps, total_minutes
        self._first = self._step = start_step
        self._began = time.monotonic()
        self._told = -_EVERY  # the first step is told at once
        if self._live:
            self._bar = _bar()
            self._task = self._bar.add_task("", total=1.0, state="the first step")
            self._bar.start()

    def step(
        self,
        step: int,
        loss: float,
        *,
        lr: float,
        seconds_of_audio: float,
        wer: float | None,
        memory: int | None,
    ) -> None:
        """Count a step, and show it if it is time."""
        keep = 1 - 1 / _SMOOTHED
        self._loss, self._weight = keep * self._loss + loss, keep * self._weight + 1
        self._step, self._wer, self._memory = step, wer, memory
        self._heard += seconds_of_audio
        if self._bar is not None:
            self._bar.update(self._task, completed=self._share, state=self._state)
        elif not self._quiet and time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            self.said(f"{self._state}, learning rate {lr:.2e}")

    def validating(self, done: int, total: int | None) -> None:
        """Show how far a validation is, on a terminal."""
        if self._bar is not None:
            of = f" of {total:,}" if total else ""
            self._bar.update(self._task, state=f"step {self._step:,}: validating, {done:,}{of}")

    def validated(self, step: int, wer: float, loss: float, best: bool) -> None:
        """Show a validation's figures on a line of their own."""
        self._wer = wer
        self.said(
            f"step {step:,}: validation WER {_percent(wer)}, loss {loss:.3f}"
            f"{', the best so far' if best else ''}"
        )

    def saved(self, step: int, path: Path) -> None:
        """Nothing: saves are many, and the folder shows them."""

    def said(self, line: str) -> None:
        """A line, above the bar."""
        if not self._quiet:
            self.say(line)

    def finished(self, summary: str) -> None:
        """Take the bar away; what came out is the command's to say."""
        self._stop()

    def say(self, line: str) -> None:
        """A line on stderr whether or not the rest is quiet."""
        say_above(self._bar, line)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def _elapsed(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    @property
    def _share(self) -> float:
        """How much of the training is done, by whatever ends it first."""
        steps = self._step / self._total if self._total else 0.0
        minutes = self._elapsed / (60 * self._minutes) if self._minutes else 0.0
        return min(max(steps, minutes), 1.0)

    @property
    def _left(self) -> float | None:
        """Seconds to the end at the speed so far; None where nothing tells."""
        left = []
        if self._total and self._step > self._first:
            pace = self._elapsed / (self._step - self._first)
            left.append(pace * max(self._total - self._step, 0))
        if self._minutes:
            left.append(max(60 * self._minutes - self._elapsed, 0.0))
        return min(left, default=None)

    @property
    def _state(self) -> str:
        of = f"/{self._total:,}" if self._total else ""
        parts = [f"step {self._step:,}{of}", f"loss {self._loss / self._weight:.3f}"]
        if self._wer is not None:
            parts.append(f"WER {_percent(self._wer)}")
        parts.append(f"{self._heard / self._elapsed:.0f} h of audio/h")
        if self._memory is not None:
            parts.append(f"GPU {self._memory / 2**30:.1f} GiB")
        if self._left is not None:
            parts.append(f"{clock(self._left)} left")
        return ", ".join(parts)


def _percent(wer: float) -> str:
    return f"{100 * wer:.2f} %"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[state]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
