"""A small process that stays until the driver has ended, however it did, and clears up behind it.

    python sweep.py FOLDER

Once a line comes in, all processes that the driver has started by then are noted. When the input
ends, which it does when the driver is killed, too, those that are left are ended, and the folder is
removed. It needs the standard library alone, so that it is light. Processes are found on Linux.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Processes that a process has started, and that those have: when each began."""
    began: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            child, fields = int(status.parent.name), status.read_text().rpartition(")")[2].split()
            began[child] = fields[19]
            children.setdefault(int(fields[1]), []).append(child)
    found: dict[int, str] = {}
    seen = [pid]
    while seen:
        more = children.get(seen.pop(), [])
        found.update((child, began[child]) for child in more)
        seen += more
    return found


def end(processes: dict[int, str]) -> None:
    """End those that are still the same."""
    for pid, began in processes.items():
        with suppress(OSError):
            status = Path(f"/proc/{pid}/stat").read_text()
            if status.rpartition(")")[2].split()[19] == began:
                os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Wait for the driver's end, then clear up."""
    folder, driver = sys.argv[1], os.getppid()
    noted: dict[int, str] = {}
    if sys.stdin.readline():
        noted = descendants(driver)
        noted.pop(os.getpid(), None)
    sys.stdin.read()
    end(noted)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
