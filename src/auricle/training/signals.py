"""Wishes to stop, heard where it suits the work instead of in the middle of it."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

_ONE_WISH = 3.0  # seconds in which a launcher may repeat the signal that a terminal has sent


@contextmanager
def caught(numbers: Collection[int]) -> Iterator[list[int]]:
    """Collect these signals in a list; one that comes again later does what it usually does.

    Outside the main thread, which alone may say what signals do, the list stays empty.
    """
    sent: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield sent
        return
    before = {number: signal.getsignal(number) for number in numbers}
    first = math.inf

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number: int, frame: FrameType | None) -> None:
        nonlocal first
        first = min(first, time.monotonic())
        sent.append(number)
        if time.monotonic() - first > _ONE_WISH:
            give_back()
            signal.raise_signal(number)

    for number in numbers:
        signal.signal(number, catch)
    try:
        yield sent
    finally:
        give_back()
