"""`metrics.jsonl`: what a run took. A line for each batch that was done, and for each event.

Times, hosts and memory stand here and never in rows, so that rows are the same from run to run.
Nothing depends on this file: a line that a kill cut short is passed over.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from auricle.curation.running.store import whole_lines

METRICS = "metrics.jsonl"
_MB = 10**6


class MetricsLog:
    """Appends to a file, a whole line at a time; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line, which is handed to the system at once.

        Raises:
            OSError: The disk is full, say.
        """
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"
        if self._file is None:
            torn = _is_torn(self.path)
            self._file = self.path.open("ab", buffering=0)
            line = "\n" * torn + line
        self._file.write(line.encode("ascii"))

    def close(self) -> None:
        """Let go of the file; the next `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """All whole lines of a file, one after the other; none where there is no file."""
    return (record for record in whole_lines(path) if isinstance(record, dict))


def rss_mb() -> float | None:
    """Memory of this process that is in use now, in MB; where the system is silent, None.

    On macOS it is the most that there was so far.
    """
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / _MB, 1)
    if sys.platform == "win32":
        with suppress(ImportError):
            import psutil

            return round(psutil.Process().memory_info().rss / _MB, 1)
        return None
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB, 1)


def gpu_mb(device: str) -> float | None:
    """Memory in use on a CUDA device, by all processes on it, in MB; None on a CPU.

    All processes: CTranslate2 and ONNX take memory that PyTorch does not know of, and several
    models share a device.
    """
    if not device.startswith("cuda"):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return round((total - free) / _MB, 1)


def _is_torn(path: Path) -> bool:
    """Whether the last line was cut short."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
