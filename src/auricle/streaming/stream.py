"""One speaker's stream: audio in, events out, and a state that can go on elsewhere."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle import audio
from auricle.audio import Samples
from auricle.errors import AuricleError, ConfigError, first_line
from auricle.streaming.buffered import Buffering
from auricle.streaming.cache_aware import Lookahead, lookahead
from auricle.streaming.events import Event
from auricle.streaming.latency import LatencyMeter, LatencyReport
from auricle.streaming.model import Cut, StreamingModel, StreamOptions
from auricle.streaming.stepping import Decoded, Stepper, prefixed, under
from auricle.streaming.utterances import Endpointing, Utterances
from auricle.types import Transcript
from auricle.vad import Silence, VoiceActivity

STATE_VERSION = 1


@dataclass(frozen=True, eq=False)
class StreamState:
    """Everything a stream remembers: a value that can be kept, sent, and gone on from.

    `facts` are plain values, the model's fingerprint and the state's version among them.
    """

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """In the safetensors format: reading it executes nothing."""
        from safetensors.torch import save

        facts = np.frombuffer(json.dumps(self.facts).encode(), np.uint8).copy()
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors.items()}
        return save({**tensors, "facts": torch.from_numpy(facts)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            ConfigError: These are not the bytes of a stream's state.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors = load(data)
            facts = json.loads(tensors.pop("facts").numpy().tobytes())
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a stream's state: {first_line(error)}") from None
        return cls(facts, tensors)


class Stream:
    """One speaker. Make one with `Recognizer.stream`, or with `Streams.open` among many.

    `push` takes audio as it comes and gives what is new; `finish` flushes the last words. One
    thread at a time may push.
    """

    def __init__(
        self,
        model: StreamingModel,
        stepper: Stepper,
        options: StreamOptions,
        cut: Cut,
        *,
        state: StreamState | None = None,
        lock: threading.RLock | None = None,
        notify: Callable[[], None] | None = None,
    ) -> None:
        """A stream of `stepper`; one with `notify` leaves the stepping to whom it tells.

        `options` and `cut` of a stream that goes on from `state` are what `resolved` says.
        """
        engine = model.engine
        self.cut = cut
        rate = options.sample_rate
        self.sample_rate = engine.sample_rate if rate is None else rate
        audio.check_rate(self.sample_rate, "sample_rate")
        self._engine, self._stepper, self._options = engine, stepper, options
        self._lock = lock or threading.RLock()  # of the stepper; taken before the other
        self._ears = threading.RLock()  # of what `push` touches
        self._notify = notify
        self._resampler = self._new_resampler()
        self._meter = LatencyMeter()
        self._endpointing = options.endpointing or Endpointing()
        self._utterances = Utterances(
            engine.tokenizer, stepper.seconds_per_step, self._endpointing, keep=options.keep
        )
        self._activity = self._new_activity()
        self._inbox: deque[tuple[Samples, list[Silence]]] = deque()
        self._pushed = 0  # samples, at the stream's own rate
        self.pushed_at = 0.0  # on the monotonic clock
        self._ended = False
        self._closed: Transcript | None = None  # what was said, once everything has been
        # Last, so that nothing that raises keeps a slot.
        if state is None:
            self._slot = stepper.open(prompt=engine.prompt(options.language))
        else:
            with _told_as_damage():
                self._restore(state)
                self._slot = stepper.open(under("stepper.", state.tensors))

    def __repr__(self) -> str:
        return f"Stream({self._engine.name!r}, latency_ms={self.latency_ms}, {self.seconds:.2f} s)"

    @property
    def latency_ms(self) -> int:
        """From the start of a chunk of audio to its end: the least that a word can wait."""
        return round(1000 * self._stepper.latency)

    @property
    def lookahead(self) -> int | None:
        """Encoder steps that are looked ahead; None for models not trained to stream."""
        return self.cut.steps if isinstance(self.cut, Lookahead) else None

    @property
    def seconds(self) -> float:
        """Audio pushed so far."""
        return self._pushed / self.sample_rate

    def push(self, samples: npt.NDArray[Any] | Tensor) -> list[Event]:
        """More audio at the stream's rate: mono [S] or [S, 1], int16, int32 or floats in [-1, 1].

        Returns:
            What is new. A stream of `Streams` gives nothing here: `Streams.step` does.

        Raises:
            AudioError: Another type or shape, or values no sound has; the stream is as it was.
            ConfigError: The stream has been finished.
        """
        # Copied: the caller may fill its buffer again before the audio is decoded.
        heard = audio.from_array(samples, "the pushed audio").copy()
        with self._ears:
            if self._ended:
                raise ConfigError("this stream has been finished: open a new one for more audio")
            self._pushed += len(heard)
            self.pushed_at = time.monotonic()
            self._meter.pushed(self.seconds)
            self._hear(heard if self._resampler is None else self._resampler.push(heard))
        if self._notify is not None:
            self._notify()
            return []
        with self._lock:
            return self._run()

    def end(self) -> None:
        """Say that there will be no more audio; `flush`, or `Streams.step`, gives what is left."""
        with self._ears:
            if self._ended:
                return
            if self._resampler is not None:
                self._hear(self._resampler.finish())
            self._ended = True
        if self._notify is not None:
            self._notify()

    def flush(self) -> list[Event]:
        """End the stream: its last words, however little audio they have behind them."""
        self.end()
        with self._lock:
            return self._run()

    def finish(self) -> Transcript:
        """End the stream, if `flush` has not, and give everything that was said.

        With `keep=False` the finals have been handed out and forgotten: the transcript is empty.
        """
        self.flush()
        assert self._closed is not None
        return self._closed

    def latency(self) -> LatencyReport:
        """How late words came, and how late they were final."""
        with self._ears:
            return self._meter.report()

    def abandon(self) -> None:
        """End the stream without its last words; nothing happens to one that is finished."""
        with self._lock, self._ears:
            self._ended = True
            self._close()

    def state(self) -> StreamState:
        """Everything that is needed to go on elsewhere, with `Recognizer.stream(state=...)`.

        The latencies measured so far stay behind.

        Raises:
            ConfigError: The stream has been finished.
        """
        with self._lock, self._ears:
            if self._ended:
                raise ConfigError("this stream has been finished: there is nothing to go on from")
            self.admit()
            activity = {} if self._activity is None else self._activity.state()
            facts = {
                "version": STATE_VERSION,
                "fingerprint": self._engine.fingerprint,
                "head": self._engine.head,
                "cut": {"kind": type(self.cut).__name__, **asdict(self.cut)},
                "endpointing": asdict(self._endpointing),
                "keep": self._options.keep,
                "sample_rate": self.sample_rate,
                "pushed": self._pushed,
                "utterances": self._utterances.state(),
            }
            tensors = prefixed("stepper.", self._stepper.state(self._slot))
            tensors |= prefixed("activity.", {k: torch.from_numpy(v) for k, v in activity.items()})
            if self._resampler is not None:
                tensors["resampler.recent"] = torch.from_numpy(self._resampler.recent)
        return StreamState(facts, {name: tensor.clone() for name, tensor in tensors.items()})

    # What `Streams` needs.

    @property
    def slot(self) -> int:
        """Its place in the stepper."""
        return self._slot

    @property
    def ended(self) -> bool:
        """Whether there will be no more audio."""
        return self._ended

    @property
    def closed(self) -> bool:
        """Whether everything has been said."""
        return self._closed is not None

    def admit(self) -> bool:
        """Hand the stepper what has been pushed; whether a chunk is ready. Needs the lock."""
        if self._closed is not None:
            return False
        ended = self._ended  # before the inbox is read, which nothing enters once it is so
        for _ in range(len(self._inbox)):  # not what is pushed meanwhile, which may never end
            samples, silences = self._inbox.popleft()
            self._stepper.push(self._slot, samples)
            for silence in silences:
                self._utterances.silence(silence.start, silence.end)
        if ended:
            self._stepper.end(self._slot)
        return self._stepper.ready(self._slot)

    def take(self, decoded: Decoded) -> list[Event]:
        """What a chunk that has been decoded means. Needs the lock."""
        return self._timed(self._utterances.add(decoded))

    def settle(self) -> list[Event]:
        """What there is to say when the last chunk has been decoded. Needs the lock."""
        if self._closed is not None or not self._ended or self.admit():
            return []
        events = self._timed(self._utterances.finish(self.seconds))
        self._close()
        return events

    def _restore(self, state: StreamState) -> None:
        """Take over what `state` holds beside the stepper's part."""
        if self._resampler is not None:
            recent = state.tensors["resampler.recent"].numpy()
            self._resampler = self._new_resampler(recent)
        self._utterances.restore(state.facts["utterances"])
        self._pushed = state.facts["pushed"]
        self._meter.pushed(self.seconds)
        if self._activity is not None:
            activity = under("activity.", state.tensors)
            self._activity.restore({k: v.numpy() for k, v in activity.items()})

    def _hear(self, samples: Samples) -> None:
        silences = [] if self._activity is None else self._activity.push(samples)
        self._inbox.append((samples, silences))

    def _run(self) -> list[Event]:
        events: list[Event] = []
        while self.admit():
            try:
                (decoded,) = self._stepper.step([self._slot])
            except BaseException:
                self.abandon()  # its memory is half written
                raise
            events += self.take(decoded)
        return events + self.settle()

    def _close(self) -> None:
        if self._closed is None:
            self._stepper.close(self._slot)
            self._closed = self._utterances.transcript(self.seconds, self._engine.name)

    def _timed(self, events: list[Event]) -> list[Event]:
        with self._ears:
            for event in events:
                self._meter.event(event, self.seconds)
        return events

    def _new_resampler(self, recent: Samples | None = None) -> audio.ResumableResampler | None:
        if self.sample_rate == self._engine.sample_rate:
            return None
        return audio.ResumableResampler(self.sample_rate, self._engine.sample_rate, recent)

    def _new_activity(self) -> VoiceActivity | None:
        ending = self._endpointing
        if not ending.vad:
            return None
        return VoiceActivity(self._engine.sample_rate, min_silence_ms=ending.silence_ms or 0)


def resolved(
    model: StreamingModel, options: StreamOptions, state: StreamState | None
) -> tuple[StreamOptions, Cut]:
    """How a stream is cut; one that goes on from `state` has the options it was opened with.

    Raises:
        ConfigError: There is no such latency, or `state` is of another model, head or version.
    """
    if state is None:
        return options, model.cut(options)
    if not isinstance(state, StreamState):
        raise ConfigError(f"state= takes a StreamState, not {type(state).__name__}")
    if options != StreamOptions():
        raise ConfigError("a stream that goes on from a state keeps its options: give none")
    facts, engine = state.facts, model.engine
    with _told_as_damage():
        if facts["version"] != STATE_VERSION:
            raise ConfigError(
                f"a stream's state of version {facts['version']}; this is version {STATE_VERSION}"
            )
        if (facts["fingerprint"], facts["head"]) != (engine.fingerprint, engine.head):
            raise ConfigError(
                f"the stream's state is of another model than {engine.name} with head {engine.head}"
            )
        cut = dict(facts["cut"])
        kind = cut.pop("kind")
        options = StreamOptions(
            keep=facts["keep"],
            endpointing=Endpointing(**facts["endpointing"]),
            sample_rate=facts["sample_rate"],
        )
        if kind == "Buffering":
            return options, Buffering(**cut)
        return options, lookahead(engine, tuple(cut["context"]))


@contextmanager
def _told_as_damage() -> Iterator[None]:
    """What a state that was changed by others can raise, as one kind of error."""
    try:
        yield
    except AuricleError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        kind = type(error).__name__
        raise ConfigError(f"the stream's state is damaged: {kind}: {first_line(error)}") from None
