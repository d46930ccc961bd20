"""What the user sees on stderr while a command works: a progress bar, warnings, a summary.

On a terminal a bar with files, audio and speed; in a pipe only warnings and errors.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from auricle.cli import worded

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress


class Speaks(Protocol):
    """Whatever shows lines on stderr."""

    def say(self, line: str) -> None:
        """A line, beside what else is shown."""


class Report:
    """Counts recordings and audio seconds; a context manager that shows a bar on a terminal."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.audio = 0.0
        self._shown = sys.stderr.isatty() and not quiet
        self._progress: Progress | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        if self._shown:
            self._progress = _progress_bar()
            self._task = self._progress.add_task("", total=self.total, state="")
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            if kind is None or not issubclass(kind, KeyboardInterrupt):  # which says it itself
                self.say(self.summary)

    @property
    def summary(self) -> str:
        """Files, audio, time and speed so far."""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.done} of {self.total} done{failed}: {self.audio:.1f} s of audio in "
            f"{self._elapsed:.1f} s ({self._speed})"
        )

    def succeed(self, seconds: float) -> None:
        """One recording of so many seconds is done."""
        self.done += 1
        self.audio += seconds
        self._advance()

    def fail(self, message: str) -> None:
        """One recording could not be transcribed."""
        self.failed += 1
        self.say(f"auricle: error: {worded(message)}")
        self._advance()

    def say(self, line: str) -> None:
        """A line on stderr, above the bar."""
        with self.aside():
            print(line, file=sys.stderr)  # noqa: T201

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while something else is written."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        yield
        self._progress.start()

    @property
    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._started, 1e-9)

    @property
    def _speed(self) -> str:
        return f"RTFx {self.audio / self._elapsed:.1f}"

    def _advance(self) -> None:
        if self._progress is not None:
            self._progress.update(
                self._task,
                completed=self.done + self.failed,
                state=f"{self.audio:.0f} s audio, {self._speed}",
            )


@contextmanager
def warnings_to(report: Speaks, *, quiet: bool) -> Iterator[None]:
    """Show Auricle's own warnings as lines of `report`."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            prefix = "" if message.startswith("auricle:") else "auricle: "
            report.say(f"{prefix}{message}")

    log = logging.getLogger("auricle")
    handler = Handler(logging.ERROR if quiet else logging.WARNING)
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


def say_above(shown: Live | Progress | None, line: str) -> None:
    """A line on stderr, above what is live there."""
    if shown is not None:
        shown.console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def clock(seconds: float) -> str:
    """0:42, 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    # The transcripts own stdout: rich must not catch what is written there.
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
