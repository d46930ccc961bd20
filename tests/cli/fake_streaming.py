"""A recogniser whose streams say a word for every tenth of a second, and five words a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from auricle.errors import AudioError, ConfigError
from auricle.streaming.events import Event, Final, Partial
from auricle.streaming.latency import LatencyMeter, LatencyReport
from auricle.types import Segment, Transcript, Word

WORD_SECONDS = 0.1
SENTENCE = 5


class FakeStream:
    """Says `w0 w1 w2 w3 w4`, then `w5 ...`; refuses NaN as a real one does."""

    latency_ms = 100

    def __init__(self, *, pooled: bool = False, on_push: Callable[[], None], **options: Any):
        self.options = options
        self.pushed: list[np.ndarray] = []
        self.seconds = 0.0
        self._rate = options.get("sample_rate") or 16000
        self._pooled, self._on_push = pooled, on_push
        self._said = 0
        self._segments: list[Segment] = []
        self.ended = self.closed = False
        self._meter = LatencyMeter()

    def push(self, samples: np.ndarray) -> list[Event]:
        assert not self.ended
        if np.isnan(samples).any():
            raise AudioError("the pushed audio: sample 0 is NaN or infinite")
        self._on_push()
        self.pushed.append(samples)
        self.seconds += len(samples) / self._rate
        self._meter.pushed(self.seconds)
        return [] if self._pooled else self.run()

    def run(self) -> list[Event]:
        events: list[Event] = []
        while self._said < int(self.seconds / WORD_SECONDS + 1e-6):
            self._said += 1
            events.append(self._partial())
            if self._said % SENTENCE == 0:
                events.append(self._final(SENTENCE))
        return self._timed(events)

    def end(self) -> None:
        self.ended = True

    def flush(self) -> list[Event]:
        if self.closed:
            return []
        events = self.run()
        self.ended = self.closed = True
        if rest := self._said % SENTENCE:
            events += self._timed([self._final(rest)])
        return events

    def finish(self) -> Transcript:
        self.flush()
        kept = self._segments if self.options.get("keep", True) else []
        return Transcript(
            " ".join(s.text for s in kept),
            tuple(kept),
            tuple(w for s in kept for w in s.words),
            duration=self.seconds,
            model="fake",
        )

    def latency(self) -> LatencyReport:
        return self._meter.report()

    def _partial(self) -> Partial:
        words = [f"w{i}" for i in range((self._said - 1) // SENTENCE * SENTENCE, self._said)]
        return Partial(" ".join(words), " ".join(words[:-1]))

    def _final(self, count: int) -> Final:
        numbers = range(self._said - count, self._said)
        words = tuple(Word(f"w{i}", i * 0.1, i * 0.1 + 0.1, 0.9) for i in numbers)
        text = " ".join(word.text for word in words)
        self._segments.append(Segment(text, words[0].start, words[-1].end, words, 0.9))
        return Final(self._segments[-1])

    def _timed(self, events: list[Event]) -> list[Event]:
        for event in events:
            self._meter.event(event, self.seconds)
        return events


class FakeStreams:
    """The pool of the fake; remembers how many streams were open and stepped together."""

    def __init__(self, recognizer: FakeRecognizer) -> None:
        self._recognizer = recognizer
        self.open_now: list[FakeStream] = []
        self.most = 0
        self.together: list[int] = []

    def __enter__(self) -> FakeStreams:
        return self

    def __exit__(self, *_: object) -> None:
        self.open_now.clear()

    def open(self, **options: Any) -> FakeStream:
        stream = self._recognizer.new_stream(pooled=True, **options)
        self.open_now.append(stream)
        self.most = max(self.most, len(self.open_now))
        return stream

    def step(self) -> list[tuple[FakeStream, Event]]:
        found = [(stream, event) for stream in self.open_now for event in stream.run()]
        if found:
            self.together.append(len({id(stream) for stream, _ in found}))
        for stream in [stream for stream in self.open_now if stream.ended]:
            found += [(stream, event) for event in stream.flush()]
            self.open_now.remove(stream)
        return found


class FakeRecognizer:
    """Speaks no Klingon; `on_push` is called at each push."""

    sample_rate = 16000

    def __init__(self, on_push: Callable[[], None] = lambda: None) -> None:
        self.loaded: dict[str, Any] = {}
        self.made: list[FakeStream] = []
        self.pool = FakeStreams(self)
        self.max_delay_ms: float | None = None
        self.max_batch: int | None = None
        self.on_push = on_push

    def load(self, name: str | None = None, **options: Any) -> FakeRecognizer:
        self.loaded = {"name": name, **options}
        return self

    def stream(self, **options: Any) -> FakeStream:
        return self.new_stream(**options)

    def streams(self, *, max_delay_ms: float, max_batch: int) -> FakeStreams:
        self.max_delay_ms, self.max_batch = max_delay_ms, max_batch
        return self.pool

    def new_stream(self, **options: Any) -> FakeStream:
        if options["language"] == "tlh":
            raise ConfigError("this model does not speak tlh")
        if options["latency_ms"] not in (None, 100):
            raise ConfigError(f"latency_ms={options['latency_ms']} is not one of 100")
        self.made.append(FakeStream(on_push=self.on_push, **options))
        return self.made[-1]
