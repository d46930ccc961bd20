"""Many speakers, one model: whichever streams have a chunk ready are stepped together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from auricle.errors import ConfigError
from auricle.streaming.buffered import Buffering
from auricle.streaming.events import Event
from auricle.streaming.model import Cut, StreamingModel, StreamOptions
from auricle.streaming.stepping import Stepper
from auricle.streaming.stream import Stream, StreamState, resolved
from auricle.streaming.utterances import Endpointing

STALLED = 1.0  # seconds without a push after which nobody waits for a stream


class Streams:
    """Streams that share batches, each with its own latency, joining and leaving at any time.

    Audio may be pushed by any thread while one thread steps: `push` and `Stream.end` never wait for
    a batch. Everything else may, `open` and `Stream.flush` among it.
    """

    def __init__(
        self, model: StreamingModel, *, max_delay_ms: float = 20.0, max_batch: int = 64
    ) -> None:
        """A chunk waits at most `max_delay_ms` for company; `max_batch` bounds a batch."""
        if not 0 <= max_delay_ms < float("inf"):
            raise ConfigError(f"max_delay_ms={max_delay_ms}: it must be 0 or more")
        if max_batch < 1:
            raise ConfigError(f"max_batch={max_batch}: it must be 1 or more")
        self._model = model
        self._delay = max_delay_ms / 1000
        self._max_batch = max_batch
        self._lock = threading.RLock()  # of steppers and streams
        self._news = threading.Condition()  # something was pushed
        self._told = 0  # times
        self._steppers: dict[Cut, Stepper] = {}
        self._streams: list[Stream] = []
        self._since: dict[Stream, float] = {}  # when a chunk that is ready was pushed
        self._said: list[tuple[Stream, Event]] = []  # what `step` has not handed out yet
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            for stream in self._streams:
                stream.abandon()
            self._prune()
        self._tell()

    def __len__(self) -> int:
        with self._lock:
            self._prune()
            return len(self._streams)

    def open(
        self,
        *,
        latency_ms: float | None = None,
        lookahead: int | Sequence[int] | None = None,
        keep: bool = True,
        untrained: bool = False,
        endpointing: Endpointing | None = None,
        buffering: Buffering | None = None,
        language: str | None = None,
        sample_rate: int | None = None,
        state: StreamState | None = None,
    ) -> Stream:
        """A new stream; arguments and errors as in `Recognizer.stream`.

        Its `push` gives no events, `step` does. After `Stream.end`, `step` gives its last words
        too; `flush` and `finish` do so at once, alone.
        """
        options = StreamOptions(
            latency_ms=latency_ms,
            lookahead=lookahead,
            keep=keep,
            untrained=untrained,
            endpointing=endpointing,
            buffering=buffering,
            language=language,
            sample_rate=sample_rate,
        )
        options, cut = resolved(self._model, options, state)
        with self._lock:
            if self._closed:
                raise ConfigError("these streams have been closed: make new ones")
            if cut not in self._steppers:
                self._steppers[cut] = self._model.stepper(cut)
            stream = Stream(
                self._model,
                self._steppers[cut],
                options,
                cut,
                state=state,
                lock=self._lock,
                notify=self._tell,
            )
            self._streams.append(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Let go of a stream without its last words; nothing happens to one that is finished."""
        with self._lock:
            stream.abandon()
            self._prune()
        self._tell()

    def ready(self) -> bool:
        """Whether `step` has work to do: a chunk is ready, or a stream has ended."""
        with self._lock:
            if self._find_ready() or self._said:
                return True
            return any(stream.ended for stream in self._streams)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until `step` has work to do, at most `timeout` seconds; whether it has.

        Returns at once when the streams have been closed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._news:
                seen = self._told
            if self.ready():
                return True
            if self._closed:
                return False
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._await_news(seen, left)

    def step(self) -> list[tuple[Stream, Event]]:
        """Decode one chunk of every stream that has one, in batches; gives what is new.

        Waits no longer than `max_delay_ms` from when the first of them was ready for others that
        are being spoken to; returns at once when none is. Call it in a loop, with `wait` between.

        A batch that fails raises what it failed with, and its streams are abandoned: their memory
        is half written. The others go on, and the next call gives what they have said.
        """
        while True:
            with self._news:
                seen = self._told
            with self._lock:
                ready = self._find_ready()
                if not ready:
                    return self._settle()
                left = min(self._since[stream] for stream in ready) + self._delay - time.monotonic()
                if left <= 0 or not self._awaited(ready):
                    return self._step(ready)
            self._await_news(seen, left)

    def _await_news(self, seen: int, timeout: float | None) -> None:
        with self._news:
            self._news.wait_for(lambda: self._told != seen, timeout)

    def _tell(self) -> None:
        with self._news:
            self._told += 1
            self._news.notify_all()

    def _find_ready(self) -> list[Stream]:
        """Streams with a chunk ready, those that wait longest first."""
        self._prune()
        ready = [stream for stream in self._streams if stream.admit()]
        for stream in ready:
            self._since.setdefault(stream, stream.pushed_at)
        return sorted(ready, key=lambda stream: self._since[stream])

    def _awaited(self, ready: list[Stream]) -> bool:
        """Whether a stream that is being spoken to has no chunk ready yet."""
        alive = time.monotonic() - STALLED
        others = set(self._streams).difference(ready)
        return any(stream.pushed_at > alive and not stream.ended for stream in others)

    def _step(self, ready: list[Stream]) -> list[tuple[Stream, Event]]:
        for cut, stepper in self._steppers.items():
            mine = [stream for stream in ready if stream.cut == cut]
            for first in range(0, len(mine), self._max_batch):
                self._step_batch(stepper, mine[first : first + self._max_batch])
        return self._settle()

    def _step_batch(self, stepper: Stepper, batch: list[Stream]) -> None:
        try:
            decoded = stepper.step([stream.slot for stream in batch])
        except BaseException:
            for stream in batch:
                stream.abandon()
            raise
        for stream, one in zip(batch, decoded, strict=True):
            del self._since[stream]
            self._said += [(stream, event) for event in stream.take(one)]

    def _settle(self) -> list[tuple[Stream, Event]]:
        """What is new, with the last words of streams that have ended and have no chunk left."""
        for stream in self._streams:
            self._said += [(stream, event) for event in stream.settle()]
        said, self._said = self._said, []
        return said

    def _prune(self) -> None:
        self._streams = [stream for stream in self._streams if not stream.closed]
        for stream in [stream for stream in self._since if stream.closed]:
            del self._since[stream]
