"""Time and interruption while a stream is heard: real-time pace, falling behind, Ctrl-C.

All clocks are monotonic, so that setting the machine's clock changes nothing; waiting is sleeping.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

import numpy.typing as npt

from auricle.cli import Terminated

Block = npt.NDArray[Any]  # mono sound [S]: float32, or int16
SLOW = "auricle: the model is slower than real time here: the text falls behind the speaker"


def paced(blocks: Iterable[Block], rate: int) -> Iterator[Block]:
    """Hand each block out when a speaker would have spoken it to its end."""
    pace = Pace()
    samples = 0
    for block in blocks:
        samples += len(block)
        pace.wait(samples / rate)
        yield block


class Pace:
    """Real time, counted from the first `wait`; what is late is made up for."""

    def __init__(self) -> None:
        self._start: float | None = None

    def wait(self, seconds: float) -> None:
        """Sleep until so much sound has been spoken."""
        if self._start is None:
            self._start = time.monotonic()
        left = self._start + seconds - time.monotonic()
        if left > 0:
            time.sleep(left)


class Backlog:
    """How far a live speaker is ahead of the model: grows with the work, shrinks with the sound."""

    def __init__(self, allowed: float) -> None:
        """Be silent up to `allowed` seconds, and in the first ones: a start is slow."""
        self._allowed = allowed
        self._heard = self._behind = 0.0
        self._told = False

    def grows(self, sound: float, work: float) -> bool:
        """Add some seconds of both; True once, when the model is found slower than real time."""
        self._heard += sound
        if self._told or self._heard < self._allowed:
            return False
        self._behind = max(0.0, self._behind + work - sound)
        self._told = self._behind > self._allowed
        return self._told


class CtrlC:
    """Lets Ctrl-C and SIGTERM in only while sound is waited for: they cut no step in half.

    A second one is let in at once.
    """

    def __init__(self) -> None:
        self._pressed: KeyboardInterrupt | None = None
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # An ignored signal (nohup) stays ignored; threads have no signals.
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        for number, handler in usual.items():
            if signal.getsignal(number) is handler:
                with suppress(ValueError):
                    self._before[number] = signal.signal(number, self._press)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self, blocks: Iterator[Block]) -> Block | None:
        """The next block; None at the end.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM, now or since the last block.
        """
        if self._pressed:
            raise self._pressed
        self._waiting = True
        try:
            return next(blocks, None)
        finally:
            self._waiting = False

    def _press(self, number: int, frame: FrameType | None) -> None:
        stop = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if self._waiting or self._pressed:
            raise stop
        self._pressed = stop
