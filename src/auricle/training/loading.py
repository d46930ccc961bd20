"""From planned batches to features and tokens, here or in worker processes.

All that is random hangs on a batch's own seed, so that the number of workers changes nothing.

Letters in shapes: B batch, S samples, M mel bins, T frames, U tokens.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from auricle.audio import Samples
from auricle.checkpoints import Checkpoint
from auricle.errors import AudioError, AuricleError, ConfigError, WorkerLost, first_line
from auricle.features import LogMel
from auricle.models.asr import PromptConfig
from auricle.tokenizers import Tokenizer
from auricle.training.augment import Waveform
from auricle.training.items import Batch, Item, PlannedBatch, Sound
from auricle.training.kept import Kept
from auricle.training.recipe import Recipe
from auricle.training.sounds import FileSound, JoinedSound

Augmentation = Callable[[Samples, np.random.Generator], Samples]

_AHEAD = 4  # batches that each worker makes before they are wanted
_DITHER = 1  # follows a batch's seed where an item's number would


class Loading:
    """How items become tensors. Can be sent to a worker.

    Args:
        features: The model's; they are copied, and dither in training. Of a call they take samples
            [B, S] and lengths [B], and give features [B, M, T] and frames [B].
        tokenizer: Writes the transcripts.
        augmentation: What is done to the sound, or None.
        prompt: The numbers of languages, for models that are told one.
        invalid: "skip" leaves sound that cannot be read out of its batch; "refuse" raises.
        training: Whether there is dither.
    """

    here = False  # whether no other process can do it

    def __init__(
        self,
        features: nn.Module,
        tokenizer: Tokenizer,
        *,
        augmentation: Augmentation | None = None,
        prompt: PromptConfig | None = None,
        invalid: Literal["skip", "refuse"] = "skip",
        training: bool = True,
    ) -> None:
        self._features: Any = deepcopy(features).train(training)
        self._tokenizer, self._augmentation = tokenizer, augmentation
        self._prompt, self._invalid = prompt, invalid
        self._kept = Kept()

    @classmethod
    def of(cls, checkpoint: Checkpoint, recipe: Recipe, *, training: bool) -> Self:
        """What a recipe does to sound, for the model of `checkpoint`; in validation, nothing."""
        config = checkpoint.config
        features = LogMel(config.features)
        stored = {
            name: checkpoint.tensors.get(f"features.{name}") for name in features.state_dict()
        }
        features.load_state_dict({n: t for n, t in stored.items() if t is not None}, strict=False)
        rate = config.features.sample_rate
        return cls(
            features,
            checkpoint.tokenizer,
            augmentation=Waveform(recipe.augment, rate) if training else None,
            prompt=config.prompt,
            invalid=recipe.data.invalid,
            training=training,
        )

    def load(self, planned: PlannedBatch) -> Batch:
        """Read, change and transform the sound of a batch; write its transcripts as tokens.

        Where nothing of it could be read, the batch has no rows.

        Raises:
            AudioError: Sound that cannot be read, where that is refused; or a noise.
            ConfigError: A language that the model does not know.
        """
        return self.made(planned).batch(planned)

    def made(self, planned: PlannedBatch) -> Made:
        """What a worker sends back."""
        clips: list[Samples] = []
        kept: list[int] = []
        lost: list[str] = []
        for number, item in enumerate(planned.items):
            try:
                clips.append(self._clip(item, (*planned.seed, number)))
                kept.append(number)
            except Lost as loss:
                lost.append(str(loss))
        items = [planned.items[i] for i in kept]
        features, frames = self._heard(clips, planned.seed)
        tokens, lengths = self._written(items)
        return Made(features, frames, tokens, lengths, self._prompts(items), kept, tuple(lost))

    def _clip(self, item: Item, seed: tuple[int, ...]) -> Samples:
        try:
            samples = self._read(item.sound)
        except AudioError as error:
            if self._invalid == "refuse":
                raise
            raise Lost(str(error)) from None
        return self._changed(samples, seed)

    def _changed(self, samples: Samples, seed: tuple[int, ...]) -> Samples:
        if self._augmentation is None:
            return samples
        return self._augmentation(samples, np.random.default_rng(seed))

    def _read(self, sound: Sound) -> Samples:
        """Samples [S]; a file that is short enough to be kept is decoded once."""
        rate = self._features.config.sample_rate
        if isinstance(sound, JoinedSound):
            return sound.joined([self._read(part) for part in sound.parts], rate)
        if isinstance(sound, FileSound):
            return self._kept.get(sound, lambda: sound.read(rate))
        return sound.read(rate)

    def _heard(self, clips: list[Samples], seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Features [B, M, T] of clips, and their frames [B]."""
        config = self._features.config
        if not clips:
            bins = config.n_mels * config.frame_splicing
            return torch.zeros(0, bins, 1), torch.zeros(0, dtype=torch.int64)
        lengths = torch.tensor([len(clip) for clip in clips])
        samples = torch.zeros(len(clips), int(lengths.max()))  # [B, S]
        for row, clip in zip(samples, clips, strict=True):
            row[: len(clip)] = torch.from_numpy(clip)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_number((*seed, _DITHER)))
            features, frames = self._features(samples, lengths)
        return features, frames

    def _written(self, items: list[Item]) -> tuple[Tensor, Tensor]:
        """Tokens [B, U] of transcripts, and how many there are [B]."""
        rows = [self._tokenizer.encode(item.text, item.language) for item in items]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        tokens = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.int64)
        for place, row in zip(tokens, rows, strict=True):
            place[: len(row)] = torch.tensor(row, dtype=torch.int64)
        return tokens, lengths

    def _prompts(self, items: list[Item]) -> Tensor | None:
        """The numbers of the items' languages [B]."""
        if self._prompt is None:
            return None
        numbers = [self._number_of(item.language, item.name, self._prompt) for item in items]
        return torch.tensor(numbers, dtype=torch.int64)

    @staticmethod
    def _number_of(language: str | None, name: str, prompt: PromptConfig) -> int:
        language = language or prompt.default_language
        if language not in prompt.languages:
            known = ", ".join(list(prompt.languages)[:8])
            raise ConfigError(
                f"{name}: the model has no number for the language {language!r} (it knows {known} "
                "...): set `lang` in the row, or the source's `language`"
            )
        return prompt.languages[language]


@dataclass(frozen=True)
class Made:
    """A batch without its items, which need not travel back; `kept` are their numbers."""

    features: Tensor
    frames: Tensor
    tokens: Tensor
    lengths: Tensor
    prompt: Tensor | None
    kept: list[int]
    lost: tuple[str, ...]

    def batch(self, planned: PlannedBatch) -> Batch:
        """The whole, with the items of the plan that it was made from."""
        return Batch(
            self.features,
            self.frames,
            self.tokens,
            self.lengths,
            self.prompt,
            tuple(planned.items[i] for i in self.kept),
            planned.seed,
            planned.after,
            self.lost,
        )


@contextmanager
def batches(
    plan: Iterable[PlannedBatch], loading: Loading, workers: int = 0
) -> Iterator[Iterator[Batch]]:
    """The batches of a plan, in its order, made by `workers` processes ahead of time.

    With 0 they are made here, when they are asked for. The workers end with the context.

    Raises:
        AuricleError: See `Loading.load`; it comes while iterating, from a worker as from here.
        WorkerLost: A worker was killed; it comes within the context.
    """
    if workers < 0:
        raise ConfigError(f"data.workers must be 0 or more, got {workers}")
    if not workers or loading.here:
        yield map(loading.load, plan)
        return
    made = _made_by_workers(plan, loading, workers)
    try:
        yield made
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _worker_lost(error) from None
    finally:
        made.close()


def _made_by_workers(
    plan: Iterable[PlannedBatch], loading: Loading, workers: int
) -> Generator[Batch, None, None]:
    waiting: deque[PlannedBatch] = deque()

    def asked() -> Iterator[PlannedBatch]:
        for planned in plan:
            waiting.append(planned)
            yield planned

    loader = DataLoader(
        _Bench(loading),
        batch_size=None,
        sampler=asked(),
        num_workers=workers,
        collate_fn=_unchanged,
        prefetch_factor=_AHEAD,
        multiprocessing_context="spawn",
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # else it would draw from the one that dropout uses
    )
    for made in loader:
        planned = waiting.popleft()
        if isinstance(made, AuricleError):
            raise made
        yield made.batch(planned)


def _worker_lost(error: RuntimeError) -> WorkerLost:
    """What PyTorch says, by no kind of error of its own, wherever this process happens to be."""
    return WorkerLost(
        f"a process that loads data is gone ({first_line(error)}): most often there was too little "
        "memory for data.workers; take fewer, and go on with --resume"
    )


class _Bench(Dataset["Made | AuricleError"]):
    """Where a worker works: takes a planned batch for an index."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading

    def __getitem__(self, planned: PlannedBatch) -> Made | AuricleError:
        try:
            return self._loading.made(planned)
        except AuricleError as error:  # raised, it would come out as a worker's traceback
            return error


class Lost(Exception):
    """An item cannot be used, and why: it is left out of its batch."""


def _unchanged(made: Any) -> Any:
    return made


def _ignore_signals(worker: int) -> None:
    """Leave them to the loop, which saves before it ends; workers end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _number(seed: tuple[int, ...]) -> int:
    """One number of a seed's words, for PyTorch."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
