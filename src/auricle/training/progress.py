"""What a training tells whoever watches it; how that looks is the watcher's business."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Hears of a training as it goes. Steps are the optimiser's, and WERs are fractions."""

    def started(
        self, total_steps: int | None, total_minutes: float | None, start_step: int
    ) -> None:
        """The first step is about to be made; what ends the training, as far as it is known."""

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
        """A step is made.

        Args:
            step: Its number, from 1.
            loss: Of this step.
            lr: What it was made with.
            seconds_of_audio: Heard by all ranks in this step.
            wer: Of the last validation.
            memory: The most bytes of a GPU in use so far; None on a CPU.
        """

    def validating(self, done: int, total: int | None) -> None:
        """So many utterances of the held-out speech are decoded."""

    def validated(self, step: int, wer: float, loss: float, best: bool) -> None:
        """A validation is over; whether its WER is the best so far."""

    def saved(self, step: int, path: Path) -> None:
        """A checkpoint lies at `path`, whole."""

    def said(self, line: str) -> None:
        """Something that the user should know."""

    def finished(self, summary: str) -> None:
        """The training is over, and why."""


class Silent:
    """Tells nobody: for programs, and for every rank but the first."""

    def started(
        self, total_steps: int | None, total_minutes: float | None, start_step: int
    ) -> None:
        """Nothing."""

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
        """Nothing."""

    def validating(self, done: int, total: int | None) -> None:
        """Nothing."""

    def validated(self, step: int, wer: float, loss: float, best: bool) -> None:
        """Nothing."""

    def saved(self, step: int, path: Path) -> None:
        """Nothing."""

    def said(self, line: str) -> None:
        """Nothing."""

    def finished(self, summary: str) -> None:
        """Nothing."""
