"""How much work a call is, counted: how long it takes says more about the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

PATIENCE = 600.0  # seconds that a test waits for another process: only one that hangs takes them


def lines_run(work: Callable[[], object]) -> int:
    """The lines of Python that `work` runs in this thread; a busy machine does not change it."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
