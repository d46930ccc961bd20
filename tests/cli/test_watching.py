"""What a training shows: lines in a pipe, a bar on a terminal."""

from __future__ import annotations

import sys

import pytest

from auricle.cli.watching import Watch
from tests.cli.conftest import Clock, Terminal


def step(watch: Watch, number: int, **changes: object) -> None:
    values = {"lr": 1e-3, "seconds_of_audio": 20.0, "wer": None, "memory": None, **changes}
    watch.step(number, 2.0, **values)


def test_a_pipe_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Watch(quiet=False) as watch:
        watch.started(1000, None, 100)
        for number in range(101, 221):
            clock.now += 1.0
            step(watch, number, wer=0.125 if number > 150 else None, memory=3 << 30)
    lines = capsys.readouterr().err.splitlines()
    # 20 seconds of audio in one; 1 step a second.
    assert lines == [
        "step 101/1,000, loss 2.000, 20 h of audio/h, GPU 3.0 GiB, 14:59 left, "
        "learning rate 1.00e-03",
        "step 161/1,000, loss 2.000, WER 12.50 %, 20 h of audio/h, GPU 3.0 GiB, 13:59 left, "
        "learning rate 1.00e-03",
    ]


def test_time_left_by_whatever_ends_first(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    for steps, minutes, left in ((None, 61.0, "1:00:59"), (9, 61.0, "0:08"), (None, None, None)):
        with Watch(quiet=False) as watch:
            watch.started(steps, minutes, 0)
            clock.now += 1.0
            step(watch, 1)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("step 1/9, " if steps else "step 1, ")
        assert (f", {left} left," in line) if left else (" left" not in line)


def test_quiet_says_nothing_but_what_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    with Watch(quiet=True) as watch:
        watch.started(10, None, 0)
        step(watch, 1)
        watch.said("lost.wav")
        watch.validated(1, 0.5, 1.0, True)
        watch.say("auricle: error: it burns")
    assert capsys.readouterr().err == "auricle: error: it burns\n"


def test_a_terminal_has_a_bar_and_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Watch(quiet=False) as watch:
        watch.started(10, None, 0)
        step(watch, 4)
        watch._bar.refresh()
        watch.validating(3, 12)
        watch._bar.refresh()
        watch.validated(4, 0.5, 1.0, False)
        watch.finished("finished")
        watch.said("afterwards")
    shown = terminal.getvalue()
    assert "step 4/10, loss 2.000, " in shown and "step 4: validating, 3 of 12" in shown
    assert "step 4: validation WER 50.00 %, loss 1.000" in shown
    assert shown.endswith("afterwards\n")
