"""Batch sizes from measured memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from auricle.audio import Samples
from auricle.curation.steps import memory
from auricle.curation.steps.memory import CLIP_SECONDS, LADDER, extrapolated, measured_seconds
from auricle.errors import ConfigError

GB = 10**9


def test_what_fits_into_three_quarters() -> None:
    """0.1 GB a clip of 20 s, and 0.2 GB whatever the batch: (0.75 x 4 - 0.2) / 0.1 = 28 clips."""
    assert extrapolated(3 * GB // 10, 5 * GB // 10, 4 * GB) == 480.0  # of 560 s
    assert extrapolated(3 * GB // 10, 5 * GB // 10, 40 * GB) == LADDER[-1]
    assert extrapolated(3 * GB // 10, 5 * GB // 10, GB // 2) == 30.0  # of 35 s


def test_not_even_a_clip_fits() -> None:
    with pytest.raises(ConfigError, match=r"takes 0\.30 GB beside the model and 0\.20 GB are free"):
        extrapolated(3 * GB // 10, 5 * GB // 10, GB // 5)
    with pytest.raises(ConfigError, match=r"and 0\.00 GB are free"):
        extrapolated(3 * GB // 10, 5 * GB // 10, -GB)


def test_where_nothing_is_known() -> None:
    assert extrapolated(GB, 2 * GB, None) == memory.UNMEASURED
    assert extrapolated(GB, GB, 2 * GB) == memory.UNMEASURED  # larger batches seem to take no more
    with pytest.raises(ConfigError):
        extrapolated(GB, GB, GB)


def test_measured_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes 40 MB a clip, known beforehand; one second's memory is freed at once."""
    if memory._resident_peak(lambda: None, "cpu") is None:
        pytest.skip("this system does not tell how much a process took at its peak")
    rate, each = 16_000, 40_000_000
    sizes: list[int] = []

    def hear(clips: Sequence[Samples]) -> float:
        sizes.append(len(clips))
        taken = np.ones(each * len(clips), np.uint8)
        return float(taken[-1]) * len(clips[0])

    free = memory._resident("VmRSS")
    assert free is not None
    # 60 clips' worth after a quarter is left aside: between 960 s and 1920 s.
    room = int(60 * each / 0.75)
    monkeypatch.setitem(memory.MOST, "cpu", 1e9)
    monkeypatch.setattr(memory, "_free_ram", lambda: room)
    assert measured_seconds(hear, rate, "cpu", None) == 960.0
    assert sizes == [1, *memory.CLIPS]
    with pytest.raises(ConfigError, match="GB are free"):
        measured_seconds(hear, rate, "cpu", free)
    assert CLIP_SECONDS * 48 == 960.0


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_resident_peak", lambda run, device: None)
    assert measured_seconds(len, 16_000, "cpu", None) == memory.UNMEASURED
