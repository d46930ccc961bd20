"""What the streams of one model share: the latencies there are to choose from, and steppers."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auricle.engines.torch import TorchEngine
from auricle.errors import ConfigError
from auricle.models.chunked import ChunkedEncoder
from auricle.models.conformer import ContextSize
from auricle.streaming.buffered import BufferedStepper, Buffering
from auricle.streaming.cache_aware import (
    CacheAwareStepper,
    Lookahead,
    lookahead,
    lookaheads,
    why_not,
)
from auricle.streaming.stepping import Stepper
from auricle.streaming.utterances import Endpointing

Cut = Lookahead | Buffering  # how a stream is cut into chunks; streams of one cut share batches


@dataclass(frozen=True)
class StreamOptions:
    """What may be asked of a stream; see `Recognizer.stream`."""

    latency_ms: float | None = None
    lookahead: int | Sequence[int] | None = None
    keep: bool = True
    untrained: bool = False
    endpointing: Endpointing | None = None
    buffering: Buffering | None = None
    language: str | None = None
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        latency = self.latency_ms
        if latency is not None and not isinstance(latency, int | float | np.number):
            raise ConfigError(f"latency_ms={latency!r}: it must be a number")
        for name, kind in (("endpointing", Endpointing), ("buffering", Buffering)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ConfigError(f"{name}={value!r}: it must be a {kind.__name__}")


class StreamingModel:
    """An engine with what all its streams share; safe to use from many threads."""

    def __init__(self, engine: TorchEngine) -> None:
        """Find out what the model was trained to stream with."""
        self.engine = engine
        self.lookaheads = lookaheads(engine)
        self._encoders: dict[ContextSize, ChunkedEncoder] = {}
        self._lock = threading.Lock()

    def cut(self, options: StreamOptions) -> Cut:
        """The way of cutting that is asked for.

        Raises:
            ConfigError: There is no such latency or lookahead; the message lists those there are.
        """
        if options.latency_ms is not None and options.lookahead is not None:
            raise ConfigError("latency_ms and lookahead say the same thing: give one of them")
        if not self.lookaheads:
            return self._buffering(options)
        if options.buffering is not None:
            raise ConfigError(
                f"{self.engine.name} streams without a buffer: choose latency_ms instead"
            )
        if options.lookahead is not None:
            return self._by_lookahead(options.lookahead, options.untrained)
        if options.latency_ms is not None:
            return self._by_latency(options.latency_ms, options.untrained)
        return self.lookaheads[0]

    def stepper(self, cut: Cut) -> Stepper:
        """A new stepper for streams of one cut; what does not hang on streams is shared."""
        if isinstance(cut, Buffering):
            return BufferedStepper(self.engine, cut)
        with self._lock:
            if cut.context not in self._encoders:
                encoder = self.engine.model.encoder
                self._encoders[cut.context] = ChunkedEncoder(encoder, cut.context)  # type: ignore[arg-type]
        return CacheAwareStepper(self.engine, self._encoders[cut.context])

    def _buffering(self, options: StreamOptions) -> Buffering:
        if options.lookahead is not None:
            raise ConfigError(
                f"{why_not(self.engine)}: choose latency_ms, which it then spends on context"
            )
        if options.latency_ms is None:
            return options.buffering or Buffering()
        if options.buffering is not None:
            raise ConfigError("latency_ms and buffering say the same thing: give one of them")
        return Buffering.within(options.latency_ms, self.engine.model.seconds_per_step)

    def _by_lookahead(self, size: int | Sequence[int], untrained: bool) -> Lookahead:
        default = self.lookaheads[0].context
        try:
            size = size if isinstance(size, Sequence) else operator.index(size)
            context = (*default[:-1], size) if isinstance(size, int) else tuple(size)
        except TypeError:
            raise ConfigError(f"lookahead={size!r}: it must be R or [L, R], in steps") from None
        for known in self.lookaheads:
            if known.context == context or (isinstance(size, int) and known.steps == size):
                return known
        if not untrained:
            raise ConfigError(f"lookahead={_plain(size)} is not one of {self._known()}")
        if any(not isinstance(part, int) or part < 0 for part in context):
            raise ConfigError(
                f"lookahead={_plain(size)}: it must be whole numbers of steps, 0 or more"
            )
        return lookahead(self.engine, context)

    def _by_latency(self, latency_ms: float, untrained: bool) -> Lookahead:
        for known in self.lookaheads:
            if known.latency_ms == latency_ms:
                return known
        if not untrained:
            raise ConfigError(f"latency_ms={latency_ms:g} is not one of {self._known()}")
        step = 1000 * self.engine.model.seconds_per_step
        if not 0 < latency_ms < math.inf:
            raise ConfigError(f"latency_ms={latency_ms}: it must be above 0")
        steps = round(latency_ms / step)
        default = self.lookaheads[0].context
        found = lookahead(self.engine, (*default[:-1], max(0, steps - 1)))
        if found.latency_ms != latency_ms:
            raise ConfigError(
                f"latency_ms={latency_ms:g}: it must be a multiple of {step:g}; "
                f"the nearest is {found.latency_ms}"
            )
        return found

    def _known(self) -> str:
        latencies = ", ".join(str(known.latency_ms) for known in self.lookaheads)
        sizes = ", ".join(str(known.steps) for known in self.lookaheads)
        return (
            f"those that {self.engine.name} was trained with: latency_ms {latencies} "
            f"(lookahead {sizes}); untrained=True takes others"
        )


def _plain(size: int | Sequence[int]) -> int | list[int]:
    return size if isinstance(size, int) else list(size)
