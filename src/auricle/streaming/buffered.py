"""Streams through models that were not trained to stream: windows of audio, encoded anew.

A chunk is encoded between left and right context, as if the window were a clip, and its own steps
are kept. A window begins on a whole encoder step, so that its step k is the stream's step
`first` + k: at a seam no step is lost and none comes twice. The decoder's state goes from chunk to
chunk; what it makes of the right context is tentative, and forgotten.

What it costs against offline: the encoder hears every second of audio `Buffering.cost` times, 7
by default; a step sees no further than its window; and features that are normalised over a clip
are normalised over the window instead. The last is why nothing is final in a stream's first two
seconds, and why digital silence is kept out of the left context: see `Buffering` and `QUIET`.

Letters in shapes: B streams, S samples, T encoder steps, N kept steps, D encoder width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle.engines.torch import TorchEngine
from auricle.errors import ConfigError
from auricle.models.asr import ASR
from auricle.models.conformer import ConformerConfig
from auricle.streaming.stepping import Decoded, SampleBuffer, free_slot, prefixed, under

# Zeros alone, as a muted microphone sends, say nothing, but would rule the window's normalisation:
# ten seconds of them before two of speech move its features by 1.9 standard deviations. So where
# the left context begins with more than this, in seconds, the window begins behind it.
QUIET = 1.0
MOST_SECONDS = 600  # of audio in each part of a window


@dataclass(frozen=True)
class Buffering:
    """How a stream is cut, in seconds, which are rounded up to whole encoder steps.

    The defaults are those of NeMo's script for chunked transducers. The first chunk has no left
    context, and the last one, which may be as long as chunk and right context together, no right
    one. Until a stream has `settle_seconds` of audio its tokens are all tentative, where features
    are normalised over the window: measured on read speech, half a second of audio gives features
    that are off by one standard deviation from those of the whole clip, two seconds 0.24, four
    seconds 0.16, fourteen 0.04.
    """

    chunk_seconds: float = 2.0
    left_seconds: float = 10.0
    right_seconds: float = 2.0
    settle_seconds: float = 2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float):
                raise ConfigError(f"{name}={value!r}: it must be a number")
            if not math.isfinite(value) or value < 0 or (name == "chunk_seconds" and value == 0):
                least = "above 0" if name == "chunk_seconds" else "at least 0"
                raise ConfigError(f"{name}={value}: it must be a number {least}")
            if value > MOST_SECONDS:
                raise ConfigError(f"{name}={value}: it must be at most {MOST_SECONDS}")

    @classmethod
    def within(cls, latency_ms: float, seconds_per_step: float) -> Self:
        """The buffering of a latency, which is that of chunk and right context together.

        Each gets half, as in the defaults, and the chunk the odd step: a shorter right context
        costs words at the seams, a shorter chunk costs time. The left context stays as long as it
        is, so that `cost` rises as the latency falls: 7 at 4000 ms, about 22 at 1000 ms.

        Raises:
            ConfigError: The latency is less than two encoder steps.
        """
        steps = int(latency_ms / 1000 / seconds_per_step + 1e-6) if latency_ms < math.inf else 0
        if steps < 2:
            least = math.ceil(2000 * seconds_per_step - 1e-6)
            raise ConfigError(f"latency_ms={latency_ms}: this model needs at least {least}")
        right = steps // 2
        return cls((steps - right) * seconds_per_step, right_seconds=right * seconds_per_step)

    @property
    def cost(self) -> float:
        """How many times the encoder hears every second of audio, once the left context is full."""
        return (self.left_seconds + self.chunk_seconds + self.right_seconds) / self.chunk_seconds


class BufferedStepper:
    """A `Stepper` for any model of NVIDIA's families; streams of all ages share a batch.

    Each stream gives the same tokens however its audio is cut, alone or in a crowd.
    """

    def __init__(self, engine: TorchEngine, buffering: Buffering = Buffering()) -> None:
        """Share `engine`, which holds nothing of any stream."""
        self._engine = engine
        self._grid = _Grid.of(engine.model, buffering)
        self._streams: dict[int, _Stream] = {}
        self._decoders = engine.initial_state(1)
        self._rows = 1  # of `_decoders`: one for each slot, free ones too

    @property
    def seconds_per_step(self) -> float:
        """Length of an encoder step."""
        return self._engine.model.seconds_per_step

    @property
    def latency(self) -> float:
        """Seconds of audio from the start of a chunk until it can be decoded."""
        return (self._grid.chunk + self._grid.right) * self.seconds_per_step

    @torch.inference_mode()
    def open(self, state: Mapping[str, Tensor] | None = None, *, prompt: int | None = None) -> int:
        """A slot for a new stream, or for one that goes on from `state`.

        Args:
            state: What `state` gave, of this model and buffering; it knows its prompt.
            prompt: The number of the language, for models with a prompt.

        Raises:
            ConfigError: The state is of another buffering.
        """
        if state is None:
            stream, decoder = _Stream(SampleBuffer(), prompt), self._engine.initial_state(1)
        else:
            stream = self._grid.restored(state)
            if not self._engine.takes(stream.prompt):
                raise ValueError(f"it has prompt {stream.prompt}")
            decoder = self._decoders.from_tensors(under("decoder.", state))
        slot = free_slot(self._streams)
        if slot == self._rows:
            self._decoders = self._engine.initial_state(2 * slot).put(range(slot), self._decoders)
            self._rows = 2 * slot
        self._decoders = self._decoders.put([slot], decoder)
        self._streams[slot] = stream
        return slot

    def close(self, slot: int) -> None:
        """Forget a stream; its slot may be given to another one."""
        del self._streams[slot]

    def push(self, slot: int, samples: npt.NDArray[np.float32]) -> None:
        """More audio of a stream, [S] at the model's rate."""
        self._streams[slot].audio.push(samples)

    def end(self, slot: int) -> None:
        """There will be no more audio: what is left makes the last chunk, however short."""
        self._streams[slot].ended = True

    def ready(self, slot: int) -> bool:
        """Whether there is audio enough for the next chunk; after `end`, whether any is left."""
        stream = self._streams[slot]
        if stream.finished:
            return False
        return self._grid.fills(stream) or (stream.ended and stream.audio.stop > 0)

    @torch.inference_mode()
    def step(self, slots: Sequence[int]) -> list[Decoded]:
        """Decode the next chunk of each of `slots`, all of which are ready, in one batch.

        Raises:
            ConfigError: The encoder gives fewer steps than a window of audio has.
        """
        streams = [self._streams[slot] for slot in slots]
        windows = [self._grid.window(stream) for stream in streams]
        encodings, stops = self._encode(streams, windows)
        seams = [
            self._grid.seam(stream, window, stop)
            for stream, window, stop in zip(streams, windows, stops, strict=True)
        ]
        firsts = [window.first for window in windows]
        chunk = _cut(encodings, firsts, [stream.kept for stream in streams], seams)
        ahead = _cut(encodings, firsts, seams, stops)
        state = self._decoders.select(slots)
        hypotheses, state = self._engine.decode(*chunk, state=state)
        guesses, _ = self._engine.decode(*ahead, state=state)
        self._decoders = self._decoders.put(slots, state)
        for stream, window, seam in zip(streams, windows, seams, strict=True):
            self._grid.advance(stream, window, seam)
        return [
            Decoded(hypothesis, guess.ids[1:] if guess.continues else guess.ids)
            for hypothesis, guess in zip(hypotheses, guesses, strict=True)
        ]

    @torch.inference_mode()
    def state(self, slot: int) -> dict[str, Tensor]:
        """Everything a stream remembers, to go on with elsewhere; the stream itself goes on too."""
        decoder = prefixed("decoder.", self._decoders.select([slot]).tensors())
        return {**decoder, **self._grid.saved(self._streams[slot])}

    def _encode(
        self, streams: Sequence[_Stream], windows: Sequence[_Window]
    ) -> tuple[Tensor, list[int]]:
        """Encodings [B, T, D] of windows, and the stream's step at which each one's end."""
        engine, size = self._engine, self._grid.samples
        true = torch.tensor([w.stop - w.first * size for w in windows])
        frames = engine.model.features.frames(true)
        lengths = true.where(frames > 0, size)  # too short for a frame: silence stands for it
        samples = np.zeros((len(windows), int(lengths.max())), np.float32)
        for row, stream, window in zip(samples, streams, windows, strict=True):
            audio = stream.audio.window(window.first * size, window.stop)
            row[: len(audio)] = audio
        prompts = [stream.prompt for stream in streams if stream.prompt is not None]
        encodings, steps = engine.model.encode(
            torch.from_numpy(samples).to(engine.device),
            lengths.to(engine.device),
            prompt=torch.tensor(prompts, device=engine.device) if prompts else None,
            context=self._grid.context,
        )
        counts = steps.cpu().where(frames > 0, 0).tolist()
        for window, count in zip(windows, counts, strict=True):
            expected = window.stop // size - window.first
            # One less is what features without padding at the edges give.
            if count < expected - 1 and not window.last:
                raise ConfigError(
                    f"{engine.name} cannot be streamed: its encoder makes {count} steps of the "
                    f"audio of {expected}"
                )
        return encodings, [
            max(stream.kept, window.first + count)
            for stream, window, count in zip(streams, windows, counts, strict=True)
        ]


@dataclass
class _Stream:
    """One stream; its numbers count steps from its start."""

    audio: SampleBuffer
    prompt: int | None
    kept: int = 0  # steps decoded for good
    heard: int = 0  # steps up to which chunks have been read, kept or not
    ended: bool = False
    finished: bool = False


@dataclass(frozen=True)
class _Window:
    """Audio from step `first` to sample `stop`; `last` when the stream ends with it."""

    first: int
    stop: int
    last: bool


@dataclass(frozen=True)
class _Grid:
    """Where windows lie: a `Buffering` in steps of `samples` samples."""

    samples: int
    chunk: int
    left: int
    right: int
    settle: int  # a window with fewer steps is too short to be relied on
    quiet: int | None  # zeros that a window may begin with; None is any number
    context: tuple[int, ...] | None

    @property
    def unit(self) -> int:
        """Windows begin with a multiple of so many steps."""
        return 1 if self.context is None else self.chunk

    @classmethod
    def of(cls, model: ASR, buffering: Buffering) -> _Grid:
        """The grid of a model, whose attention may have to be told of chunks."""
        features = model.config.features
        samples = features.hop_length * model.encoder.factor

        def steps(seconds: float) -> int:
            return math.ceil(round(seconds * features.sample_rate) / samples)

        chunk = max(1, steps(buffering.chunk_seconds))
        left, right = steps(buffering.left_seconds), steps(buffering.right_seconds)
        encoder, context = model.config.encoder, None
        if (
            isinstance(encoder, ConformerConfig)
            and encoder.att_context_style == "chunked_limited_with_rc"
        ):
            left = math.ceil(left / chunk) * chunk  # chunks are counted from the window's start
            context = (left, chunk, right)
        varies = isinstance(features.normalize, str)
        settle = min(steps(buffering.settle_seconds), left + chunk + right) if varies else 0
        quiet = round(QUIET * features.sample_rate) if varies else None
        return cls(samples, chunk, left, right, settle, quiet, context)

    def fills(self, stream: _Stream) -> bool:
        """Whether a stream has a chunk and its right context in full."""
        return stream.audio.stop >= self._stop(stream)

    def window(self, stream: _Stream) -> _Window:
        """The audio that the next chunk is to be encoded in.

        Whether it is the last one depends on the stream's length alone, not on when its end was
        said: so cuts do not matter.
        """
        stop = min(self._stop(stream), stream.audio.stop)
        first = self._before(stream)
        latest = min(stream.kept, stop // self.samples - self.settle)
        if self.quiet is not None and first < latest:
            left = stream.audio.window(first * self.samples, stream.kept * self.samples)
            silent = _leading_zeros(left)
            if silent > self.quiet:
                first = min(first + silent // self.samples, latest)
        return _Window(first // self.unit * self.unit, stop, not self.fills(stream))

    def seam(self, stream: _Stream, window: _Window, stop: int) -> int:
        """The step up to which tokens are kept, of a window whose encodings end at `stop`."""
        if window.last:
            return stop
        if window.first == 0 and window.stop < self.settle * self.samples:
            return stream.kept
        return min(stream.heard + self.chunk, stop)

    def advance(self, stream: _Stream, window: _Window, seam: int) -> None:
        """Move on to the next chunk and forget the audio that no window needs."""
        stream.kept = seam
        stream.heard += self.chunk
        stream.finished = window.last
        stream.audio.forget(
            stream.audio.stop if window.last else self._before(stream) * self.samples
        )

    def saved(self, stream: _Stream) -> dict[str, Tensor]:
        """A stream without its decoder, in tensors."""
        audio = stream.audio
        prompt = -1 if stream.prompt is None else stream.prompt
        numbers = (audio.first, prompt, stream.kept, stream.heard, stream.ended, stream.finished)
        return {
            "stream.audio": torch.from_numpy(audio.window(audio.first, audio.stop)),
            "stream.counts": torch.tensor([int(number) for number in numbers]),
            "stream.buffering": torch.tensor(self._key),
        }

    def restored(self, state: Mapping[str, Tensor]) -> _Stream:
        """The inverse of `saved`."""
        if (other := state["stream.buffering"].tolist()) != list(self._key):
            names = "chunk, left, right and settling steps"
            raise ConfigError(
                f"the stream was buffered with {other} {names}, here they are {list(self._key)}: "
                "go on with the same buffering"
            )
        first, prompt, kept, heard, ended, finished = state["stream.counts"].tolist()
        audio = SampleBuffer.of(state["stream.audio"], first)
        stream = _Stream(
            audio, None if prompt < 0 else prompt, kept, heard, bool(ended), bool(finished)
        )
        if kept < 0 or heard % self.chunk:
            raise ValueError("its chunks do not lie on the grid")
        if not finished and (kept > heard or first != self._before(stream) * self.samples):
            raise ValueError("its audio does not begin where its chunks end")
        return stream

    @property
    def _key(self) -> tuple[int, ...]:
        return (self.chunk, self.left, self.right, self.settle)

    def _stop(self, stream: _Stream) -> int:
        return (stream.heard + self.chunk + self.right) * self.samples

    def _before(self, stream: _Stream) -> int:
        return max(0, stream.kept - self.left) // self.unit * self.unit


def _leading_zeros(samples: npt.NDArray[np.float32]) -> int:
    heard = samples != 0
    return int(heard.argmax()) if heard.any() else len(samples)


def _cut(
    encodings: Tensor, firsts: Sequence[int], starts: Sequence[int], stops: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Steps `starts` to `stops` of rows [B, T, D] that begin with step `firsts`.

    Returns:
        [B, N, D] and lengths [B].
    """
    first, start, stop = (torch.tensor(numbers) for numbers in (firsts, starts, stops))
    lengths = stop - start
    at = (start - first)[:, None] + torch.arange(int(lengths.max()))  # [B, N]
    at = at.clamp(max=encodings.shape[1] - 1).to(encodings.device)
    rows = torch.arange(len(encodings), device=encodings.device)[:, None]
    return encodings[rows, at], lengths
