from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.curation.killing import kill_test


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_ten_kills_change_no_byte(tmp_path: Path) -> None:
    """`make kill-test` does it a hundred times."""
    verdict = kill_test(tmp_path, kills=10, seed=7)
    assert sum(verdict.kills.values()) >= 10 and verdict.finished >= 1
    assert verdict.orphans == 0
    assert verdict.different == []
