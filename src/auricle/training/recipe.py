"""The schema of a recipe: everything about a training that may vary, with its defaults.

Field names are the keys of the YAML files in `auricle/recipes`. Nothing is read here;
`reading.py` makes a `Recipe` from files and `key=value` overrides, and refuses unknown keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Head = Literal["ctc", "rnnt", "tdt"]
TextStyle = Literal["as_is", "lower", "upper", "plain"]
Monitor = Literal["wer", "cer"]
Reduction = Literal["mean_batch", "mean_volume"]


@dataclass(frozen=True)
class FeaturesRecipe:
    """The front end; anything else of `LogMelConfig` goes into `options`.

    `normalize` may be one mean and one deviation for all mels: a stream cannot know its own, and
    SpecAugment's masks, which are zeros, are silence or worse where nothing is normalised.
    """

    n_mels: int = 80
    normalize: Literal["per_feature", "all_features"] | tuple[float, float] | None = "per_feature"
    dither: float = 1e-5
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRecipe:
    """The networks.

    `family` gives the defaults of `encoder`, whose keys are the fields of `ConformerConfig`, or for
    citrinet, quartznet and jasper those of `architecture.JasperRecipe`. `predictor` and `joint`
    take the fields of their configurations; `durations` are TDT's.
    """

    family: Literal["fastconformer", "conformer", "citrinet", "quartznet", "jasper"] = (
        "fastconformer"
    )
    heads: tuple[Head, ...] = ("ctc",)
    default_head: Head | None = None
    features: FeaturesRecipe = field(default_factory=FeaturesRecipe)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    predictor: Mapping[str, Any] = field(default_factory=dict)
    joint: Mapping[str, Any] = field(default_factory=dict)
    durations: tuple[int, ...] = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class TokenizerRecipe:
    """An existing tokenizer (`path`: its .model or folder), or one built from the training text."""

    path: str | None = None
    kind: Literal["unigram", "bpe", "char"] = "unigram"
    size: int = 1024
    character_coverage: float = 1.0
    special: tuple[str, ...] = ()


@dataclass(frozen=True)
class JoinRecipe:
    """Utterances of one speaker joined into longer ones: how many, with pauses of some seconds."""

    count: tuple[int, int] = (2, 4)
    pause: tuple[float, float] = (0.1, 0.5)
    by: str | None = "speaker"
    items: int | None = None  # joined utterances an epoch; None: as many as use every item once


@dataclass(frozen=True)
class SourceRecipe:
    """One body of speech: exactly one of `manifest`, `tar`, `dataset`, `cuts`.

    `tar` names shards (braces expand, NeMo's `_OP_0..9_CL_` too); with `manifest` beside it they
    are NeMo's tarred layout, alone WebDataset. `dataset` is a Hugging Face name or folder, `cuts` a
    Lhotse file. `where` and `unless` keep and drop rows by the value of a key. `weight` is the
    source's share of what is drawn, relative to the others; None draws every item once an epoch.
    `limit` takes its first rows only.
    """

    manifest: str | tuple[str, ...] | None = None
    tar: str | tuple[str, ...] | None = None
    dataset: str | None = None
    cuts: str | None = None
    split: str = "train"
    subset: str | None = None
    streaming: bool = False
    audio_column: str = "audio"
    text_column: str = "text"
    weight: float | None = None
    where: Mapping[str, tuple[str | int | float | bool, ...]] = field(default_factory=dict)
    unless: Mapping[str, tuple[str | int | float | bool, ...]] = field(default_factory=dict)
    limit: int | None = None
    join: JoinRecipe | None = None
    language: str | None = None


@dataclass(frozen=True)
class DataRecipe:
    """What is learnt from, and in which batches.

    `text` is the normalisation of transcripts; None takes them as they stand, and refuses
    sources whose styles of writing differ. `batch_seconds` bounds a batch, padding counted.
    """

    train: tuple[SourceRecipe, ...] = ()
    validation: tuple[SourceRecipe, ...] = ()
    text: TextStyle | None = None
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    batch_seconds: float = 120.0
    max_batch: int = 256
    buckets: int = 8
    shuffle_buffer: int = 10_000
    workers: int = 2
    invalid: Literal["skip", "refuse"] = "skip"


@dataclass(frozen=True)
class SpecAugmentRecipe:
    """NeMo's masks; a `time_width` below 1 is a share of the clip's length.

    `adaptive`, in place of `time_masks` (Park et al. 2020): that share of the clip's frames.
    """

    freq_masks: int = 2
    freq_width: int = 27
    time_masks: int = 10
    time_width: float = 0.05
    adaptive: float | None = None


@dataclass(frozen=True)
class NoiseRecipe:
    """Sounds from `manifest` under the speech, at a level drawn from `snr` in decibels."""

    manifest: str
    prob: float = 0.5
    snr: tuple[float, float] = (5.0, 25.0)


@dataclass(frozen=True)
class RoomRecipe:
    """Room responses from `manifest`; None makes them: decaying noise of `rt60` seconds."""

    manifest: str | None = None
    prob: float = 0.3
    rt60: tuple[float, float] = (0.15, 0.6)


@dataclass(frozen=True)
class TelephoneRecipe:
    """A telephone's band (300-3400 Hz) at 8 kHz, and one of its codecs."""

    prob: float = 0.2
    codecs: tuple[Literal["none", "mulaw", "alaw", "gsm", "g722", "opus", "mp3"], ...] = (
        "none",
        "mulaw",
        "alaw",
    )


@dataclass(frozen=True)
class SpeedRecipe:
    """Faster or slower by resampling, which moves the pitch too; `factors` [low, high]."""

    prob: float = 0.66
    factors: tuple[float, float] = (0.9, 1.1)


@dataclass(frozen=True)
class GainRecipe:
    """Louder or softer by decibels drawn from `db`."""

    prob: float = 0.5
    db: tuple[float, float] = (-10.0, 6.0)


@dataclass(frozen=True)
class AugmentRecipe:
    """What is done to training speech; what is None is off."""

    spec: SpecAugmentRecipe | None = field(default_factory=SpecAugmentRecipe)
    speed: SpeedRecipe | None = None
    gain: GainRecipe | None = None
    noise: NoiseRecipe | None = None
    room: RoomRecipe | None = None
    telephone: TelephoneRecipe | None = None


@dataclass(frozen=True)
class LossRecipe:
    """`ctc_weight` is a hybrid's share of CTC; `sigma` and `omega` are TDT's (Xu et al. 2023).

    `reduction` is what a step's sum is divided by: the utterances ("mean_batch") or the tokens
    ("mean_volume") of all ranks and micro-batches.
    """

    ctc_weight: float = 0.3
    reduction: Reduction = "mean_batch"
    sigma: float = 0.02
    omega: float = 0.1
    joint_memory_mb: int = 512


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW or Novograd (Ginsburg et al. 2019); norms and biases are never decayed by AdamW.

    `adamw8bit` keeps AdamW's state in eight bits (Dettmers et al. 2021), on GPUs alone.
    """

    name: Literal["adamw", "adamw8bit", "novograd", "sgd"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 1e-3
    momentum: float = 0.0


@dataclass(frozen=True)
class ScheduleRecipe:
    """The learning rate over the steps; `lr` of the optimizer is its peak.

    `warmup` steps rise linearly; cosine, linear and wsd end at `min_lr`; wsd stays at the peak and
    falls over the last `decay` share of the steps. Noam falls with the root of the step.
    """

    name: Literal["constant", "noam", "cosine", "linear", "wsd"] = "cosine"
    warmup: int = 1000
    min_lr: float = 1e-6
    decay: float = 0.2


@dataclass(frozen=True)
class TrainRecipe:
    """The loop. One of `steps` and `epochs` ends it (both: whichever comes first).

    `validate_every` and `save_every` count optimiser steps, `patience` validations in which
    `monitor`, the error rate that the best models are kept by, is no better. `ema` is the decay of
    the averaged weights, which are then validated and kept; `average` makes the mean of the best
    checkpoints at the end. `accumulate` is the micro-batches of a step.
    `freeze_batch_norm` keeps the statistics of every BatchNorm; None does so where the training
    begins from a model. `gradient_checkpointing` computes the encoder's layers a second time in the
    backward pass instead of keeping all that is inside them.
    """

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    accumulate: int = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    clip: float | None = 1.0
    ema: float | None = None
    seed: int = 0
    validate_every: int = 1000
    save_every: int = 1000
    keep_best: int = 3
    patience: int | None = None
    monitor: Monitor = "wer"
    average: bool = False
    freeze_batch_norm: bool | None = None
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class LogRecipe:
    """Where figures go besides the run folder's `metrics.jsonl`."""

    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    every: int = 10
    project: str = "auricle"


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank adapters (Hu et al. 2021) on the layers that `targets` name, but not `exclude`.

    What they add is times `alpha / rank`. `dora` trains the rows' lengths apart (Liu et al. 2024).
    """

    targets: tuple[str, ...] = ("*.self_attn.*", "*.feed_forward1.*", "*.feed_forward2.*")
    exclude: tuple[str, ...] = ()
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    dora: bool = False


@dataclass(frozen=True)
class AdaptRecipe:
    """How a model that is there is changed: which of its weights move, and how fast.

    All names are patterns of `patterns.matching`. `freeze` stays as it is, but for `unfreeze`,
    which with `lora` names what is trained besides. Each layer of the encoder has the learning rate
    of the one above times `layer_decay`; `lr` gives factors of the learning rate by pattern.
    """

    lora: LoraRecipe | None = None
    freeze: tuple[str, ...] = ()
    unfreeze: tuple[str, ...] = ()
    layer_decay: float = 1.0
    lr: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A whole training; `init_from` is a model to begin from: a name, a folder or a .nemo.

    `tokenizer` is None where that model keeps its own.
    """

    name: str
    init_from: str | None = None
    adapt: AdaptRecipe | None = None
    tokenizer: TokenizerRecipe | None = field(default_factory=TokenizerRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    log: LogRecipe = field(default_factory=LogRecipe)
