"""Streams cut into chunks at random and decoded in batches of whichever come along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, Self, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from auricle.decoding import Hypothesis


class DecoderState(Protocol):
    """What both decoders' states can do."""

    def select(self, rows: Sequence[int]) -> Self: ...

    def put(self, rows: Sequence[int], part: Self) -> Self: ...

    def tensors(self) -> dict[str, Tensor]: ...

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self: ...


State = TypeVar("State", bound=DecoderState)


def random_cuts(length: int, generator: torch.Generator, most: int = 9) -> list[int]:
    """Lengths of chunks that make `length` together; a third are empty or of one step."""
    cuts: list[int] = []
    while sum(cuts) < length:
        kind = int(torch.randint(6, (), generator=generator))
        size = kind if kind < 2 else int(torch.randint(2, most + 1, (), generator=generator))
        cuts.append(min(size, length - sum(cuts)))
    return [*cuts, 0]


def decode_in_chunks(
    decode: Callable[[Tensor, Tensor, State], tuple[list[Hypothesis], State]],
    streams: Tensor,
    cuts: Sequence[Sequence[int]],
    state: State,
    generator: torch.Generator,
) -> tuple[list[list[Hypothesis]], State]:
    """Decode each of `streams` [B, T, D] in its own cuts.

    Every round takes some of the streams that have chunks left, in any order, out of `state` and
    puts them back; at a third of the rounds the state is written to bytes and read again.
    """
    parts: list[list[Hypothesis]] = [[] for _ in cuts]
    while left := [row for row, own in enumerate(cuts) if len(parts[row]) < len(own)]:
        order = torch.randperm(len(left), generator=generator).tolist()
        rows = [
            left[i] for i in order[: 1 + int(torch.randint(len(left), (), generator=generator))]
        ]
        starts = [sum(cuts[row][: len(parts[row])]) for row in rows]
        lengths = [cuts[row][len(parts[row])] for row in rows]
        chunk = torch.zeros(len(rows), max(lengths), streams.shape[-1])
        for to, row, start, length in zip(chunk, rows, starts, lengths, strict=True):
            to[:length] = streams[row, start : start + length]
        found, part = decode(chunk, torch.tensor(lengths), state.select(rows))
        state = state.put(rows, part)
        if int(torch.randint(3, (), generator=generator)) == 0:
            state = restored(state)
        for row, hypothesis in zip(rows, found, strict=True):
            parts[row].append(hypothesis)
    return parts, state


def restored(state: State) -> State:
    """The same state after a journey through bytes."""
    saved = safetensors.torch.save(state.tensors())
    return type(state).from_tensors(safetensors.torch.load(saved))


def joined(parts: Sequence[Hypothesis]) -> Hypothesis:
    """The hypothesis of a whole stream from those of its chunks."""
    whole = replace(parts[0], continues=False)
    assert not parts[0].continues
    for part in parts[1:]:
        kept = slice(-1) if part.continues else slice(None)
        if part.continues:
            assert (part.ids[0], part.starts[0]) == (whole.ids[-1], whole.starts[-1])
            assert part.ends[0] > whole.ends[-1]
        whole = replace(
            whole,
            ids=whole.ids[kept] + part.ids,
            starts=whole.starts[kept] + part.starts,
            ends=whole.ends[kept] + part.ends,
            confidences=whole.confidences[kept] + part.confidences,
            durations=whole.durations + part.durations,
            score=whole.score + part.score,
            steps=part.steps,
        )
    return whole


def assert_same_state(mine: State, other: State) -> None:
    """All tensors agree: whole numbers exactly, others within float32's rounding."""
    assert mine.tensors().keys() == other.tensors().keys()
    for name, tensor in mine.tensors().items():
        torch.testing.assert_close(tensor, other.tensors()[name], msg=name)
