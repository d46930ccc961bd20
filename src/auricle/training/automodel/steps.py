"""AutoModel's step scheduler, optimiser and rates as `train`, `optimizer` and `schedule`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auricle.config import hint, shown
from auricle.errors import ConfigError
from auricle.training.automodel.targets import meaning, target_of
from auricle.training.automodel.values import Section, Values, needed

_WARMUP = 100  # of runs whose length is not known beforehand


@dataclass(frozen=True)
class Steps:
    """How long and in which batches; `total` is None where only the data's size would tell."""

    train: Values
    local: int
    total: int | None
    log_every: int | None = None


def steps_of(file: Section, sources: Values) -> Steps:
    """What `step_scheduler` says, and what its defaults say.

    Raises:
        ConfigError: A step's clips cannot be split into equal batches.
    """
    section = file.section("step_scheduler") or Section("step_scheduler", {}, file.notes)
    together = section.whole("global_batch_size") or 32
    local = section.whole("local_batch_size")
    if local is None:
        local = 1
        section.note("step_scheduler.local_batch_size is not given: 1, AutoModel's default")
    if together % local:
        raise ConfigError(
            f"step_scheduler.global_batch_size {together} is no multiple of local_batch_size "
            f"{local}"
        )
    train: Values = {"accumulate": together // local}
    if together > local:
        section.note(
            f"train.accumulate={together // local} makes steps of {together} clips on one process; "
            f"on N processes give train.accumulate={together // local}/N"
        )
    total = _length(section, train, _clips(sources["train"]), local)
    _intervals(section, train)
    section.ignore(["preemption_signal"], "Ctrl-C and SIGTERM save, and end the training")
    every = section.whole("log_remote_every_steps")
    section.ignore(["save_checkpoint_every_epoch", "validate_on_checkpoint"], "steps decide alone")
    section.ignore(
        ("gc_every_steps", "loss_average_window_steps", "start_step", "start_epoch"),
        "has no meaning here",
    )
    section.end()
    return Steps(train, local, total, every)


def _length(section: Section, train: Values, clips: int | None, local: int) -> int | None:
    """Puts the end into `train`; the number of steps, or None if only the data would tell."""
    most, epochs = section.whole("max_steps"), section.whole("num_epochs")
    said = epochs is not None
    epochs = epochs or 10
    by_epochs = None
    if clips is not None:
        by_epochs = epochs * math.ceil(clips / local) // train["accumulate"]
    if most is not None:
        train["steps"] = most
    if most is None or said:
        train["epochs"] = epochs
        if not said:
            section.note("step_scheduler says no end: train.epochs=10, AutoModel's default")
        return min((n for n in (most, by_epochs) if n is not None), default=None)
    if by_epochs is None or by_epochs < most:
        section.note(
            f"train.steps={most} alone ends the training; AutoModel would also end after 10 "
            "epochs: train.epochs=10"
        )
    return most


def _clips(train: Sequence[Values]) -> int | None:
    limits = [entry.get("limit") for entry in train]
    return None if None in limits else sum(n for n in limits if n is not None)


def _intervals(section: Section, train: Values) -> None:
    validate, save = section.whole("val_every_steps"), section.whole("ckpt_every_steps")
    if "ckpt_every_steps" not in section.values:
        save = 100
        section.note("step_scheduler.ckpt_every_steps is not given: 100, AutoModel's default")
    if save is not None:
        train["save_every"] = save
    else:
        section.note(
            "step_scheduler.ckpt_every_steps=null, once an epoch: train.save_every decides"
        )
    if validate is None and save is not None:
        section.note(f"step_scheduler.val_every_steps is not given: train.validate_every={save}")
    if validate or save:
        train["validate_every"] = validate or save


# fmt: off
_OPTIONS = (
    "fused", "foreach", "capturable", "differentiable", "maximize", "nesterov", "dampening",
    "amsgrad", "master_weights", "master_weight_dtype", "master_weight_bits", "quantize",
    "store_param_remainders", "exp_avg_dtype", "exp_avg_sq_dtype", "bias_correction", "adam_w_mode",
    "optim_bits", "is_paged", "percentile_clipping", "block_wise", "min_8bit_size", "set_grad_none",
)
# fmt: on


def optimizer_of(file: Section) -> Values:
    """Name and constants; what is not given is AutoModel's or PyTorch's default."""
    section = needed(file, "optimizer")
    named = "_target_" not in section.values and "name" in section.values
    kind = meaning("optimizer", section.get("name"), "optimizer.name") if named else None
    kind = kind or target_of(section, "optimizer")
    extra = section.section("extra_kwargs")
    if extra is not None:
        section.values = {**section.values, **extra.values}
    made: Values = {"name": kind if kind in ("sgd", "adamw8bit") else "adamw"}
    lr = section.number("lr", above=0)
    typed = "." not in str(section.values.get("_target_", ""))  # AutoModel's own, with its own rate
    made["lr"] = lr if lr is not None else 1e-4 if typed else 1e-3
    decay = section.number("weight_decay")
    made["weight_decay"] = decay if decay is not None else 0.0 if kind in ("adam", "sgd") else 0.01
    if kind == "sgd":
        made["momentum"] = section.number("momentum") or 0.0
    else:
        made["betas"] = _betas(section)
        eps = section.number("eps", above=0)
        made["eps"] = 1e-8 if eps is None else eps
    if kind in ("adam", "fused"):
        section.note(f"{section.key('_target_')}: is PyTorch's AdamW here")
    if made["weight_decay"]:
        section.note("optimizer.weight_decay: norms and biases are not decayed here")
    section.ignore(_OPTIONS, f"{made['name']} goes without it here")
    section.ignore(["param_group_overrides"], "the factors of rates are adapt.lr")
    section.end()
    return made


def _betas(section: Section) -> list[float]:
    said = section.get("betas")
    if said is None:
        return [0.9, 0.999]
    right = isinstance(said, list) and len(said) == 2
    if not right or not all(isinstance(b, (int, float)) and 0 <= b < 1 for b in said):
        raise section.wrong("betas", "two numbers from 0 to below 1")
    return [float(beta) for beta in said]


_STYLES = {
    "constant": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "WSD": "wsd",
    "inverse-square-root": "noam",
}


def schedule_of(file: Section, optimizer: Values, steps: Steps) -> Values:
    """The same curve; without a section the rate is constant, as there."""
    section = file.section("lr_scheduler")
    if section is None:
        return {"name": "constant", "warmup": 0}
    style = section.text("lr_decay_style") or "cosine"
    if style not in _STYLES:
        raise ConfigError(f"lr_scheduler.lr_decay_style is {shown(style)}; {hint(style, _STYLES)}")
    highest = section.number("max_lr", above=0)
    if highest is not None and highest != optimizer["lr"]:
        section.note(f"lr_scheduler.max_lr: is optimizer.lr={highest:g} here")
        optimizer["lr"] = highest
    low = section.number("min_lr")
    made: Values = {"name": _STYLES[style], "warmup": _warmup(section, steps)}
    if style != "constant":
        made["min_lr"] = float(f"{0.01 * optimizer['lr']:.12g}") if low is None else low
        if made["min_lr"] > optimizer["lr"]:
            raise section.wrong("min_lr", f"at most the highest rate, {optimizer['lr']:g}")
    if style == "inverse-square-root":
        made["warmup"] = max(1, made["warmup"])  # which is where its peak is
    if style == "WSD":
        made["decay"] = _wsd_decay(section, steps)
    section.ignore(["wsd_decay_steps", "lr_wsd_decay_style"] * (style != "WSD"), "is WSD's")
    first = section.number("init_lr")
    if made["warmup"] > 1:
        said = "0.1 of the highest rate" if first is None else f"{first:g}"
        section.note(f"lr_scheduler.init_lr: the warm-up begins near 0, AutoModel's at {said}")
    elif first is not None:
        section.note("lr_scheduler.init_lr: there is no warm-up")
    ends = section.whole("lr_decay_steps")
    if ends is not None and ends != steps.total and style != "constant":
        section.note(f"lr_scheduler.lr_decay_steps={ends}: the rate falls until the last step")
    _decay_over_time(section, optimizer)
    kept = ("override_opt_param_scheduler", "use_checkpoint_opt_param_scheduler")
    section.ignore(kept, "--resume goes on with the recipe as it began")
    section.end()
    return made


def _warmup(section: Section, steps: Steps) -> int:
    """As given, else a tenth of the steps and 1000 at most."""
    said = section.whole("lr_warmup_steps", above=-1)
    if said is not None:
        return said
    if steps.total is None:
        section.note(
            f"schedule.warmup={_WARMUP}: AutoModel takes a tenth of the steps, which only the data "
            "would tell; lr_scheduler.lr_warmup_steps says it"
        )
        return _WARMUP
    return min(1000, steps.total // 10)


def _wsd_decay(section: Section, steps: Steps) -> float:
    """The share of the steps in which WSD falls."""
    falling = section.whole("wsd_decay_steps")
    if falling is None:
        raise ConfigError("lr_scheduler.wsd_decay_steps is missing, which WSD needs")
    if steps.total is None:
        raise ConfigError("lr_scheduler.lr_decay_style WSD needs step_scheduler.max_steps here")
    style = section.text("lr_wsd_decay_style") or "linear"
    styles = ("linear", "cosine", "exponential", "minus_sqrt")
    if style not in styles:
        raise section.wrong("lr_wsd_decay_style", f"one of {', '.join(styles)}")
    if style != "linear":
        section.note(f"lr_scheduler.lr_wsd_decay_style={style}: falls linearly here")
    return min(1.0, falling / steps.total)


def _decay_over_time(section: Section, optimizer: Values) -> None:
    start, end = section.number("start_wd"), section.number("end_wd")
    for key, said in (("start_wd", start), ("end_wd", end)):
        if said is not None:
            decay = optimizer["weight_decay"]
            section.note(f"lr_scheduler.{key}: weight decay is constant, {decay:g}")
    section.ignore(["wd_incr_steps", "wd_incr_style"], "weight decay is constant")


def clip(file: Section) -> float:
    """The bound of the gradient's norm, which AutoModel always has."""
    section = file.section("clip_grad_norm")
    highest = None
    if section is not None:
        highest = section.number("max_norm", above=0)
        section.ignore(["norm_type", "foreach"], "it is the Euclidean norm")
        section.end()
    return 1.0 if highest is None else highest


def seed(file: Section) -> int:
    """`rng.seed` is what newer files say."""
    said, section = file.whole("seed", above=-1), file.section("rng")
    if section is not None:
        target_of(section, "rng", "rng")
        newer = section.whole("seed", above=-1)
        if newer is not None and said not in (None, newer):
            section.note(f"seed={said}: rng.seed={newer} is taken")
        said = said if newer is None else newer
        section.ignore(["ranked"], "every process draws numbers of its own")
        section.end()
    return 42 if said is None else said


def loss(file: Section) -> str:
    """AutoModel's means are over tokens, and so is `mean_volume`."""
    section = file.section("loss_fn")
    if section is not None:
        target_of(section, "loss_fn")
        options = ("fp32_upcast", "ignore_index", "reduction", "logit_softcapping", "chunk_len")
        section.ignore((*options, "tp_group", "num_chunks"), "has no meaning here")
        section.end()
        file.note(
            "loss_fn: the loss is that of the model's head, and a step's sum is divided by its "
            "tokens, however it is split into batches"
        )
    return "mean_volume"
