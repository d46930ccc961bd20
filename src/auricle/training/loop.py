"""The loop: from a recipe to a trained model in a run folder; every kind of training is this one.

A step takes `accumulate` batches on every rank, divides the sum of their losses by the count of all
of them, and moves the weights once. All that is random hangs on the seed and the number of the
step, so that a run that was killed goes on from its last save as if nothing had been.
"""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from auricle.errors import CheckpointError, ConfigError, NonFiniteLoss, first_line
from auricle.models.norms import BatchNorm
from auricle.tokenizers import Tokenizer
from auricle.training import loading, ranks
from auricle.training.adapting import Trained, rates, trained
from auricle.training.averaging import Ema, average
from auricle.training.batching import Plan, sorted_batches
from auricle.training.estimate import Largest, estimate
from auricle.training.items import Batch, Item, Position
from auricle.training.loading import Loading
from auricle.training.optimizing import build_optimizer, learning_rate
from auricle.training.progress import Progress, Silent
from auricle.training.reading import to_yaml
from auricle.training.recipe import Recipe
from auricle.training.report import report, write_report
from auricle.training.run import RunFolder, last_state
from auricle.training.saving import TrainState
from auricle.training.signals import caught
from auricle.training.sources import Source, check_styles, open_sources
from auricle.training.starting import (
    keeps_statistics,
    tokenizer_of,
    trainee_of,
    usable,
)
from auricle.training.trackers import Tracker, open_trackers
from auricle.training.trainee import AnyCheckpoint, AnyObjective, Trainee
from auricle.training.validating import Heard, HeldOut, Validation, counted, validate

Ending = Literal["finished", "early", "minutes", "interrupted", "terminated"]
_FILTERS = ("where ", "unless ")  # how the reasons of rows that a recipe takes out begin
_LOST_SHOWN = 5
_SIGNALS: dict[int, Ending] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@dataclass(frozen=True)
class TrainResult:
    """How a training ended; `wer` is the best one, None where nothing was validated.

    With `train.monitor` it is the CER.
    """

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
    best: float | None = None
    stale: int = 0  # validations since one was better than all before it

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**vars(self), "position": [self.position.epoch, self.position.batch]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Standing:
        """The inverse of `to_dict`; what another version knows and this one does not is dropped."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        return cls(**{**known, "position": Position(*data["position"])})


@dataclass
class _Training:
    """What the steps work with; `network` is `objective` as `accelerate` wrapped it."""

    recipe: Recipe
    accelerator: Any
    start: AnyCheckpoint
    tokenizer: Tokenizer
    base: str | None  # the fingerprint of what it began with, where some of that is not saved
    objective: AnyObjective
    network: nn.Module
    optimizer: Any
    ema: Ema | None
    plan: Plan
    loading: Loading
    held_out: HeldOut
    total: int | None
    run: RunFolder | None  # None on all ranks but the first
    trackers: Tracker
    progress: Progress
    signals: list[int]  # those that this process was sent
    left_out: Counter[str]  # held-out rows that are not judged, by reason
    arithmetic: list[dict[str, Any]] = field(default_factory=list)  # of all ranks
    at: Standing = field(default_factory=Standing)
    began: float = field(default_factory=time.monotonic)  # when `at.seconds` was 0
    stop: int = 0  # the signal that some rank was sent
    wer: float | None = None  # of the last validation
    lost: list[str] = field(default_factory=list)  # the first lines about held-out clips
    told: str = ""  # what the last WER was counted over, where that had to be said
    heard: list[Heard] = field(default_factory=list)  # in it, on the first rank

    def made(self) -> Trained:
        """The model as it stands; on all ranks but the first without its tensors."""
        return trained(self.start, ranks.weights(self.objective.model), self.recipe)

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the model has its averaged weights, where there are such."""
        return self.ema.in_place() if self.ema else nullcontext()


def train(
    recipe: Recipe, folder: Path, *, resume: bool = False, progress: Progress | None = None
) -> TrainResult:
    """Train what `recipe` says in `folder`, on every process that a launcher has started.

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
    accelerator = ranks.accelerator_for(recipe.train.precision)
    main = accelerator.is_main_process
    told: Progress = (progress or Silent()) if main else Silent()
    opened = RunFolder.open(folder, to_yaml(recipe), resume=resume) if main else nullcontext()
    with ranks.threads_given_back(), opened as run, caught(_SIGNALS) as signals:
        training = _prepared(recipe, accelerator, run, told, signals)
        try:
            if resume:
                _restore(training, folder)
            training.arithmetic = ranks.arithmetic(accelerator)
            if run is not None:
                threads = [facts["threads"] for facts in training.arithmetic]
                run.write_start(
                    {"seed": recipe.train.seed, "processes": len(threads), "threads": threads}
                )
            told.started(training.total, recipe.train.minutes, training.at.step)
            if recipe.init_from is not None and training.at.step == 0:
                _judge_before(training)
            ending = _run(training)
            if recipe.train.average and ending not in _SIGNALS.values():
                _average_best(training)
            if run is not None and (made := report(folder, recipe.name, recipe.init_from)):
                write_report(folder, made)
        finally:
            training.trackers.close()
        accelerator.wait_for_everyone()  # a rank that ends takes the others' connection with it
        told.finished(ending)
    return TrainResult(folder, training.at.step, training.at.best, ending)


def _prepared(
    recipe: Recipe, accelerator: Any, run: RunFolder | None, progress: Progress, signals: list[int]
) -> _Training:
    data = recipe.data
    learnt = open_sources(data.train, data)
    held_out = open_sources(data.validation, data, held_out=True)
    check_styles([*learnt, *held_out], data)
    tokenizer = None
    if recipe.tokenizer is not None:
        tokenizer = ranks.agreed(accelerator, lambda: tokenizer_of(recipe, learnt, _there(run)))
    trainee = trainee_of(recipe, tokenizer, progress)
    objective = trainee.objective
    model: nn.Module = objective.model
    optimizer = build_optimizer(model, recipe.optimizer, rates(model, recipe.adapt))
    network, optimizer = ranks.wrapped(accelerator, objective, optimizer)
    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(
        usable(learnt, trainee.tokenizer, trainee.facts, data, progress),
        data,
        seed=recipe.train.seed,
        rank=rank,
        world=world,
    )
    heard = trainee.loading(training=True)
    if recipe.init_from is not None:
        _tell_memory(trainee, plan, recipe, accelerator, progress)
    judged, left_out = _judged_items(held_out, trainee.window)
    shown = sorted_batches(judged, data, rank, world)
    return _Training(
        recipe=recipe,
        accelerator=accelerator,
        start=trainee.start,
        tokenizer=trainee.tokenizer,
        base=trainee.base,
        objective=objective,
        network=network,
        optimizer=optimizer,
        ema=Ema(objective.model, recipe.train.ema) if recipe.train.ema else None,
        plan=plan,
        loading=heard,
        held_out=HeldOut(shown, trainee.loading(training=False), data.workers),
        total=_total_steps(recipe, plan),
        run=run,
        trackers=open_trackers(recipe, run),
        progress=progress,
        signals=signals,
        left_out=left_out,
    )


def _judged_items(
    held_out: Sequence[Source], window: float | None
) -> tuple[list[Item], Counter[str]]:
    """The held-out items that the model can hear, and how many rows are left out, by reason.

    Rows that `where` and `unless` take out are no part of what is judged.
    """
    items: list[Item] = []
    left_out = Counter[str]()
    for source in held_out:
        before = Counter(source.dropped) if source.size is None else Counter()
        for item in source.items():
            if window is not None and item.duration > window:
                left_out[f"the {window:g} s that the model hears at once"] += 1
            else:
                items.append(item)
        left_out += Counter(source.dropped) - before
    return items, Counter({k: n for k, n in left_out.items() if not k.startswith(_FILTERS)})


def _tell_memory(
    trainee: Trainee, plan: Plan, recipe: Recipe, accelerator: Any, progress: Progress
) -> None:
    """Say beforehand what the training will take."""
    if not accelerator.is_main_process or accelerator.is_fsdp2:  # whose pieces are not the whole
        return
    objective, data, longest = trainee.objective, recipe.data, plan.longest
    if trainee.window is None:
        batch = Largest(longest, min(data.batch_seconds, longest * data.max_batch))
    else:
        batch = Largest(trainee.window, trainee.window * plan.most_clips, windows=True)

    def noise(clips: int, seconds: float) -> tuple[Tensor | None, ...]:
        return tuple(
            None if t is None else t.to(accelerator.device) for t in trainee.noise(clips, seconds)
        )

    found = estimate(
        objective,
        noise,
        recipe,
        batch,
        workspace=trainee.workspace,
        autocast=accelerator.autocast(),
    )
    progress.said(found.text(recipe.optimizer.name))


def _there(run: RunFolder | None) -> RunFolder:
    assert run is not None, "only the first rank holds the folder"
    return run


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
    training.began = time.monotonic() - at.seconds
    planned = training.plan.batches(at.position)
    with loading.batches(planned, training.loading, training.recipe.data.workers) as batches:
        while (ending := _ending(training)) is None:
            _log(training, _step(training, list(islice(batches, train.accumulate))))
            if at.step % train.validate_every == 0 or _ending(training) in ("finished", "minutes"):
                _validate(training)
            if at.step % train.save_every == 0 or _ending(training) is not None:
                _save(training)
    return ending


def _ending(training: _Training) -> Ending | None:
    """Why no further step is to be made, the same on all ranks; None where there is no reason.

    A step and a validation may change the answer, time alone does not.
    """
    train, at = training.recipe.train, training.at
    if training.stop:
        return _SIGNALS[training.stop]
    if train.minutes is not None and at.seconds >= 60 * train.minutes:
        return "minutes"
    if train.patience is not None and at.stale >= train.patience:
        return "early"
    steps = train.steps is not None and at.step >= train.steps
    epochs = train.epochs is not None and at.position.epoch >= train.epochs
    return "finished" if steps or epochs else None


def _step(training: _Training, batches: Sequence[Batch]) -> dict[str, float]:
    """Move the weights once; gives what there is to say of it.

    Raises:
        NonFiniteLoss: On every rank, where it is so on one; the weights stay as they were.
    """
    recipe, accelerator, at = training.recipe, training.accelerator, training.at
    rate = learning_rate(recipe.schedule, recipe.optimizer.lr, at.step, training.total)
    for group in training.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    _learning(training.objective, keeps_statistics(recipe))
    torch.manual_seed(_seed(recipe.train.seed, at.step, accelerator.process_index))
    # Gradients are averaged over the ranks: times their number, that is the sum.
    scale = accelerator.num_processes / _count(training, batches)
    sums = [_backward(training, batch, scale, last=batch is batches[-1]) for batch in batches]
    norm = float(
        accelerator.clip_grad_norm_(training.network.parameters(), recipe.train.clip or math.inf)
    )
    facts = _shared(training, batches, sums)
    if not _finite(training, facts["loss"], norm):
        raise _non_finite(training, batches, sums)
    training.optimizer.step()
    training.optimizer.zero_grad()
    at.step += 1
    if training.ema is not None:
        training.ema.update(at.step)
    return {**facts, "lr": rate, "gradient_norm": norm}


def _learning(objective: nn.Module, freeze_batch_norm: bool) -> None:
    """Training mode: a validation before may have changed it."""
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
    own = sum(counted(batch, training.recipe.loss.reduction) for batch in batches)
    count = torch.tensor(own, device=training.accelerator.device)
    return max(1, int(training.accelerator.reduce(count, "sum")))


def _backward(training: _Training, batch: Batch, scale: float, *, last: bool) -> dict[str, float]:
    """Add a batch's gradients; its losses, with `scale` in them. Ranks meet at the last one."""
    if not batch.items:  # all of it was lost, but the other ranks wait for gradients
        batch, scale = batch.silence(), 0.0
    there = batch.to(training.accelerator.device)
    accelerator = training.accelerator
    with nullcontext() if last else accelerator.no_sync(training.network):
        with accelerator.autocast():
            losses: Mapping[str, Tensor] = training.network(
                there.features, there.frames, there.tokens, there.lengths, there.prompt
            )
        accelerator.backward(losses["loss"] * scale)
    return {name: float(value.detach()) * scale for name, value in losses.items()}


def _shared(
    training: _Training, batches: Sequence[Batch], sums: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """What all ranks know of the step; moves where the training stands."""
    at, accelerator = training.at, training.accelerator
    names = sorted(sums[0])
    own = [
        *(sum(values[name] for values in sums) for name in names),
        sum(batch.seconds for batch in batches),
        sum(len(batch.lost) for batch in batches),
        time.monotonic() - training.began,
        max(training.signals, default=0),
    ]
    row = ranks.numbers(accelerator, [own])
    *losses, heard, lost, seconds, stop = accelerator.gather(row).cpu().numpy().T  # [ranks] each
    at.seconds, training.stop = float(seconds.max()), int(stop.max())
    at.position = batches[-1].after
    if lost.any():
        for line in ranks.gathered([line for batch in batches for line in batch.lost]):
            training.progress.said(line)
    facts = {name: float(loss.mean()) for name, loss in zip(names, losses, strict=True)}
    sizes = {"audio_seconds": float(heard.sum()), "lost": int(lost.sum())}
    return {**facts, "epoch": at.position.epoch, **sizes}


def _finite(training: _Training, loss: float, norm: float) -> bool:
    """Whether a step can be learnt from; the answer is the same on all ranks."""
    scaler = training.accelerator.scaler
    if scaler is not None and scaler.get_scale() >= 1:
        # Halved numbers overflow now and then: the scaler leaves the step out, and scales less.
        return math.isfinite(loss)
    return math.isfinite(loss) and math.isfinite(norm)


def _non_finite(
    training: _Training, batches: Sequence[Batch], sums: Sequence[Mapping[str, float]]
) -> NonFiniteLoss:
    """The error that names what was heard in a step whose loss or gradients are no numbers."""
    broken = [b for b, s in zip(batches, sums, strict=True) if not math.isfinite(s["loss"])]
    losses = ranks.gathered(broken)
    at_fault = losses or ranks.gathered(list(batches))
    step, place = training.at.step + 1, ""
    if training.run is not None:
        for number, batch in enumerate(at_fault):
            tensors = {name: getattr(batch, name) for name in ("features", "frames", "tokens")}
            path = training.run.dump_batch(step, number, batch.items, tensors)
            place = f"; its items are in {path.parent}"
    names = [item.name for batch in at_fault for item in batch.items]
    return NonFiniteLoss(
        f"the {'loss' if losses else 'gradient'} of step {step} is no number, nothing was learnt "
        f"from it{place}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}; "
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
    """Judge the model by the held-out speech, and keep it if it is good."""
    at = training.at
    if not training.recipe.data.validation:
        return
    with training.averaged():
        rate = _judged(training, {})
        made = training.made()
        run = training.run
        if run is not None and run.keep_best(at.step, rate, made.checkpoint, made.adapter):
            run.write_heard("best", training.heard)
    at.stale = 0 if at.best is None or rate < at.best else at.stale + 1
    at.best = rate if at.best is None else min(rate, at.best)


def _judge_before(training: _Training) -> None:
    """Judge the model that is about to be changed, to know what came of it."""
    if training.recipe.data.validation:
        _judged(training, {"before": 1})
        if training.run is not None:
            training.run.write_heard("before", training.heard)


def _judged(training: _Training, facts: Mapping[str, int]) -> float:
    """The monitored rate of the model as it stands, over all ranks; `facts` are logged with it."""
    at, accelerator = training.at, training.accelerator
    ranks.share_buffers(accelerator, training.objective.model)
    with ranks.unsharded(training.network):
        own = validate(
            training.objective,
            _shown(training),
            training.tokenizer,
            accelerator.device,
            training.recipe.loss.reduction,
        )
    numbers = ranks.numbers(accelerator, own.numbers())
    found = Validation.of_numbers(accelerator.reduce(numbers, "sum").tolist(), own.errors)
    values = found.values(training.objective.default_head)
    training.wer = values["wer"]
    training.heard = ranks.gathered(list(own.heard))
    left_out = sum(training.left_out.values()) + found.lost
    if training.run is not None:
        training.run.log(at.step, "validation", {**values, **facts, "left_out": left_out})
    training.trackers.log(at.step, {f"validation/{name}": v for name, v in values.items()})
    monitor = training.recipe.train.monitor
    rate = values.get(monitor, values["wer"])
    best = at.step > 0 and (at.best is None or rate <= at.best)
    _say_what_counts(training, found)
    if monitor != "wer":
        training.progress.said(f"step {at.step:,}: validation {monitor.upper()} {100 * rate:.2f} %")
    training.progress.validated(at.step, values["wer"], values["loss"], best)
    return rate


def _say_what_counts(training: _Training, found: Validation) -> None:
    """Say which held-out rows the WER leaves out, and where its words are characters."""
    lines, rows = [], len(training.heard)
    why = training.left_out + Counter({"sound or a text that cannot be used": found.lost})
    if left_out := sum(why.values()):
        reasons = ", ".join(f"{count:,} by {reason}" for reason, count in why.most_common())
        lines.append(f"{left_out:,} of {rows + left_out:,} held-out rows are left out: {reasons}")
    if found.unspaced:
        lines.append(
            f"in {found.unspaced:,} of {rows:,} texts each character of a script without spaces "
            "counts as a word"
        )
    if (told := "; ".join(lines)) and told != training.told:
        training.told = told
        training.progress.said(f"validation WER: {told}")


def _shown(training: _Training) -> Iterator[Batch]:
    """The held-out batches, said as they go."""
    done = 0
    for batch in training.held_out:
        for line in batch.lost:
            if line not in training.lost and len(training.lost) < _LOST_SHOWN:
                training.lost.append(line)
                training.progress.said(line)
        yield batch
        done += len(batch.items) + len(batch.lost)
        training.progress.validating(done, training.held_out.utterances)


def _save(training: _Training) -> None:
    accelerator, model, at = training.accelerator, training.objective.model, training.at
    ranks.share_buffers(accelerator, model)
    scaler = accelerator.scaler
    state: TrainState = {
        "weights": ranks.weights(model, moving=True),
        "optimizer": ranks.optimizer_state(model, training.optimizer),
        "ema": training.ema.state_dict() if training.ema else None,
        "facts": {
            **at.to_dict(),
            "scaler": scaler and scaler.state_dict(),
            "base": training.base,
            "arithmetic": training.arithmetic,
        },
    }
    if training.run is not None:
        path = training.run.save(at.step, state)
        training.progress.saved(at.step, path)
        training.run.plots()
    if not training.recipe.data.validation:
        with training.averaged():
            last = training.made()
            if training.run is not None:
                training.run.write_model(last.checkpoint, last.adapter)


def _restore(training: _Training, folder: Path) -> None:
    """Go on from the last save; from the beginning where there is none.

    Raises:
        ConfigError: The ranks do not see the same folder, or another model to begin with.
    """
    found = training.run.last() if training.run is not None else last_state(folder)
    steps = set(ranks.gathered([found[0] if found else 0]))
    if len(steps) > 1:
        raise ConfigError(
            f"the processes find saves of different steps in {folder} ({sorted(steps)}): "
            "put the run where all machines see the same files"
        )
    if found is None:
        return
    step, state = found
    if state["facts"].get("base") != training.base:
        raise ConfigError(
            f"{training.recipe.init_from} is not the model that the run in {folder} began with, "
            "and what is frozen was not saved: put that model back, or choose another folder"
        )
    try:
        at, scaler = Standing.from_dict(state["facts"]), state["facts"]["scaler"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the save of step {step} in {folder} is damaged ({type(error).__name__}: "
            f"{first_line(error)}); remove it to go on from the one before"
        ) from None
    model = training.objective.model
    ranks.load_weights(model, state["weights"], moving=True)
    ranks.load_optimizer_state(model, training.optimizer, state["optimizer"])
    if training.ema is not None and state["ema"] is not None:
        training.ema.load_state_dict(state["ema"])
    if scaler and training.accelerator.scaler is not None:
        training.accelerator.scaler.load_state_dict(scaler)
    training.at = at
    notes = []
    if before := state["facts"].get("arithmetic"):
        notes = ranks.repeat_arithmetic(training.accelerator, before)
    training.progress.said("; ".join([f"going on from step {step}", *notes]))


def _average_best(training: _Training) -> None:
    """Make `model/` the mean of the best models, where it is no worse than any of them.

    What is saved stays as it is, so a run that goes on does so from its own weights.
    """
    at, run = training.at, training.run
    kept = ranks.agreed(training.accelerator, lambda: [best.path for best in _there(run).best()])
    if len(kept) < 2:
        return
    ranks.load_weights(training.objective.model, average(kept))
    rate = _judged(training, {"averaged": len(kept)})
    mean = training.made()
    if at.best is None or rate <= at.best:
        at.best = rate
        if run is not None:
            run.write_model(mean.checkpoint)
            run.write_heard("best", training.heard)
