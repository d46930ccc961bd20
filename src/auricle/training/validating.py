"""Decodes held-out speech in the middle of a training: the loss, WER and CER of every head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TypedDict

import torch

from auricle.decoding.times import decode_text
from auricle.metrics import Errors, character_errors, word_errors
from auricle.text import comparable, spaced
from auricle.tokenizers import Tokenizer
from auricle.training import loading
from auricle.training.items import Batch, PlannedBatch
from auricle.training.loading import Loading
from auricle.training.recipe import Reduction
from auricle.training.texts import UNKNOWN
from auricle.training.trainee import Learner

# Held-out speech up to this is heard once and kept: its features are 120 MB.
_KEPT_SECONDS = 3600.0


class Heard(TypedDict):
    """A clip, what was said in it, and what the default head heard: texts as they are compared."""

    name: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Validation:
    """What a validation found: word `errors` and those of `characters`, for every head.

    The loss is the mean over `counted` utterances or tokens, as that of a step is.
    References are compared as `reference_writer` gives them: a model that learns capitals and marks
    is judged with them. `heard` are this rank's clips, `lost` counts those that could not be used,
    `unspaced` those whose words are characters, for their script puts no spaces between words.
    """

    loss: float
    errors: Mapping[str, Errors]
    counted: int
    heard: tuple[Heard, ...] = ()
    characters: Mapping[str, Errors] = field(default_factory=dict)
    lost: int = 0
    unspaced: int = 0

    def values(self, default_head: str) -> dict[str, float]:
        """For the log: `wer` and `cer` of the default head; a hybrid's others have their own."""
        found = {"loss": self.loss, "wer": self.errors[default_head].rate}
        for name, errors in (("wer", self.errors), ("cer", self.characters)):
            for head, of_head in errors.items():
                found[name if head == default_head else f"{name}_{head}"] = of_head.rate
        return found

    def numbers(self) -> list[float]:
        """Everything that adds up over ranks, in a fixed order."""
        errors = [
            float(n)
            for head in sorted(self.errors)
            for of_head in (self.errors[head], self.characters.get(head, Errors()))
            for n in astuple(of_head)
        ]
        found = (self.counted, self.lost, self.unspaced)
        return [self.loss * self.counted, *map(float, found), *errors]

    @classmethod
    def of_numbers(cls, numbers: list[float], heads: Iterable[str]) -> Validation:
        """The inverse of `numbers`, also for their sums over ranks."""
        total, counted, lost, unspaced, *rest = numbers
        fours = iter([Errors(*map(int, rest[i : i + 4])) for i in range(0, len(rest), 4)])
        both = {head: (next(fours), next(fours)) for head in sorted(heads)}
        return cls(
            total / max(counted, 1),
            {head: words for head, (words, _) in both.items()},
            int(counted),
            characters={head: characters for head, (_, characters) in both.items()},
            lost=int(lost),
            unspaced=int(unspaced),
        )


def counted(batch: Batch, reduction: Reduction) -> int:
    """What a batch adds to the count that losses are divided by."""
    return int(batch.lengths.sum()) if reduction == "mean_volume" else len(batch.items)


def reference_writer(tokenizer: Tokenizer) -> Callable[[str, str | None], str]:
    """How a model with this tokenizer would write a text, so that a perfect one has no errors.

    NeMo decodes a reference from its own ids too. Unlike there, a word that the vocabulary lacks
    letters for stays as it is, and so is wrong whatever the model writes.
    """
    unknown = frozenset(i for i, piece in enumerate(tokenizer.pieces) if piece in UNKNOWN)

    def form(text: str, language: str | None) -> str | None:
        ids = tokenizer.encode(text, language)
        known = decode_text(ids, tokenizer)[0]
        if unknown:
            return None if unknown & set(ids) else known
        return known if _letters(known) == _letters(text) else None

    def written(text: str, language: str | None) -> str:
        whole = form(text, language)
        if whole is None:
            whole = " ".join(form(word, language) or word for word in text.split())
        return comparable(whole)

    return written


def _letters(text: str) -> list[str]:
    return [c for c in comparable(text).casefold() if c.isalnum()]


def validate(
    objective: Learner,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    device: torch.device,
    reduction: Reduction = "mean_batch",
) -> Validation:
    """Decode `batches` greedily with every head; the model is in evaluation mode afterwards."""
    objective.eval()
    written = reference_writer(tokenizer)
    words, characters = (dict.fromkeys(objective.heads, Errors()) for _ in range(2))
    loss, count, lost, unspaced = 0.0, 0, 0, 0
    heard: list[Heard] = []
    for batch in batches:
        # Ranks that hold pieces of the model need each other for every batch.
        there = (batch if batch.items else batch.silence()).to(device)
        losses, texts = objective.judged(there, tokenizer)
        lost += len(batch.lost)
        if not batch.items:
            continue
        loss += float(losses["loss"])
        count += counted(batch, reduction)
        references = [written(item.text, item.language) for item in batch.items]
        unspaced += sum(spaced(reference) != reference for reference in references)
        for head, hypotheses in texts.items():
            for item, said, text in zip(batch.items, references, hypotheses, strict=True):
                hypothesis = comparable(text)
                words[head] += word_errors(said, hypothesis, normalise=str)
                characters[head] += character_errors(said, hypothesis, normalise=str)
                if head == objective.default_head:
                    heard.append(Heard(name=item.name, reference=said, hypothesis=hypothesis))
    return Validation(loss / max(count, 1), words, count, tuple(heard), characters, lost, unspaced)


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
