"""Fixtures that every room's tests may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before anything imports torch: pytest's workers share the cores, and threads that wait for a core
# that another process has slow all others down many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
