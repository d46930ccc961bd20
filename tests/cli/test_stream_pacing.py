"""Real time by a monotonic clock, falling behind, and Ctrl-C between blocks."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest

from auricle.cli.pacing import Backlog, CtrlC, paced


class Clock:
    """Time that passes only while somebody sleeps, or works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        monkeypatch.setattr("auricle.cli.pacing.time.monotonic", lambda: self.now)
        monkeypatch.setattr("auricle.cli.pacing.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def blocks(count: int, size: int = 1600) -> list[np.ndarray]:
    return [np.zeros(size, np.float32)] * count


def test_a_block_comes_when_it_has_been_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    heard = [clock.now for _ in paced(blocks(5), 16000)]
    np.testing.assert_allclose(heard, 1000 + 0.1 * np.arange(1, 6))
    assert len(clock.slept) == 5


def test_a_pause_of_the_reader_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    heard = []
    for number, _ in enumerate(paced(blocks(10), 16000)):
        heard.append(round(clock.now - 1000, 3))
        if number == 2:
            clock.now += 0.35
    assert heard == [0.1, 0.2, 0.3, 0.65, 0.65, 0.65, 0.7, 0.8, 0.9, 1.0]
    assert len(clock.slept) == 7


def test_blocks_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    lengths = [1, 159, 8000, 3]
    assert [len(block) for block in paced([np.zeros(n) for n in lengths], 16000)] == lengths
    assert clock.now == pytest.approx(1000 + sum(lengths) / 16000)


def test_work_at_real_time_is_not_slow() -> None:
    """A chunk's work comes all at once, and a start may be slow."""
    backlog = Backlog(1.12 + 1.0)
    for _ in range(1000):
        assert not any(backlog.grows(0.02, 0.0) for _ in range(55))
        assert not backlog.grows(0.02, 1.1)
    backlog = Backlog(2.0)
    assert not backlog.grows(1.0, 30.0)
    assert not any(backlog.grows(0.02, 0.019) for _ in range(10_000))


def test_slower_work_is_found_once() -> None:
    backlog = Backlog(2.0)
    assert sum(backlog.grows(0.02, 0.021) for _ in range(10_000)) == 1


def test_ctrl_c_outside_the_main_thread_changes_nothing() -> None:
    errors = []

    def hear() -> None:
        try:
            with CtrlC() as ctrl_c:
                assert ctrl_c.take(iter([1])) == 1  # type: ignore[arg-type]
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=hear)
    thread.start()
    thread.join()
    assert errors == []


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlC():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
