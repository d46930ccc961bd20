"""Fixtures that every room's tests may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before anything imports torch. One thread: pytest's workers share the cores, and threads that wait
# for a core that another process has slow all others down many times. And the arithmetic that the
# references were recorded with: MKL takes other code on Intel's newer processors than on AMD's, by
# which log-mel features move up to 4e-4 and Whisper puts a comma where it put a full stop.
for name, value in {"OMP_NUM_THREADS": "1", "MKL_CBWR": "COMPATIBLE", "CT2_USE_MKL": "0"}.items():
    os.environ.setdefault(name, value)

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A file of the shared folder ($AURICLE_SHARED, else ../shared); skips where it is absent."""
    folder = Path(os.environ.get("AURICLE_SHARED", ROOT.parent / "shared"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"needs the shared folder's {name}")
        return path

    return find
