"""What a stream needs of the thing that turns its audio into tokens, and the audio it waits in.

Letters in shapes: S samples.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle.decoding import Hypothesis


@dataclass(frozen=True)
class Decoded:
    """What one more chunk of a stream's audio brought.

    `hypothesis` holds the chunk's tokens alone; their steps, and its `steps`, count from the start
    of the stream. `tentative` are the ids heard in audio that will be decoded again with more
    context: they may change.
    """

    hypothesis: Hypothesis
    tentative: tuple[int, ...] = ()


class Stepper(Protocol):
    """Decodes the chunks of many streams in batches; each stream has a slot.

    Not safe to call from several threads at once: the caller holds a lock.
    """

    @property
    def seconds_per_step(self) -> float:
        """Length of an encoder step."""
        ...

    @property
    def latency(self) -> float:
        """Seconds of audio from the start of a chunk until it can be decoded."""
        ...

    def open(self, state: Mapping[str, Tensor] | None = None, *, prompt: int | None = None) -> int:
        """A slot for a new stream, or for one that goes on from `state`.

        Args:
            state: What `state` gave, of this model and these chunks; it knows its prompt.
            prompt: The number of the language, for models with a prompt.

        Raises:
            ConfigError: The state is of other chunks.
        """
        ...

    def close(self, slot: int) -> None:
        """Forget a stream; its slot may be given to another one."""
        ...

    def push(self, slot: int, samples: npt.NDArray[np.float32]) -> None:
        """More audio of a stream, [S] at the model's rate."""
        ...

    def end(self, slot: int) -> None:
        """There will be no more audio: what is left makes the last chunk, however short."""
        ...

    def ready(self, slot: int) -> bool:
        """Whether there is audio enough for the next chunk; after `end`, whether any is left."""
        ...

    def step(self, slots: Sequence[int]) -> list[Decoded]:
        """Decode the next chunk of each of `slots`, all of which are ready, in one batch."""
        ...

    def state(self, slot: int) -> dict[str, Tensor]:
        """Everything a stream remembers, to go on with elsewhere; the stream itself goes on too."""
        ...


def free_slot(taken: Collection[int]) -> int:
    """The least number that is no slot, so that memory has no more rows than it ever needed."""
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, their names behind `prefix`."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `prefixed`, of tensors some of which have the prefix."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


class SampleBuffer:
    """The end of a stream's audio: samples are counted from the start of the stream."""

    def __init__(self, samples: npt.NDArray[np.float32] | None = None, first: int = 0) -> None:
        """Begin with `samples`, of which `first` is the number of the first one."""
        self._samples = np.zeros(0, np.float32) if samples is None else samples.copy()
        self._first = first
        self._start, self._end = 0, len(self._samples)  # what is held, within the array

    @classmethod
    def of(cls, samples: Tensor, first: int) -> Self:
        """What was saved of another buffer.

        Raises:
            ValueError: It is no audio.
        """
        if samples.dtype != torch.float32 or samples.dim() != 1 or not samples.isfinite().all():
            raise ValueError(f"{samples.dtype} {list(samples.shape)} is no audio")
        return cls(samples.cpu().numpy(), first)

    @property
    def first(self) -> int:
        """The earliest sample that is still held."""
        return self._first

    @property
    def stop(self) -> int:
        """Samples pushed so far."""
        return self._first + self._end - self._start

    def push(self, samples: npt.NDArray[np.float32]) -> None:
        """Append `samples`."""
        if self._end + len(samples) > len(self._samples):
            self._move(np.empty(2 * (self.stop - self._first) + len(samples), np.float32))
        self._samples[self._end : self._end + len(samples)] = samples
        self._end += len(samples)

    def window(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """A copy of samples `start` to `stop`, with zeros where there are none."""
        out = np.zeros(stop - start, np.float32)
        low, high = max(start, self._first), min(stop, self.stop)
        if low < high:
            shift = self._start - self._first
            out[low - start : high - start] = self._samples[low + shift : high + shift]
        return out

    def forget(self, before: int) -> None:
        """Let go of the samples before number `before`."""
        gone = min(before, self.stop) - self._first
        if gone <= 0:
            return
        self._first += gone
        self._start += gone
        held = self._end - self._start
        if self._start > 2 * held:  # seldom enough that a long push is not copied at every chunk
            self._move(np.empty(held, np.float32))

    def _move(self, room: npt.NDArray[np.float32]) -> None:
        held = self._end - self._start
        room[:held] = self._samples[self._start : self._end]
        self._samples, self._start, self._end = room, 0, held
