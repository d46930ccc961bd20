"""Decodes held-out speech in the middle of a training: the loss, and the WER of every head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TypedDict

import torch

from auricle.metrics import Errors, word_errors
from auricle.tokenizers import Tokenizer
from auricle.training import loading
from auricle.training.items import Batch, PlannedBatch
from auricle.training.loading import Loading
from auricle.training.recipe import Reduction
from auricle.training.trainee import Learner

# Held-out speech up to this is heard once and kept: its features are 120 MB.
_KEPT_SECONDS = 3600.0


class Heard(TypedDict):
    """A clip, what was said in it, and what the default head heard."""

    name: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Validation:
    """What a validation found; `errors` are words as the recipe writes them, for every head.

    The loss is the mean over `counted` utterances or tokens, as that of a step is.
    Texts are compared as they stand: a model that learns capitals and marks is judged with them.
    `heard` are this rank's clips.
    """

    loss: float
    errors: Mapping[str, Errors]
    counted: int
    heard: tuple[Heard, ...] = ()

    def values(self, default_head: str) -> dict[str, float]:
        """For the log: `wer` is that of the default head; a hybrid's others have their own."""
        others = {f"wer_{h}": e.rate for h, e in self.errors.items() if h != default_head}
        return {"loss": self.loss, "wer": self.errors[default_head].rate, **others}

    def numbers(self) -> list[float]:
        """Everything that adds up over ranks, in a fixed order."""
        errors = [float(n) for head in sorted(self.errors) for n in astuple(self.errors[head])]
        return [self.loss * self.counted, float(self.counted), *errors]

    @classmethod
    def of_numbers(cls, numbers: list[float], heads: Iterable[str]) -> Validation:
        """The inverse of `numbers`, also for their sums over ranks."""
        total, counted, *rest = numbers
        errors = {
            head: Errors(*(int(n) for n in rest[4 * i : 4 * i + 4]))
            for i, head in enumerate(sorted(heads))
        }
        return cls(total / max(counted, 1), errors, int(counted))


def counted(batch: Batch, reduction: Reduction) -> int:
    """What a batch adds to the count that losses are divided by."""
    return int(batch.lengths.sum()) if reduction == "mean_volume" else len(batch.items)


def validate(
    objective: Learner,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    device: torch.device,
    reduction: Reduction = "mean_batch",
) -> Validation:
    """Decode `batches` greedily with every head; the model is in evaluation mode afterwards."""
    objective.eval()
    errors = dict.fromkeys(objective.heads, Errors())
    loss, count = 0.0, 0
    heard: list[Heard] = []
    for batch in batches:
        # Ranks that hold pieces of the model need each other for every batch.
        there = (batch if batch.items else batch.silence()).to(device)
        losses, texts = objective.judged(there, tokenizer)
        if not batch.items:
            continue
        loss += float(losses["loss"])
        count += counted(batch, reduction)
        for head, written in texts.items():
            for item, text in zip(batch.items, written, strict=True):
                errors[head] += word_errors(item.text, text, normalise=str)
                if head == objective.default_head:
                    heard.append(Heard(name=item.name, reference=item.text, hypothesis=text))
    return Validation(loss / max(count, 1), errors, count, tuple(heard))


class HeldOut:
    """The held-out batches, as often as they are asked for; few enough are heard only once.

    Attributes:
        utterances: How many there are in all of them.
    """

    def __init__(
        self, planned: Sequence[PlannedBatch], without_change: Loading, workers: int
    ) -> None:
        self._planned, self._loading, self._workers = planned, without_change, workers
        self.utterances = sum(len(batch.items) for batch in planned)
        self._few = sum(i.duration for batch in planned for i in batch.items) <= _KEPT_SECONDS
        self._kept: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] = []
        with loading.batches(iter(self._planned), self._loading, self._workers) as batches:
            for batch in batches:
                if self._few:
                    kept.append(batch)
                yield batch
        if self._few:
            self._kept = kept
