"""The loop: from a recipe to a trained model in a run folder; every kind of training is this one.

A step takes `accumulate` batches on every rank, divides the sum of their losses by the count of all
of them, and moves the weights once. All that is random hangs on the seed and the number of the
step, so that a run that was killed goes on from its last save as if nothing had been.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from auricle.checkpoints import Checkpoint
from auricle.errors import MissingExtra, NonFiniteLoss
from auricle.models.norms import BatchNorm
from auricle.tokenizers import Tokenizer
from auricle.training import loading, tokenizing
from auricle.training.alignment import ModelFacts
from auricle.training.averaging import Ema, average
from auricle.training.batching import Plan, sorted_batches
from auricle.training.checking import check, sifted
from auricle.training.items import Batch, PlannedBatch, Position
from auricle.training.loading import Loading
from auricle.training.objective import Objective
from auricle.training.optimizing import build_optimizer, learning_rate
from auricle.training.progress import Progress, Silent
from auricle.training.reading import to_yaml
from auricle.training.recipe import DataRecipe, Recipe, TrainRecipe
from auricle.training.run import RunFolder, last_state
from auricle.training.sources import Source, open_sources, texts
from auricle.training.spec_augment import SpecAugment
from auricle.training.starting import beginning, trainable
from auricle.training.trackers import Tracker, open_trackers
from auricle.training.validating import Validation, validate

Ending = Literal["finished", "early", "minutes", "interrupted", "terminated"]

_SIGNALS: dict[int, Ending] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# Held-out speech up to this is heard once and kept: its features are 120 MB.
_KEPT_SECONDS = 3600.0
_SILENCE = 160  # frames


@dataclass(frozen=True)
class TrainResult:
    """How a training ended; `wer` is the best one, None where nothing was validated."""

    folder: Path
    step: int
    wer: float | None
    ending: Ending


@dataclass
class Standing:
    """How far a training is: what a save holds besides tensors, the same on all ranks."""

    step: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of work, over all resumes
    heard: float = 0.0  # seconds of audio
    best: float | None = None
    stale: int = 0  # validations since the best one
    validated: int = 0  # the last step that was

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**vars(self), "position": [self.position.epoch, self.position.batch]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Standing:
        """The inverse of `to_dict`."""
        return cls(**{**data, "position": Position(*data["position"])})


@dataclass
class _Training:
    """What the steps work with; `network` is `objective` as `accelerate` wrapped it."""

    recipe: Recipe
    accelerator: Any
    start: Checkpoint
    objective: Objective
    network: nn.Module
    optimizer: Any
    ema: Ema | None
    plan: Plan
    loading: Loading
    held_out: Iterable[Batch]
    total: int | None
    run: RunFolder | None  # None on all ranks but the first
    trackers: Tracker
    progress: Progress
    signals: list[int]  # those that this process was sent
    at: Standing = field(default_factory=Standing)
    saved: int = 0  # the last step that was
    stop: int = 0  # the signal that some rank was sent
    wer: float | None = None

    def checkpoint(self) -> Checkpoint:
        """The model as it stands, averaged where the recipe says so."""
        with self.averaged():
            state = self.objective.model.state_dict()
            tensors = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        return replace(self.start, tensors=tensors)

    def averaged(self) -> Any:
        """A context in which the model has its averaged weights, where there are such."""
        return self.ema.in_place() if self.ema else nullcontext()


def train(
    recipe: Recipe, folder: Path, *, resume: bool = False, progress: Progress | None = None
) -> TrainResult:
    """Train what `recipe` says in `folder`, on every process that `accelerate launch` started.

    Args:
        recipe: What to train, on what, and for how long.
        folder: The run folder; see `run.RunFolder` for what stands in it.
        resume: Go on from the last save in `folder`; False refuses a folder with a run.
        progress: Is told what happens; None is silent.

    Raises:
        ConfigError: The recipe contradicts itself, its data, or the run in `folder`.
        ManifestError: A manifest that cannot be read.
        AudioError: A recording that cannot be read, where the recipe refuses such.
        NonFiniteLoss: The loss is no number; the batch is saved, nothing was learnt from it.
        OSError: The disk is full; the save before stays whole.
    """
    accelerator = _accelerator(recipe)
    main = accelerator.is_main_process
    told: Progress = (progress or Silent()) if main else Silent()
    opened = RunFolder.open(folder, to_yaml(recipe), resume=resume) if main else nullcontext()
    with opened as run, _caught_signals() as signals:
        training = _prepared(recipe, accelerator, run, told, signals)
        if resume:
            _restore(training, folder)
        if run is not None:
            run.write_start({"seed": recipe.train.seed, "processes": accelerator.num_processes})
        told.started(training.total, recipe.train.minutes, training.at.step)
        try:
            ending = _run(training)
            if recipe.train.average and ending in ("finished", "early", "minutes"):
                _average_best(training)
        finally:
            training.trackers.close()
        result = TrainResult(folder, training.at.step, training.at.best, ending)
        told.finished(ending)
    return result


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError:
        raise MissingExtra("training needs an extra: pip install 'auricle[train]'") from None
    precision = recipe.train.precision
    # Only dropped layers leave parameters without a gradient, and looking for them costs time.
    drops = recipe.model.encoder.get("stochastic_depth_drop_prob", 0.0) > 0
    ddp = DistributedDataParallelKwargs(find_unused_parameters=drops)
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        # Else accelerate takes each of torchrun's processes without a GPU for the only one.
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[ddp],
    )


def _prepared(
    recipe: Recipe, accelerator: Any, run: RunFolder | None, progress: Progress, signals: list[int]
) -> _Training:
    data = recipe.data
    learnt, held_out = open_sources(data.train, data), open_sources(data.validation, data)
    tokenizer = None
    if recipe.init_from is None:
        tokenizer = _agreed(accelerator, lambda: _tokenizer(recipe, learnt, run))
    start = beginning(recipe, tokenizer)
    learnt = _usable(learnt, start, data, progress)
    model = trainable(start)
    spec = recipe.augment.spec
    objective = Objective(model, recipe.loss, SpecAugment(spec) if spec else None)
    network, optimizer = accelerator.prepare(
        objective, build_optimizer(objective, recipe.optimizer)
    )
    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(learnt, data, seed=recipe.train.seed, rank=rank, world=world)
    unchanged = Loading.of(start, recipe, training=False)
    shown = sorted_batches([item for s in held_out for item in s.items()], data, rank, world)
    return _Training(
        recipe=recipe,
        accelerator=accelerator,
        start=start,
        objective=objective,
        network=network,
        optimizer=optimizer,
        ema=Ema(model, recipe.train.ema) if recipe.train.ema else None,
        plan=plan,
        loading=Loading.of(start, recipe, training=True),
        held_out=_HeldOut(shown, unchanged, data.workers),
        total=_total_steps(recipe, plan),
        run=run,
        trackers=open_trackers(recipe, run),
        progress=progress,
        signals=signals,
    )


def _usable(
    learnt: Sequence[Source], start: Checkpoint, data: DataRecipe, progress: Progress
) -> list[Source]:
    """The sources without what nothing can be learnt from; streams cannot be looked at before."""
    known = [source for source in learnt if source.size is not None]
    report = check(known, start.tokenizer, data, ModelFacts.of(start.config))
    if known:
        report.refuse()
    if report.dropped:
        progress.said(
            f"{len(report.dropped)} of {report.items} items are left out; --check says why"
        )
    return [sifted(source, report) for source in learnt]


def _tokenizer(recipe: Recipe, learnt: Sequence[Source], run: RunFolder | None) -> Tokenizer:
    """That of the run, where one goes on: the texts may have changed since."""
    assert run is not None  # only the first rank makes it
    kept = run.path / "tokenizer"
    if run.resumed and kept.exists():
        return tokenizing.open_tokenizer(kept)
    tokenizer = tokenizing.build(texts(learnt), recipe.tokenizer)
    tokenizing.save(tokenizer, kept)
    return tokenizer


def _agreed(accelerator: Any, make: Any) -> Any:
    """What the first rank makes, on every rank."""
    made = [make() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(made)
    return made[0]


def _total_steps(recipe: Recipe, plan: Plan) -> int | None:
    """Steps to the end, for the schedule; those of `epochs` by what the first one takes."""
    train = recipe.train
    if train.epochs is None:
        return train.steps
    steps = math.ceil(train.epochs * plan.batches_per_epoch() / (train.accumulate * plan.world))
    return min(steps, train.steps or steps)


def _run(training: _Training) -> Ending:
    """Steps, validations and saves, until something ends it."""
    train, at = training.recipe.train, training.at
    planned = training.plan.batches(at.position)
    with loading.batches(planned, training.loading, training.recipe.data.workers) as batches:
        while (ending := _ending(train, training)) is None:
            values = _step(training, list(islice(batches, train.accumulate)))
            _log(training, values)
            if at.step % train.validate_every == 0:
                _validate(training)
            if at.step % train.save_every == 0:
                _save(training)
    if ending in ("finished", "minutes") and at.validated != at.step:
        _validate(training)
    if training.saved != at.step:
        _save(training)
    return ending


def _ending(train: TrainRecipe, training: _Training) -> Ending | None:
    """Why no further step is to be made, the same on all ranks; None where there is no reason."""
    at = training.at
    if training.stop:
        return _SIGNALS[training.stop]
    if train.minutes is not None and at.seconds >= 60 * train.minutes:
        return "minutes"
    if train.patience is not None and at.stale > train.patience:
        return "early"
    steps = train.steps is not None and at.step >= train.steps
    epochs = train.epochs is not None and at.position.epoch >= train.epochs
    return "finished" if steps or epochs else None


def _step(training: _Training, batches: Sequence[Batch]) -> dict[str, float]:
    """Move the weights once; gives what there is to say of it.

    Raises:
        NonFiniteLoss: On every rank, where it is so on one; the weights stay as they were.
    """
    began = time.perf_counter()
    recipe, accelerator, at = training.recipe, training.accelerator, training.at
    rate = learning_rate(recipe.schedule, recipe.optimizer.lr, at.step, training.total)
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    _learning(training.objective, recipe.train.freeze_batch_norm)
    torch.manual_seed(_seed(recipe.train.seed, at.step, accelerator.process_index))
    # Gradients are averaged over the ranks: times their number, that is the sum.
    scale = accelerator.num_processes / _count(training, batches)
    sums = [_backward(training, batch, scale, last=batch is batches[-1]) for batch in batches]
    norm = accelerator.clip_grad_norm_(training.network.parameters(), recipe.train.clip or math.inf)
    facts = _shared(training, batches, sums, time.perf_counter() - began)
    _refuse_non_finite(training, batches, sums, facts["loss"], float(norm))
    training.optimizer.step()
    training.optimizer.zero_grad()
    at.step += 1
    if training.ema is not None:
        training.ema.update(at.step)
    return {**facts, "lr": rate, "gradient_norm": float(norm)}


def _learning(objective: Objective, freeze_batch_norm: bool) -> None:
    if objective.training:
        return
    objective.train()
    if freeze_batch_norm:
        for module in objective.modules():
            if isinstance(module, BatchNorm):
                module.eval()


def _seed(*numbers: int) -> int:
    """One number that hangs on all of `numbers`, as a hash does."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _count(training: _Training, batches: Sequence[Batch]) -> int:
    """What the step's sum is divided by: utterances or tokens of all batches on all ranks."""
    if training.recipe.loss.reduction == "mean_volume":
        own = sum(int(batch.lengths.sum()) for batch in batches)
    else:
        own = sum(len(batch.items) for batch in batches)
    count = torch.tensor(own, device=training.accelerator.device)
    return max(1, int(training.accelerator.reduce(count, "sum")))


def _backward(training: _Training, batch: Batch, scale: float, *, last: bool) -> dict[str, float]:
    """Add a batch's gradients; its losses, with `scale` in them. Ranks meet at the last one."""
    if not batch.items:  # all of it was lost, but the other ranks wait for gradients
        batch, scale = _silence(batch), 0.0
    there = batch.to(training.accelerator.device)
    meets = nullcontext() if last else training.accelerator.no_sync(training.network)
    with meets:
        losses: Mapping[str, Tensor] = training.network(
            there.features, there.frames, there.tokens, there.lengths, there.prompt
        )
        training.accelerator.backward(losses["loss"] * scale)
    return {name: float(value.detach()) * scale for name, value in losses.items()}


def _silence(empty: Batch) -> Batch:
    """One row of nothing, with no tokens, like a batch that has no rows."""
    bins = empty.features.shape[1]
    return replace(
        empty,
        features=torch.zeros(1, bins, _SILENCE),
        frames=torch.tensor([_SILENCE]),
        tokens=torch.zeros(1, 0, dtype=torch.int64),
        lengths=torch.tensor([0]),
        prompt=None if empty.prompt is None else torch.zeros(1, dtype=torch.int64),
    )


def _shared(
    training: _Training,
    batches: Sequence[Batch],
    sums: Sequence[Mapping[str, float]],
    seconds: float,
) -> dict[str, float]:
    """What all ranks know of the step; moves where the training stands."""
    at, accelerator = training.at, training.accelerator
    names = sorted(sums[0])
    own = [
        *(sum(values[name] for values in sums) for name in names),
        sum(batch.seconds for batch in batches),
        sum(len(batch.lost) for batch in batches),
        at.seconds + seconds,
        max(training.signals, default=0),
    ]
    row = torch.tensor([own], dtype=torch.float64, device=accelerator.device)
    rows = accelerator.gather(row).cpu().numpy()  # [ranks, numbers]
    k = len(names)
    facts = {name: float(rows[:, i].mean()) for i, name in enumerate(names)}
    heard, lost = float(rows[:, k].sum()), float(rows[:, k + 1].sum())
    at.heard += heard
    at.seconds = float(rows[:, k + 2].max())
    training.stop = int(rows[:, k + 3].max())
    at.position = batches[-1].after
    for line in (line for batch in batches for line in batch.lost):
        training.progress.said(line)
    return {**facts, "epoch": at.position.epoch, "audio_seconds": heard, "lost": lost}


def _refuse_non_finite(
    training: _Training,
    batches: Sequence[Batch],
    sums: Sequence[Mapping[str, float]],
    loss: float,
    norm: float,
) -> None:
    # Halved numbers overflow now and then, and then the scaler of fp16 leaves the step out.
    overflow = training.recipe.train.precision == "fp16" and not math.isfinite(norm)
    if math.isfinite(loss) and (math.isfinite(norm) or overflow):
        return
    step = training.at.step + 1
    at_fault = [b for b, s in zip(batches, sums, strict=True) if not math.isfinite(s["loss"])]
    what = "loss" if at_fault or not math.isfinite(loss) else "gradient"
    place = ""
    if training.run is not None:
        for number, batch in enumerate(at_fault or batches):
            tensors = {name: getattr(batch, name) for name in ("features", "frames", "tokens")}
            path = training.run.dump_batch(step, number, batch.items, tensors)
            place = f"; its items are in {path.parent}"
    names = [item.name for batch in at_fault or batches for item in batch.items]
    raise NonFiniteLoss(
        f"the {what} of step {step} is no number, nothing was learnt from it{place}: "
        f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}; "
        "listen to them, or lower optimizer.lr, then go on with --resume"
    )


def _log(training: _Training, values: Mapping[str, float]) -> None:
    at, device = training.at, training.accelerator.device
    if at.step % training.recipe.log.every == 0 or at.step == 1:
        if training.run is not None:
            training.run.log(at.step, "train", values)
        training.trackers.log(at.step, {f"train/{name}": v for name, v in values.items()})
    training.progress.step(
        at.step,
        values["loss"],
        lr=values["lr"],
        seconds_of_audio=values["audio_seconds"],
        wer=training.wer,
        memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def _validate(training: _Training) -> None:
    """Decode the held-out speech on all ranks, and keep the model if it is good."""
    at, accelerator = training.at, training.accelerator
    if not training.recipe.data.validation:
        return
    with training.averaged():
        model = training.objective.model
        own = validate(
            training.objective, _shown(training), training.start.tokenizer, accelerator.device
        )
    numbers = torch.tensor(own.numbers(), dtype=torch.float64, device=accelerator.device)
    summed = accelerator.reduce(numbers, "sum").tolist()
    values = Validation.of_numbers(summed, model.heads).values(training.start.config.default_head)
    wer = training.wer = values["wer"]
    best = at.best is None or wer <= at.best
    at.best, at.stale, at.validated = wer if best else at.best, 0 if best else at.stale + 1, at.step
    if training.run is not None:
        training.run.log(at.step, "validation", values)
        training.run.keep_best(at.step, wer, training.checkpoint())
        training.run.plots()
    training.trackers.log(at.step, {f"validation/{name}": v for name, v in values.items()})
    training.progress.validated(at.step, wer, values["loss"], best)


def _shown(training: _Training) -> Iterator[Batch]:
    """The held-out batches, said as they go."""
    done = 0
    for batch in training.held_out:
        for line in batch.lost:
            training.progress.said(line)
        yield batch
        done += len(batch.items)
        training.progress.validating(done, None)


def _save(training: _Training) -> None:
    if training.run is not None:
        scaler = training.accelerator.scaler
        path = training.run.save(
            training.at.step,
            {
                "weights": training.objective.model.state_dict(),
                "optimizer": training.optimizer.state_dict(),
                "ema": training.ema.state_dict() if training.ema else None,
                "facts": {**training.at.to_dict(), "scaler": scaler and scaler.state_dict()},
            },
        )
        if not training.recipe.data.validation:
            training.run.write_model(training.checkpoint())
            training.run.plots()
        training.progress.saved(training.at.step, path)
    training.saved = training.at.step


def _restore(training: _Training, folder: Path) -> None:
    """Go on from the last save; from the beginning where there is none."""
    found = training.run.last() if training.run is not None else last_state(folder)
    if found is None:
        return
    training.saved, state = found
    training.objective.model.load_state_dict(state["weights"])
    training.optimizer.load_state_dict(state["optimizer"])
    if training.ema is not None and state["ema"] is not None:
        training.ema.load_state_dict(state["ema"])
    facts = dict(state["facts"])
    scaler = facts.pop("scaler")
    if scaler and training.accelerator.scaler is not None:
        training.accelerator.scaler.load_state_dict(scaler)
    training.at = Standing.from_dict(facts)
    training.progress.said(f"going on from step {training.saved}")


def _average_best(training: _Training) -> None:
    """The mean of the best models, in `model/` if it is better than the best of them."""
    kept = training.run.best() if training.run is not None else []
    mean = _agreed(training.accelerator, lambda: average([best.path for best in kept]))
    training.objective.model.load_state_dict(mean)
    training.ema = None
    _validate(training)


class _HeldOut:
    """The held-out batches, as often as they are asked for; few enough are heard only once."""

    def __init__(
        self, planned: Sequence[PlannedBatch], without_change: Loading, workers: int
    ) -> None:
        self._planned, self._loading, self._workers = planned, without_change, workers
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


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Collect the first SIGTERM or Ctrl-C, to stop after the step; a second one is the usual."""
    sent: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield sent  # only the main thread may say what signals do
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def catch(number: int, frame: FrameType | None) -> None:
        sent.append(number)
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in _SIGNALS:
        signal.signal(number, catch)
    try:
        yield sent
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
