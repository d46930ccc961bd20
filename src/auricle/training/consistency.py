"""What a recipe may not say, in one place: values out of range, and pairs that exclude each other.

Types and unknown keys are `reading`'s business; what hangs on the data is `checking`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from auricle.config import shown
from auricle.errors import ConfigError
from auricle.training.architecture import model_config
from auricle.training.recipe import (
    DataRecipe,
    ModelRecipe,
    Recipe,
    SourceRecipe,
    TokenizerRecipe,
)

POSITIVE = (
    "tokenizer.size",
    "tokenizer.character_coverage",
    "model.features.n_mels",
    "data.max_seconds",
    "data.batch_seconds",
    "data.max_batch",
    "data.buckets",
    "data.shuffle_buffer",
    "adapt.layer_decay",
    "adapt.lora.rank",
    "adapt.lora.alpha",
    "augment.spec.time_width",
    "augment.spec.adaptive",
    "augment.speed.factors",
    "augment.room.rt60",
    "loss.joint_memory_mb",
    "optimizer.lr",
    "optimizer.eps",
    "train.steps",
    "train.epochs",
    "train.minutes",
    "train.accumulate",
    "train.clip",
    "train.validate_every",
    "train.save_every",
    "train.keep_best",
    "train.patience",
    "log.every",
)
NOT_NEGATIVE = (
    "model.features.dither",
    "data.min_seconds",
    "data.workers",
    "adapt.lora.dropout",
    "augment.spec.freq_masks",
    "augment.spec.freq_width",
    "augment.spec.time_masks",
    "loss.sigma",
    "optimizer.betas",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "schedule.warmup",
    "schedule.min_lr",
    "train.seed",
)
SHARES = (
    "tokenizer.character_coverage",
    "augment.spec.adaptive",
    "augment.noise.prob",
    "augment.room.prob",
    "augment.telephone.prob",
    "augment.speed.prob",
    "augment.gain.prob",
    "loss.ctc_weight",
    "loss.omega",
    "schedule.decay",
    "adapt.layer_decay",
)
# What no training needs more of: beyond it a run would only be slow, or too large, to fail.
MOST = {
    "tokenizer.size": 2**20,
    "tokenizer.character_coverage": 1,
    "model.features.n_mels": 2**16,
    "model.features.dither": 1,
    "data.min_seconds": 3600,
    "data.max_seconds": 24 * 3600,
    "data.batch_seconds": 10**7,
    "data.max_batch": 2**20,
    "data.buckets": 2**12,
    "data.shuffle_buffer": 10**9,
    "data.workers": 2**10,
    "adapt.lora.rank": 2**16,
    "adapt.lora.alpha": 10**6,
    "augment.spec.freq_masks": 2**10,
    "augment.spec.freq_width": 2**16,
    "augment.spec.time_masks": 2**10,
    "augment.spec.time_width": 10**6,
    "augment.noise.snr": 200,
    "augment.speed.factors": 10,
    "augment.gain.db": 200,
    "loss.sigma": 10,
    "loss.joint_memory_mb": 2**24,
    "optimizer.eps": 1,
    "optimizer.weight_decay": 10**3,
    "schedule.min_lr": 10**3,
    "train.accumulate": 2**20,
    "train.seed": 2**64 - 1,
}
BELOW_ONE = ("optimizer.betas", "optimizer.momentum", "train.ema", "adapt.lora.dropout")
LONGEST_JOIN, LONGEST_PAUSE, MOST_JOINED = 1000, 3600, 10**8
RANGES = ("augment.noise.snr", "augment.room.rt60", "augment.speed.factors", "augment.gain.db")


def check_recipe(recipe: Recipe, *, where: str | None = None, device: str | None = None) -> None:
    """Refuse a recipe that no run could follow, before anything is read or built.

    Args:
        recipe: The whole of it.
        where: Its file, for messages; its name if None.
        device: What it is to run on, "cpu" or "cuda", where that is known.

    Raises:
        ConfigError: Names the key, what is wrong with it and what would be right.
    """
    for complaint in _complaints(recipe, device):
        raise ConfigError(f"{where or recipe.name}: {complaint}")


def _complaints(recipe: Recipe, device: str | None) -> Iterator[str]:
    if not recipe.name or re.search(r"[/\\\0]|^\.+$", recipe.name):
        yield f"name is {recipe.name!r}; it names the run's folder, so it has no / and is not empty"
    yield from _numbers(recipe)
    yield from _model(recipe.model)
    yield from _networks(recipe)
    yield from _tokenizer(recipe)
    yield from _adaptation(recipe)
    yield from _data(recipe.data)
    yield from _augmentation(recipe)
    yield from _loss(recipe)
    yield from _training(recipe, device)
    yield from _schedule(recipe)


def _numbers(recipe: Recipe) -> Iterator[str]:
    for key in POSITIVE:
        for value in _values(recipe, key):
            if not value > 0:
                yield f"{key} is {value}; it must be above 0"
    for key in NOT_NEGATIVE:
        for value in _values(recipe, key):
            if not value >= 0:
                yield f"{key} is {value}; it must be 0 or more"
    for key in SHARES:
        for value in _values(recipe, key):
            if not 0 <= value <= 1:
                yield f"{key} is {value}; it must be a share from 0 to 1"
    for key, most in MOST.items():
        for value in _values(recipe, key):
            if value > most:
                yield f"{key} is {shown(value)}; it must be at most {most:,}"
    for key in BELOW_ONE:
        for value in _values(recipe, key):
            if not value < 1:
                yield f"{key} is {value}; it must be below 1"
    for key in (*POSITIVE, *NOT_NEGATIVE, *RANGES):
        for value in _values(recipe, key):
            if not math.isfinite(value):
                yield f"{key} is {value}; it must be a finite number"
    for key in RANGES:
        yield from _range(key, tuple(_values(recipe, key)))


def _range(key: str, ends: tuple[float, ...]) -> Iterator[str]:
    if ends and not ends[0] <= ends[1]:
        yield f"{key} is {list(ends)}; the lower end comes first"


def _values(recipe: Recipe, key: str) -> tuple[float, ...]:
    """The numbers at `key`; none where it, or what it belongs to, is None."""
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
        if value is None:
            return ()
    return value if isinstance(value, tuple) else (value,)


def _model(model: ModelRecipe) -> Iterator[str]:
    heads = model.heads
    if not heads:
        yield "model.heads is empty; give one of ctc, rnnt, tdt, or ctc with one of the others"
    if len(set(heads)) < len(heads):
        yield f"model.heads names a head twice: {', '.join(heads)}"
    if "rnnt" in heads and "tdt" in heads:
        yield "model.heads has both rnnt and tdt; a model has one transducer, choose one"
    if model.default_head is not None and model.default_head not in heads:
        yield f"model.default_head {model.default_head} is not one of model.heads"
    if "tdt" not in heads and model.durations != ModelRecipe.durations:
        yield "model.durations are those of a tdt head, which model.heads does not have"
    if "tdt" in heads:
        ascending = sorted(set(model.durations)) == list(model.durations)
        if not ascending or model.durations[:1] not in ((0,), (1,)) or 1 not in model.durations:
            yield (
                f"model.durations is {list(model.durations)}; they ascend, begin with 0 or 1, and "
                "1 is one of them"
            )
    if heads == ("ctc",) and (model.predictor or model.joint):
        given = "predictor" if model.predictor else "joint"
        yield f"model.{given} is part of an rnnt or tdt head, which model.heads does not have"


def _networks(recipe: Recipe) -> Iterator[str]:
    if recipe.init_from is None and recipe.tokenizer is not None:
        try:
            model_config(recipe.model, recipe.tokenizer.size)
        except ConfigError as error:
            yield str(error)


def _tokenizer(recipe: Recipe) -> Iterator[str]:
    tokenizer = recipe.tokenizer
    if tokenizer is None:
        if recipe.init_from is None:
            yield "tokenizer is null; only a model of init_from brings its own"
        return
    if tokenizer.path is None:
        return
    for field in fields(TokenizerRecipe):
        if field.name != "path" and getattr(tokenizer, field.name) != field.default:
            yield (
                f"tokenizer has both path and {field.name}; a tokenizer that is there is not built"
            )


def _adaptation(recipe: Recipe) -> Iterator[str]:
    adapt = recipe.adapt
    if adapt is None:
        return
    if recipe.init_from is None:
        yield "adapt changes a model that is there: give init_from, or leave adapt out"
    for name, factor in adapt.lr.items():
        if not 0 < factor < math.inf:
            yield f"adapt.lr {name} is {factor}; it must be above 0: adapt.freeze is for what stays"
    if adapt.unfreeze and not adapt.freeze and adapt.lora is None:
        yield "adapt.unfreeze excepts from adapt.freeze, which is empty"
    if adapt.lora is None:
        return
    if not adapt.lora.targets:
        yield "adapt.lora.targets is empty; name layers, as in *.self_attn.*"
    if adapt.freeze:
        yield "adapt has both lora and freeze; with lora only what unfreeze names moves besides"
    if recipe.train.freeze_batch_norm is False:
        yield "train.freeze_batch_norm is false; an adapter of adapt.lora holds no statistics"
    if recipe.train.average:
        yield "train.average makes a mean of models, which no adapter of adapt.lora is"


def _data(data: DataRecipe) -> Iterator[str]:
    if not data.train:
        yield "data.train is empty; name some speech: data.train.0.manifest=FILE.jsonl"
    if not data.min_seconds < data.max_seconds:
        yield (
            f"data.min_seconds {data.min_seconds} is not below data.max_seconds {data.max_seconds}"
        )
    for part, sources in (("train", data.train), ("validation", data.validation)):
        for i, source in enumerate(sources):
            yield from _source(f"data.{part}.{i}", source)
    for i, source in enumerate(data.validation):
        if source.weight is not None:
            yield f"data.validation.{i}.weight: all of what validates is heard, without weights"


def _source(name: str, source: SourceRecipe) -> Iterator[str]:
    given = [k for k in ("manifest", "tar", "dataset", "cuts") if getattr(source, k) is not None]
    if not given:
        yield f"{name} names no speech; give one of manifest, tar, dataset, cuts"
    elif len(given) > 1 and given != ["manifest", "tar"]:
        yield f"{name} has both {given[0]} and {given[1]}; set one of them to null"
    for key in given:
        if getattr(source, key) in ("", ()):
            yield f"{name}.{key} is empty; give a file's name"
    if source.weight is not None and not 0 < source.weight < math.inf:
        yield f"{name}.weight is {source.weight}; it must be above 0"
    if source.limit is not None and source.limit < 1:
        yield f"{name}.limit is {source.limit}; it must be above 0"
    for key in ("split", "subset", "streaming", "audio_column", "text_column"):
        if source.dataset is None and getattr(source, key) != getattr(SourceRecipe, key):
            yield f"{name}.{key} belongs to a dataset, which this source is not"
    if source.join is not None:
        join = source.join
        if source.streaming or source.tar is not None:
            other = "streaming" if source.streaming else "tar"
            yield f"{name} has both join and {other}; joining must know all utterances beforehand"
        yield from _range(f"{name}.join.count", join.count)
        yield from _range(f"{name}.join.pause", join.pause)
        if join.count[0] < 1 or join.pause[0] < 0:
            yield f"{name}.join joins at least 1 utterance, with pauses of 0 seconds or more"
        if join.count[1] > LONGEST_JOIN or not join.pause[1] <= LONGEST_PAUSE:
            yield (
                f"{name}.join joins at most {LONGEST_JOIN} utterances, with pauses of at most "
                f"{LONGEST_PAUSE} seconds"
            )
        if join.items is not None and not 1 <= join.items <= MOST_JOINED:
            yield f"{name}.join.items is {join.items}; it must be from 1 to {MOST_JOINED:,}"


def _augmentation(recipe: Recipe) -> Iterator[str]:
    spec, features = recipe.augment.spec, recipe.model.features
    if spec is not None:
        if spec.time_width >= 1 and spec.time_width % 1:
            yield f"augment.spec.time_width is {spec.time_width}; from 1 on it counts whole frames"
        if spec.freq_masks and spec.freq_width > features.n_mels:
            yield (
                f"augment.spec.freq_width {spec.freq_width} is more than the "
                f"{features.n_mels} bins of model.features.n_mels"
            )
    if recipe.augment.telephone is not None and not recipe.augment.telephone.codecs:
        yield "augment.telephone.codecs is empty; give one at least, none if it is to have no codec"


def _loss(recipe: Recipe) -> Iterator[str]:
    hybrid = len(recipe.model.heads) == 2
    if hybrid and recipe.loss.ctc_weight in (0, 1):
        unused = "ctc" if recipe.loss.ctc_weight == 0 else "the transducer"
        yield (
            f"loss.ctc_weight {recipe.loss.ctc_weight} leaves {unused} untrained; take a weight "
            "between 0 and 1, or one head"
        )


def _schedule(recipe: Recipe) -> Iterator[str]:
    schedule, train, optimizer = recipe.schedule, recipe.train, recipe.optimizer
    ends = schedule.name in ("cosine", "linear", "wsd")
    if ends and train.steps is None and train.epochs is None:
        yield (
            f"schedule.name {schedule.name} needs to know its end: give train.steps or "
            "train.epochs, or take constant or noam"
        )
    if ends and schedule.min_lr > optimizer.lr:
        yield f"schedule.min_lr {schedule.min_lr} is above optimizer.lr {optimizer.lr}"
    if schedule.name == "noam" and schedule.warmup == 0:
        yield "schedule.name noam needs a schedule.warmup above 0: its peak is there"
    if optimizer.momentum and optimizer.name != "sgd":
        yield f"optimizer.momentum is sgd's; {optimizer.name} has betas"


def _training(recipe: Recipe, device: str | None) -> Iterator[str]:
    train, validates = recipe.train, bool(recipe.data.validation)
    if train.steps is None and train.epochs is None and train.minutes is None:
        yield "nothing ends the training; give train.steps, train.epochs or train.minutes"
    if train.ema is not None and train.ema <= 0:
        yield f"train.ema is {train.ema}; it must be above 0 and below 1"
    if not validates:
        for key, given in (("patience", train.patience), ("average", train.average or None)):
            if given is not None:
                yield f"train.{key} goes by the validation WER, but data.validation is empty"
    if train.average and train.keep_best < 2:
        yield "train.average is the mean of the best checkpoints: train.keep_best must be 2 or more"
    if recipe.optimizer.name == "adamw8bit" and device == "cpu":
        yield "optimizer.name adamw8bit runs on NVIDIA's GPUs; take adamw"
    if train.precision == "fp16" and device == "cpu":
        yield "train.precision fp16 does not run on a CPU; take bf16 or fp32"
