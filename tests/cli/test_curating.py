"""What a curation shows: lines in a pipe, steps and a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from auricle.cli.curating import Curating, told
from auricle.curation.progress import Counts
from tests.cli.conftest import Clock, Terminal

PLAN = SimpleNamespace(name="clean", stages=())
SHARDS = {"read": (4, 4), "probe-1": (4, 4), "transcribe-2": (1, 4)}


def batch(
    watch: Curating, stage: str, step: str, seconds: float, counts: Mapping[str, Any]
) -> None:
    work = {"items": 16, "audio_seconds": 90.0, "seconds": seconds, "model": None}
    record = {"stage": stage, "seconds": seconds, "steps": {step: work}}
    watch.batch(record, Counts(**counts))


def test_a_pipe_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Curating(quiet=False) as watch:
        watch.started(PLAN, 4)
        for _ in range(70):
            clock.now += 1.0
            batch(watch, "probe-1", "1-probe", 0.5, {"shards": {"probe-1": (1, 4)}})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "auricle: curating clean: 4 shards"
    assert lines[1].startswith("auricle: 25 %, 16 items, 90 s of audio, 1-probe RTFx 180")
    assert lines[2].startswith("auricle: 25 %, 976 items, 92 min of audio, 1-probe RTFx 180")
    assert len(lines) == 3


def test_drops_are_counted_by_reason(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    filtered = {"duration > 40": 1200, "wer > 0.5": 30}
    with Curating(quiet=False) as watch:
        watch.started(PLAN, 1)
        counts = {"shards": SHARDS, "filtered": filtered, "quarantined": {"damaged": 2}}
        batch(watch, "probe-1", "1-probe", 1.0, counts)
    line = capsys.readouterr().err.splitlines()[1]
    assert "filtered 1,230 (duration > 40 1,200, wer > 0.5 30)" in line
    assert "quarantined 2 (damaged 2)" in line


def test_time_left_weighs_stages_by_what_their_shards_take(clock: Clock) -> None:
    """Probing took 1 s a shard, hearing takes 10; two workers are busy."""
    watch = Curating(quiet=True)
    watch.started(PLAN, 4)
    for done in range(5):
        counts = {"shards": {"probe-1": (done, 4), "transcribe-2": (0, 4)}}
        batch(watch, "probe-1", "1-probe", 1.0 if done else 0.0, counts)
    for done in range(3):
        counts = {"shards": {"probe-1": (4, 4), "transcribe-2": (done, 4)}}
        batch(watch, "transcribe-2", "2-transcribe", 10.0 if done else 0.0, counts)
    clock.now += 12.0  # 24 seconds of work were done in them
    assert watch.share == pytest.approx(24 / 44)
    assert watch.left == pytest.approx(20 / 2)


def test_what_earlier_runs_did_is_not_taken_for_speed(clock: Clock) -> None:
    watch = Curating(quiet=True)
    watch.started(PLAN, 100)
    batch(watch, "probe-1", "1-probe", 0.0, {"shards": {"probe-1": (90, 100)}})
    clock.now += 5.0
    batch(watch, "probe-1", "1-probe", 5.0, {"shards": {"probe-1": (91, 100)}})
    assert watch.left == pytest.approx(9 * 5)


def test_nothing_is_said_of_the_end_before_anything_is_done() -> None:
    watch = Curating(quiet=True)
    assert (watch.share, watch.left) == (0.0, None)
    watch.started(PLAN, 1)
    batch(watch, "probe-1", "1-probe", 1.0, {"shards": {"read": (1, 1), "probe-1": (0, 1)}})
    assert (watch.share, watch.left) == (0.0, None)


def test_quiet_says_nothing_but_what_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    with Curating(quiet=True) as watch:
        watch.started(PLAN, 1)
        batch(watch, "probe-1", "1-probe", 1.0, {"shards": SHARDS})
        watch.said("a worker died")
        watch.say("auricle: error: it burns")
        watch.finished({})
    assert capsys.readouterr().err == "auricle: error: it burns\n"


def test_a_terminal_has_a_bar_steps_and_lines_above_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with Curating(quiet=False) as watch:
        watch.started(PLAN, 4)
        counts = {"shards": SHARDS, "quarantined": {"[bold]dead[/bold]": 1}}
        batch(watch, "transcribe-2", "2-transcribe", 1.5, counts)
        assert watch._live is not None
        watch._live.refresh()
        watch.said("a worker died [SIGKILL]")
        shown = terminal.getvalue()
        assert "2-transcribe" in shown
        assert "16 items" in shown
        assert "RTFx 60" in shown
        assert "[bold]dead[/bold] 1" in shown
        assert "a worker died [SIGKILL]" in shown
        watch.finished({})
        assert watch._live is None


def test_the_end_is_told_with_every_reason() -> None:
    summary = {
        "read": 1000,
        "made": 20,
        "cut": 10,
        "kept": 900,
        "filtered": 108,
        "quarantined": 2,
        "seconds": {"read": 7200, "kept": 3600, "filtered": 3500, "quarantined": 7},
        "steps": [
            {"step": "1-probe", "filtered": {}, "quarantined": {"damaged": 2}},
            {"step": "2-filter", "filtered": {f"r{i}": i for i in range(1, 7)}, "quarantined": {}},
        ],
    }
    assert told(summary) == [
        "1,000 items read (2.0 h), 10 of them cut into 20: 900 kept (60 min), 108 filtered "
        "(58 min), 2 quarantined (7 s)",
        "  2-filter filtered: r6 6, r5 5, r4 4, r3 3, others 3",
        "  1-probe quarantined: damaged 2",
    ]
