"""The stepper of models that were trained to stream: nothing is computed twice, nothing guessed.

Whatever the cuts of the audio, the tokens are those of the offline forward under the same attention
context. Knows the networks; knows no utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle.engines.torch import DecoderState, TorchEngine
from auricle.errors import ConfigError
from auricle.models.chunked import ENDLESS, ChunkedEncoder, EncoderState, chunking
from auricle.models.conformer import ConformerConfig, ContextSize
from auricle.streaming.stepping import Decoded, SampleBuffer, free_slot, prefixed, under

MOST_SECONDS = 600  # of audio that a chunk may see: what is remembered of a stream grows with it


@dataclass(frozen=True)
class Lookahead:
    """An attention context that a model was trained with, and the latency that it brings.

    `latency_ms` is from the start of a chunk to its end, the least a word can wait; features add
    the 12.5 ms that their last window looks ahead.
    """

    context: ContextSize
    latency_ms: int

    @property
    def steps(self) -> int:
        """Encoder steps that are looked ahead, R."""
        return self.context[-1]


def lookaheads(engine: TorchEngine) -> tuple[Lookahead, ...]:
    """What a model was trained to stream with, its default first; empty for all other models."""
    return _trained(engine) if engine.model.features.can_step else ()


def _trained(engine: TorchEngine) -> tuple[Lookahead, ...]:
    encoder = engine.model.config.encoder
    found = []
    for context in encoder.att_context_size if isinstance(encoder, ConformerConfig) else ():
        try:
            found.append(_lookahead(engine, context))
        except ConfigError:
            continue
    return tuple(found)


def why_not(engine: TorchEngine) -> str:
    """Why a model has no lookaheads to choose from."""
    if not _trained(engine):
        return f"{engine.name} was not trained to stream and has no lookaheads"
    features = engine.model.config.features
    option = "exact_pad" if features.exact_pad else f"normalize {features.normalize}"
    return (
        f"{engine.name} was trained with lookaheads, but its features ({option}) need the whole "
        "recording, so it streams in windows"
    )


def lookahead(engine: TorchEngine, context: ContextSize) -> Lookahead:
    """Any attention context, trained or not.

    Raises:
        ConfigError: The encoder cannot step in this context.
    """
    encoder = engine.model.config.encoder
    if not isinstance(encoder, ConformerConfig) or not engine.model.features.can_step:
        raise ConfigError(why_not(engine))
    return _lookahead(engine, context)


def _lookahead(engine: TorchEngine, context: ContextSize) -> Lookahead:
    encoder = engine.model.config.encoder
    assert isinstance(encoder, ConformerConfig)
    chunk = chunking(encoder, context)
    seen = (chunk.before + chunk.steps) * engine.model.seconds_per_step
    if seen > MOST_SECONDS:
        raise ConfigError(
            f"lookahead={list(context)} is {seen:.0f} s of audio: at most {MOST_SECONDS}"
        )
    return Lookahead(context, round(1000 * chunk.latency * engine.model.seconds_per_step))


@dataclass
class _Stream:
    """The audio of one stream that has not been heard yet, and the chunks that have."""

    audio: SampleBuffer
    prompt: int | None
    chunks: int = 0
    ended: bool = False

    def tensors(self) -> dict[str, Tensor]:
        audio = self.audio
        prompt = -1 if self.prompt is None else self.prompt
        return {
            "stream.audio": torch.from_numpy(audio.window(audio.first, audio.stop)),
            "stream.counts": torch.tensor([audio.first, prompt, self.chunks, self.ended]),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> _Stream:
        first, prompt, chunks, ended = tensors["stream.counts"].tolist()
        audio = SampleBuffer.of(tensors["stream.audio"], first)
        return cls(audio, None if prompt < 0 else prompt, chunks, bool(ended))


class CacheAwareStepper:
    """Streams of one attention context, stepped together.

    What all streams remember lies in tensors with a row for each, grown by doubling: a batch is a
    choice of rows.
    """

    def __init__(self, engine: TorchEngine, encoder: ChunkedEncoder) -> None:
        """Share `engine` and `encoder`, which hold nothing of any stream."""
        self._engine = engine
        self._encoder = encoder
        self._features = engine.model.features
        self._hop = self._features.config.hop_length
        self._streams: dict[int, _Stream] = {}
        self._memory = self._fresh(1)

    @property
    def seconds_per_step(self) -> float:
        """Length of an encoder step."""
        return self._engine.model.seconds_per_step

    @property
    def latency(self) -> float:
        """Seconds of audio from the start of a chunk until it can be decoded."""
        return self._encoder.chunking.latency * self.seconds_per_step

    @torch.inference_mode()
    def open(self, state: Mapping[str, Tensor] | None = None, *, prompt: int | None = None) -> int:
        """A slot for a new stream, or for one that goes on from `state`.

        Args:
            state: What `state` gave, of this model and context; it knows its prompt.
            prompt: The number of the language, for models with a prompt.
        """
        slot = free_slot(self._streams)
        if slot == self._memory.streams:
            grown = self._fresh(2 * slot)
            grown.put(range(slot), self._memory)
            self._memory = grown
        if state is None:
            self._memory.put([slot], self._fresh(1))
            self._streams[slot] = _Stream(SampleBuffer(), prompt)
        else:
            stream, memory = _Stream.from_tensors(state), self._memory.from_tensors(state)
            self._check(stream, memory)
            self._memory.put([slot], memory)
            self._streams[slot] = stream
        return slot

    def _check(self, stream: _Stream, memory: _Memory) -> None:
        """Refuse a state whose parts do not stand at the same place, which might never end."""
        entered = stream.chunks * self._encoder.chunking.steps
        if stream.chunks < 0 or stream.ended or memory.encoder.entered.tolist() != [entered]:
            raise ValueError("its chunks do not fit its encoder")
        if memory.encoder.frames.tolist() != [ENDLESS]:
            raise ValueError("it has an end")
        if stream.audio.first != max(0, self._first_sample(stream)):
            raise ValueError("its audio does not begin where its chunks end")
        if not self._engine.takes(stream.prompt):
            raise ValueError(f"it has prompt {stream.prompt}")

    def close(self, slot: int) -> None:
        """Forget a stream; its slot may be given to another one."""
        del self._streams[slot]

    def push(self, slot: int, samples: npt.NDArray[np.float32]) -> None:
        """More audio of a stream, [S] at the model's rate."""
        self._streams[slot].audio.push(samples)

    def end(self, slot: int) -> None:
        """There will be no more audio: what is left makes the last chunk, however short."""
        stream = self._streams[slot]
        stream.ended = True
        self._memory.encoder.frames[slot] = stream.audio.stop // self._hop

    def ready(self, slot: int) -> bool:
        """Whether there is audio enough for the next chunk; after `end`, whether any is left."""
        stream = self._streams[slot]
        if stream.ended:
            decoded = stream.chunks * self._encoder.chunking.steps - self._encoder.lag
            return decoded < self._steps(stream)
        last = self._first_frame(stream) + self._encoder.frames - 1
        return stream.audio.stop >= last * self._hop + self._features.ahead

    @torch.inference_mode()
    def step(self, slots: Sequence[int]) -> list[Decoded]:
        """Decode the next chunk of each of `slots`, all of which are ready, in one batch.

        Memory is written on as the chunk goes through the layers, so a step that raises leaves
        these streams unfit to go on.
        """
        streams = [self._streams[slot] for slot in slots]
        device, memory = self._engine.device, self._memory
        whole = len(slots) == memory.streams and list(slots) == list(range(len(slots)))
        rows = torch.tensor(slots, device=device)
        samples, stops = self._next_samples(streams)
        features, tails = self._features.step(
            samples.to(device),
            memory.samples if whole else memory.samples[rows],
            None if stops is None else stops.to(device),
        )
        memory.samples[rows] = tails
        first = memory.encoder.entered[list(slots)] - self._encoder.lag
        encodings = self._encoder.step(features, memory.encoder, slots)
        prompts = [stream.prompt for stream in streams if stream.prompt is not None]
        encodings = self._engine.model.prompted(
            encodings, torch.tensor(prompts, device=device) if prompts else None
        )
        # Where the encoder lags a chunk is one step, and what comes before a stream's beginning
        # is no step at all.
        stop = np.array([self._steps(s) if s.ended else ENDLESS for s in streams]) - first
        counts = torch.from_numpy(np.where(first < 0, 0, stop.clip(0, encodings.shape[1])))
        decoder = memory.decoder if whole else memory.decoder.select(slots)
        hypotheses, decoder = self._engine.decode(encodings, counts, state=decoder)
        memory.decoder = decoder if whole else memory.decoder.put(slots, decoder)
        for stream in streams:
            stream.chunks += 1
            stream.audio.forget(self._first_sample(stream))
        return [Decoded(hypothesis) for hypothesis in hypotheses]

    @torch.inference_mode()
    def state(self, slot: int) -> dict[str, Tensor]:
        """Everything a stream remembers, to go on with elsewhere; the stream itself goes on too."""
        return {**self._memory.select([slot]).tensors(), **self._streams[slot].tensors()}

    def _fresh(self, streams: int) -> _Memory:
        return _Memory(
            torch.zeros(streams, self._features.overlap, device=self._engine.device),
            self._encoder.initial_state(streams),
            self._engine.initial_state(streams),
        )

    def _steps(self, stream: _Stream) -> int:
        """Steps that a stream that has ended has."""
        frames = stream.audio.stop // self._hop
        return self._encoder.steps_in(frames) if frames else 0

    def _first_frame(self, stream: _Stream) -> int:
        """The first frame of the next chunk; it is negative at the beginning."""
        return stream.chunks * self._encoder.frames - self._encoder.lead

    def _first_sample(self, stream: _Stream) -> int:
        """The first sample of the next chunk that the chunk before has not heard."""
        end = self._first_frame(stream) * self._hop + self._features.ahead
        return end - self._hop

    def _next_samples(self, streams: Sequence[_Stream]) -> tuple[Tensor, Tensor | None]:
        """The audio of the next chunks [B, S], and how much of it exists where a stream ends."""
        size = self._encoder.frames * self._hop
        firsts = [self._first_sample(stream) for stream in streams]
        windows = [s.audio.window(a, a + size) for s, a in zip(streams, firsts, strict=True)]
        samples = torch.from_numpy(np.stack(windows))
        if not any(stream.ended for stream in streams):
            return samples, None
        stops = [
            stream.audio.stop - first if stream.ended else size
            for stream, first in zip(streams, firsts, strict=True)
        ]
        return samples, torch.tensor(stops)


@dataclass
class _Memory:
    """What the networks remember of S streams: the last samples, the encoder, the decoder."""

    samples: Tensor
    encoder: EncoderState
    decoder: DecoderState

    @property
    def streams(self) -> int:
        return len(self.samples)

    def select(self, rows: Sequence[int]) -> _Memory:
        return _Memory(
            self.samples[list(rows)], self.encoder.select(rows), self.decoder.select(rows)
        )

    def put(self, rows: Sequence[int], part: _Memory) -> None:
        self.samples[list(rows)] = part.samples.to(self.samples)
        self.encoder.put(rows, part.encoder)
        self.decoder = self.decoder.put(rows, part.decoder)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "features.samples": self.samples,
            **prefixed("encoder.", self.encoder.tensors()),
            **prefixed("decoder.", self.decoder.tensors()),
        }

    def from_tensors(self, tensors: Mapping[str, Tensor]) -> _Memory:
        """The inverse of `tensors`, of the kinds of state that this memory has."""
        return _Memory(
            tensors["features.samples"],
            self.encoder.from_tensors(under("encoder.", tensors)),
            self.decoder.from_tensors(under("decoder.", tensors)),
        )
