"""Many speakers: the same words alone and in a crowd, and nobody waits for a silent one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from auricle import ConfigError, Endpointing, Final, Recognizer, StreamState
from auricle.streaming.events import Event
from auricle.streaming.pool import Streams
from auricle.streaming.stepping import Decoded
from auricle.streaming.stream import Stream
from auricle.types import Transcript
from tests.patience import PATIENCE
from tests.streaming.test_stream import STREAMING, assert_same, clip, golden

ENDING = Endpointing(silence_ms=160)


def voices(seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Recordings of different lengths."""
    generator = np.random.default_rng(seed)
    talk = np.concatenate([clip("talk"), clip("phrase")])
    cuts = sorted(generator.integers(0, len(talk) - 20000, 6))
    return [talk[at : at + int(generator.integers(3000, 60000))] for at in cuts]


def alone(asr: Recognizer, voice: Any, **options: Any) -> tuple[list[Final], Transcript]:
    stream = asr.stream(endpointing=ENDING, **options)
    events = stream.push(voice) + stream.flush()
    return finals(events), stream.finish()


def finals(events: Iterable[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def texts(events: list[Final]) -> list[str]:
    return [event.segment.text for event in events]


def latencies(asr: Recognizer) -> list[float]:
    return [known.latency_ms for known in asr.lookaheads] or [1280, 2560]


@pytest.mark.parametrize(
    ("name", "head"), [*STREAMING, ("parakeet_tdt", "tdt"), ("citrinet", "ctc")]
)
def test_joining_and_leaving_at_any_time(name: str, head: str) -> None:
    asr = golden(name, head)
    generator = np.random.default_rng(1)
    options = [{"latency_ms": float(generator.choice(latencies(asr)))} for _ in voices()]
    waiting = list(zip(voices(), options, range(len(options)), strict=True))
    speaking: list[tuple[Stream, Any, int]] = []
    heard: dict[int, list[Event]] = {number: [] for number in range(len(options))}
    said: dict[int, Transcript] = {}
    with asr.streams(max_delay_ms=0, max_batch=3) as pool:
        numbers: dict[Stream, int] = {}
        while waiting or speaking:
            if waiting and generator.random() < 0.3:
                voice, option, number = waiting.pop()
                stream = pool.open(endpointing=ENDING, **option)
                numbers[stream] = number
                speaking.append((stream, voice, number))
            still = []
            for stream, voice, number in speaking:
                size = int(generator.choice([0, 160, 3000, 9000]))
                assert stream.push(voice[:size]) == []
                if size < len(voice):
                    still.append((stream, voice[size:], number))
                elif number % 2:
                    heard[number] += stream.flush()
                    said[number] = stream.finish()
                else:
                    stream.end()
                    while not stream.closed:
                        for other, event in pool.step():
                            heard[numbers[other]].append(event)
                    said[number] = stream.finish()
            speaking = still
            for stream, event in pool.step():
                heard[numbers[stream]].append(event)
        assert len(pool) == 0
    for number, (voice, option) in enumerate(zip(voices(), options, strict=True)):
        expected, transcript = alone(asr, voice, **option)
        assert texts(finals(heard[number])) == texts(expected)
        assert_same(said[number], transcript)


def test_a_stream_moves_into_a_crowd_and_out_of_it() -> None:
    asr, voice = golden("streaming_hybrid", "rnnt"), clip()
    expected, transcript = alone(asr, voice, lookahead=1)
    first = asr.stream(endpointing=ENDING, lookahead=1)
    heard = first.push(voice[:20000])
    with asr.streams(max_delay_ms=0) as pool:
        others = [pool.open(lookahead=r) for r in (0, 1, 1, 3)]
        second = pool.open(state=StreamState.from_bytes(first.state().to_bytes()))
        for other in others:
            other.push(voice)
        second.push(voice[20000:40000])
        while pool.ready():
            heard += [event for stream, event in pool.step() if stream is second]
        third = asr.stream(state=second.state())
    heard += third.push(voice[40000:]) + third.flush()
    assert texts(finals(heard)) == texts(expected)
    assert_same(third.finish(), transcript)


class Counting:
    """Counts the batches of a pool's steppers."""

    def __init__(self, pool: Streams) -> None:
        self.batches: list[int] = []
        for stepper in pool._steppers.values():
            self._watch(stepper)

    def _watch(self, stepper: Any) -> None:
        step = stepper.step

        def counted(slots: Any) -> list[Decoded]:
            self.batches.append(len(slots))
            result: list[Decoded] = step(slots)
            return result

        stepper.step = counted


def test_streams_of_one_latency_share_batches() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    with asr.streams(max_delay_ms=0) as pool:
        streams = [pool.open(lookahead=r) for r in (3, 3, 3, 0, 0)]
        counting = Counting(pool)
        for stream in streams:
            stream.push(clip()[:16000])
        pool.step()
        assert sorted(counting.batches) == [2, 3]


def test_a_batch_has_its_bound() -> None:
    with golden("streaming_hybrid", "rnnt").streams(max_delay_ms=0, max_batch=2) as pool:
        streams = [pool.open() for _ in range(5)]
        counting = Counting(pool)
        for stream in streams:
            stream.push(clip()[:16000])
        pool.step()
        assert counting.batches == [2, 2, 1]


class Clock:
    """Time that passes only while the pool waits, and what it waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.while_waiting: Callable[[], object] = lambda: None
        monkeypatch.setattr("auricle.streaming.pool.time", self)
        monkeypatch.setattr("auricle.streaming.stream.time", self)
        monkeypatch.setattr(Streams, "_await_news", lambda pool, seen, timeout: self.wait(timeout))

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.while_waiting()
        self.now += seconds


def test_nobody_waits_for_a_silent_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another stream without audio costs at most the delay, and after a stall nothing."""
    clock, asr = Clock(monkeypatch), golden("streaming_hybrid", "rnnt")
    with asr.streams(max_delay_ms=150) as pool:
        silent, speaker = pool.open(), pool.open()
        counting = Counting(pool)
        silent.push(clip()[:100])
        speaker.push(clip()[:16000])
        pool.step()
        assert counting.batches == [1]
        assert clock.waits == [pytest.approx(0.15)]
        clock.now += 60  # the silent one has stalled for a minute
        pool.step()
        assert len(clock.waits) == 1
        assert counting.batches == [1, 1]
        silent.push(clip()[100:])  # and goes on as if nothing had been
        while pool.ready():
            pool.step()
        assert_same(silent.finish(), alone(asr, clip())[1])


def test_a_chunk_waits_for_company_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with golden("streaming_hybrid", "rnnt").streams(max_delay_ms=5000) as pool:
        first, second = pool.open(), pool.open()
        counting = Counting(pool)
        second.push(clip()[:100])
        first.push(clip()[:6000])
        clock.while_waiting = lambda: second.push(clip()[100:6000])
        pool.step()
        assert clock.waits == [pytest.approx(5.0)]
        assert counting.batches == [2]


def test_waiting_for_work() -> None:
    with golden("streaming_hybrid", "rnnt").streams() as pool:
        assert pool.step() == []
        assert not pool.wait(0.01)
        stream = pool.open()
        late = threading.Timer(0.05, lambda: stream.push(clip()))
        late.start()
        assert pool.wait(PATIENCE)
        late.join()
        assert pool.ready()


def test_many_threads_push_while_one_steps() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    expected = {r: alone(asr, clip(), lookahead=r) for r in (0, 1, 3)}
    heard: dict[Stream, list[Event]] = {}
    with asr.streams(max_delay_ms=2) as pool:
        streams = [pool.open(lookahead=r, endpointing=ENDING) for r in (0, 1, 3, 3, 0)]

        def speak(stream: Stream) -> None:
            for i in range(0, len(clip()), 1600):
                stream.push(clip()[i : i + 1600])
            stream.end()

        speakers = [threading.Thread(target=speak, args=[stream]) for stream in streams]
        for speaker in speakers:
            speaker.start()
        deadline = time.monotonic() + PATIENCE
        while len(pool) and time.monotonic() < deadline:
            pool.wait(1)
            for stream, event in pool.step():
                heard.setdefault(stream, []).append(event)
        for speaker in speakers:
            speaker.join()
        for stream in streams:
            assert stream.lookahead is not None
            events, transcript = expected[stream.lookahead]
            assert texts(finals(heard[stream])) == texts(events)
            assert_same(stream.finish(), transcript)


def test_bad_audio_hurts_nobody_else() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    with asr.streams(max_delay_ms=0) as pool:
        good, bad = pool.open(), pool.open()
        good.push(clip()[:20000])
        for rubbish in (np.full(10, np.nan, np.float32), np.zeros((2, 2)), np.zeros(3, np.uint8)):
            with pytest.raises(ValueError, match=r"audio|NaN|array"):
                bad.push(rubbish)
        pool.close(bad)
        pool.close(bad)
        good.push(clip()[20000:])
        while pool.ready():
            pool.step()
        assert_same(good.finish(), alone(asr, clip())[1])


def test_a_batch_that_fails_takes_nobody_else_along() -> None:
    """Whose batch was decoded before it loses no event, whose comes after no turn."""
    asr = golden("streaming_hybrid", "rnnt")
    heard: dict[Stream, list[Event]] = {}
    with asr.streams(max_delay_ms=0) as pool:
        before, failing, after = (pool.open(lookahead=r, endpointing=ENDING) for r in (3, 1, 0))
        for stream in (before, failing, after):
            stream.push(clip())
            stream.end()
        stepper: Any = pool._steppers[failing.cut]
        step, failures = stepper.step, 0

        def broken(slots: Any) -> list[Decoded]:
            step(slots)
            raise MemoryError("no room")

        stepper.step = broken
        while pool.ready():
            try:
                said = pool.step()
            except MemoryError:
                failures += 1
                continue
            for stream, event in said:
                heard.setdefault(stream, []).append(event)
        assert failures == 1
        assert failing.closed
        for stream, lookahead in ((before, 3), (after, 0)):
            expected = asr.stream(lookahead=lookahead, endpointing=ENDING)
            events = expected.push(clip()) + expected.flush()
            assert heard[stream] == events
        stepper.step = step
        again = pool.open(lookahead=1)  # its slot is as new
        again.push(clip())
        assert_same(again.finish(), alone(asr, clip(), lookahead=1)[1])


def test_a_buffer_may_be_used_again_once_it_is_pushed() -> None:
    asr, voice = golden("streaming_hybrid", "rnnt"), clip()
    buffer = np.empty(16000, np.float32)
    with asr.streams(max_delay_ms=0) as pool:
        stream = pool.open()
        for i in range(0, len(voice), len(buffer)):
            piece = voice[i : i + len(buffer)]
            buffer[: len(piece)] = piece
            stream.push(buffer[: len(piece)])
        buffer[:] = 0
        assert_same(stream.finish(), alone(asr, voice)[1])


def test_a_slot_is_new_for_the_next_stream() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    expected = alone(asr, clip())[1]
    with asr.streams(max_delay_ms=0) as pool:
        for _ in range(3):
            stream = pool.open()
            stream.push(clip())
            while pool.ready():
                pool.step()
            abandoned = pool.open()
            abandoned.push(clip()[5000:30000])
            while pool.ready():
                pool.step()
            assert_same(stream.finish(), expected)
            pool.close(abandoned)
        assert len(pool) == 0


def test_a_closed_pool() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    with asr.streams() as pool:
        stream = pool.open()
        stream.push(clip())
    with pytest.raises(ConfigError, match="closed"):
        pool.open()
    with pytest.raises(ConfigError, match="finished"):
        stream.push(clip())
    assert stream.finish().duration == len(clip()) / 16000
    assert not pool.wait()


def test_who_waits_is_told_that_the_pool_closes() -> None:
    with golden("streaming_hybrid", "rnnt").streams() as pool:
        pool.open()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(pool.wait(PATIENCE)))
        waiting.start()
    waiting.join(10)
    assert found == [False]


@pytest.mark.parametrize(
    "options", [{"max_delay_ms": -1}, {"max_delay_ms": float("nan")}, {"max_batch": 0}]
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        golden("streaming_hybrid", "rnnt").streams(**options)
