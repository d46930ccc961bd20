"""The latency report: what a fake clock says of scripted events."""

from __future__ import annotations

import json

import pytest

from auricle.streaming.events import Final, Partial
from auricle.streaming.latency import LatencyMeter, LatencyReport, Spread, combine
from auricle.types import Segment, Word


class Clock:
    """Stands still until it is told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _final(*words: tuple[str, float]) -> Final:
    """An utterance of words and their ends."""
    own = tuple(Word(text, end - 0.1, end) for text, end in words)
    return Final(Segment(" ".join(w.text for w in own), own[0].start, own[-1].end, own))


def _rows(report: LatencyReport) -> list[tuple[str, float, float, float, float]]:
    return [
        (w.text, *(round(v, 6) for v in (w.shown, w.final, w.shown_audio, w.final_audio)))
        for w in report.words
    ]


def test_words_wait_from_the_push_that_held_their_end() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    for step in range(1, 6):  # half a second of audio every half second
        clock.now += 0.5
        meter.pushed(step / 2)
    clock.now += 0.1
    meter.event(Partial("one", ""), 2.5)
    clock.now += 0.4
    meter.pushed(3.0)
    clock.now += 0.05
    meter.event(Partial("one two", "one"), 3.0)
    clock.now += 0.45
    meter.pushed(3.5)
    meter.event(_final(("one", 1.9), ("two", 2.5), ("three.", 2.6)), 3.5)
    # "one" was whole at 2.0 s on the clock, "two" at 2.5, "three." at 3.0; all final at 3.5.
    assert _rows(meter.report()) == [
        ("one", 600, 1500, 600, 1600),
        ("two", 550, 1000, 500, 1000),
        ("three.", 500, 500, 900, 900),
    ]


def test_a_word_seen_before_its_end_was_pushed_waited_for_nothing() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    meter.event(Partial("incompre", ""), 1.0)
    clock.now += 1
    meter.pushed(2.0)
    clock.now += 0.25
    meter.event(Partial("incomprehensible", ""), 1.0)
    clock.now += 0.25
    meter.event(_final(("incomprehensible", 2.5)), 2.0)
    assert _rows(meter.report()) == [("incomprehensible", 0, 0, 0, 0)]


def test_a_word_appears_when_it_is_whole() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    for text in ("hel", "hell", "hello", "hello, wor"):
        clock.now += 1
        meter.event(Partial(text, ""), 1.0)
    meter.event(_final(("hello,", 1.0), ("world", 1.0)), 1.0)
    assert [w.shown for w in meter.report().words] == pytest.approx([3000, 4000])


def test_words_that_were_taken_back_appear_again() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    for text in ("a b c", "a b", "a b d"):
        clock.now += 1
        meter.event(Partial(text, ""), 1.0)
    meter.event(_final(("a", 0.5), ("b", 0.7), ("d", 0.9)), 1.0)
    assert [w.shown for w in meter.report().words] == pytest.approx([1000, 1000, 3000])


def test_the_unfinished_word_of_a_cut_keeps_its_time() -> None:
    """An utterance that was cut by force leaves its last word to the next one."""
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    clock.now += 1
    meter.event(Partial("one tw", "one"), 1.0)
    clock.now += 1
    meter.event(_final(("one", 0.5)), 1.0)
    meter.event(Partial("two", ""), 1.0)
    clock.now += 2
    meter.pushed(2.0)
    meter.event(_final(("two", 1.0)), 2.0)
    assert [(w.shown, w.final) for w in meter.report().words] == [(1000, 2000), (2000, 4000)]


def test_words_that_no_partial_confirms_are_forgotten() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    meter.event(Partial("one noise", ""), 1.0)
    meter.event(_final(("one", 0.5)), 1.0)  # and "noise" was not heard again
    clock.now += 10
    meter.pushed(11.0)
    clock.now += 1
    meter.event(Partial("two", ""), 11.0)
    meter.event(_final(("two", 10.9)), 11.0)
    assert [w.shown for w in meter.report().words] == [0, 1000]


def test_scripts_without_spaces_count_characters() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    for text in ("你", "你好", "你好, ok你"):
        clock.now += 1
        meter.event(Partial(text, ""), 1.0)
    meter.event(_final(("你好,", 0.2), ("ok", 0.4), ("你", 0.6)), 1.0)
    assert [w.shown for w in meter.report().words] == pytest.approx([2000, 3000, 3000])
    meter.event(_final(("你", 0.2), ("好", 0.4)), 1.0)
    assert [w.shown for w in meter.report().words[3:]] == pytest.approx([3000, 3000])


@pytest.mark.parametrize("jump", [-3600.0, -0.5])
def test_a_clock_that_jumps_back_gives_no_negative_latency(jump: float) -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    clock.now += 0.25
    meter.event(Partial("one", ""), 1.0)
    clock.now += jump
    meter.event(Partial("one two", ""), 1.0)
    clock.now += 0.25
    meter.event(_final(("one", 0.5), ("two", 1.0)), 1.0)
    assert [(w.shown, w.final) for w in meter.report().words] == [(250, 500), (250, 500)]


def test_a_stall_counts() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    meter.pushed(1.0)
    clock.now += 300
    meter.event(_final(("one", 0.5)), 1.0)
    assert meter.report().shown == Spread(300_000, 300_000)


def test_the_rounding_of_times_does_not_move_a_word_to_the_next_push() -> None:
    clock = Clock()
    meter = LatencyMeter(clock)
    for chunk in range(1, 38):
        clock.now += 1
        meter.pushed(chunk * 1280 / 16000)
    end = 35 * 0.08
    assert end > 35 * 1280 / 16000
    meter.event(_final(("one", end)), 37 * 1280 / 16000)
    assert meter.report().words[0].final == pytest.approx(2000)


def test_tiny_and_empty_pushes() -> None:
    """Pushes of one sample are remembered to 20 ms, the last one exactly; empty ones not at all."""
    clock = Clock()
    meter = LatencyMeter(clock)
    for sample in range(1, 16001):
        clock.now += 1 / 16000
        meter.pushed(sample / 16000)
    clock.now += 5
    meter.pushed(1.0)
    meter.event(_final(("one", 0.5), ("two", 1.0)), 1.0)
    one, two = meter.report().words
    assert two.final == pytest.approx(5000)
    assert 5500 - 20 <= one.final <= 5500 + 1e-6


def test_memory_is_constant() -> None:
    clock = Clock()
    meter = LatencyMeter(clock, words=100)
    silent = LatencyMeter(clock)
    sizes = []
    for push in range(1, 20_001):
        clock.now += 0.08
        meter.pushed(push * 0.08)
        silent.pushed(push * 0.08)
        if push % 5 == 0:
            meter.event(Partial("one two", ""), push * 0.08)
        if push % 10 == 0:
            meter.event(_final(("one", push * 0.08 - 0.1), ("two", push * 0.08)), push * 0.08)
        sizes.append(max(len(v) for v in vars(meter).values() if hasattr(v, "__len__")))
    assert max(sizes[10_000:]) <= max(sizes[:10_000]) <= 100
    assert max(len(v) for v in vars(silent).values() if hasattr(v, "__len__")) <= 4096
    assert len(meter.report().words) == 100
    clock.now += 1
    end = 19_990 * 0.08
    silent.event(_final(("late", end)), 20_000 * 0.08)
    assert silent.report().words[0].final == pytest.approx(1000 + 800)


def test_an_endless_partial_does_not_grow_the_meter() -> None:
    meter = LatencyMeter(Clock())
    meter.event(Partial("a " * 50_000, ""), 1.0)
    assert max(len(v) for v in vars(meter).values() if hasattr(v, "__len__")) <= 10_000


def test_spread() -> None:
    assert Spread.of([]) is None
    assert Spread.of([7.0]) == Spread(7.0, 7.0)
    assert Spread.of([float(n) for n in range(100, 0, -1)]) == Spread(50.5, 95.0)
    assert Spread.of([0.0] * 19 + [9.0]) == Spread(0.0, 0.0)


def test_reports_are_combined_and_written() -> None:
    reports = []
    for wait in (0.1, 0.3):
        clock = Clock()
        meter = LatencyMeter(clock)
        meter.pushed(1.0)
        clock.now += wait
        meter.event(_final(("one", 1.0)), 1.0)
        reports.append(meter.report())
    report = combine(reports)
    assert report.final is not None
    assert (report.final.median, report.final.p95) == pytest.approx((200, 300))
    assert report.final_audio == Spread(0, 0)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["shown"]["median"] == pytest.approx(200)
    assert [word["text"] for word in data["words"]] == ["one", "one"]
    lines = report.render().splitlines()
    assert lines[0].split() == ["latency", "of", "2", "words", "median", "p95"]
    assert lines[2].split() == ["final", "200", "ms", "300", "ms"]
    assert len(lines) == 5 and len({len(line) for line in lines}) == 1


def test_a_report_without_words() -> None:
    report = LatencyMeter(Clock()).report()
    assert report.words == () and report.shown is None and report.final_audio is None
    assert report.to_dict() == {"words": []}
    assert report.render() == "latency: no words"
    assert combine([report, report]) == report
