"""What is learnt from: an item is one utterance without its sound, a batch is many with features.

Letters in shapes: B batch, S samples, M mel bins, T frames, U tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from auricle.audio import Samples

if TYPE_CHECKING:  # who only reads rows needs no torch
    import torch
    from torch import Tensor

_SILENCE = 160  # frames


@runtime_checkable
class Sound(Protocol):
    """Where an item's sound lies; small, and can be sent to a worker process."""

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S].

        Raises:
            AudioError: It cannot be read; the message names it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance to learn from.

    `name` is for messages; `duration` is in seconds; `data` holds the row's other keys.
    """

    name: str
    sound: Sound
    duration: float
    text: str
    language: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the endless row of batches: `batch` batches of `epoch` (of all ranks) are done."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One rank's next batch: what to hear, the seed of its random choices, and where it stands.

    `after` is where a run goes on that has done this batch and all before it.
    """

    items: tuple[Item, ...]
    seed: tuple[int, ...]
    after: Position


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step of training sees; `lost` says, a line each, which items could not be used."""

    features: Tensor  # [B, M, T] float32
    frames: Tensor  # [B]
    tokens: Tensor  # [B, U] int64, padded with 0
    lengths: Tensor  # [B]
    prompt: Tensor | None  # [B], the numbers of languages
    items: tuple[Item, ...]
    seed: tuple[int, ...]
    after: Position
    lost: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Audio in it, padding not counted."""
        return sum(item.duration for item in self.items)

    def silence(self) -> Batch:
        """One row of nothing, with no tokens, instead of no rows: the other ranks wait for it."""
        import torch

        return replace(
            self,
            features=torch.zeros(1, self.features.shape[1], _SILENCE),
            frames=torch.tensor([_SILENCE]),
            tokens=torch.zeros(1, 0, dtype=torch.int64),
            lengths=torch.tensor([0]),
            prompt=None if self.prompt is None else torch.zeros(1, dtype=torch.int64),
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        names = ("features", "frames", "tokens", "lengths", "prompt")
        held = {name: getattr(self, name) for name in names}
        moved = {n: t.to(device, non_blocking=True) for n, t in held.items() if t is not None}
        return replace(self, **moved)
