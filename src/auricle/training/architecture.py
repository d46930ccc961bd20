"""From a recipe's `model` to the configuration of the networks, and what each family means.

The numbers are those that NVIDIA published its models with; a recipe says what it has otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from auricle.config import Size, fitted, shown
from auricle.errors import ConfigError
from auricle.features import LogMelConfig, Normalisation
from auricle.models.asr import ModelConfig, TransducerConfig
from auricle.models.conformer import ConformerConfig
from auricle.models.heads import JointConfig, PredictorConfig
from auricle.models.jasper import JasperBlockConfig, JasperConfig
from auricle.training.recipe import ModelRecipe
from auricle.training.schema import validated


@dataclass(frozen=True)
class JasperRecipe:
    """An encoder of convolutions: `prolog`, groups of residual blocks, `epilog`.

    A group has a block for each of its `kernels`; its first block has the group's stride. `filters`
    and `dropout` are one number, or one for each group. Entries of `prolog` and `epilog` say the
    fields of `JasperBlockConfig` in which they differ from a block without residual or repetition.
    The other names are those of `JasperBlockConfig` and `JasperConfig`.
    """

    kernels: tuple[tuple[int, ...], ...]
    filters: int | tuple[int, ...]
    strides: tuple[int, ...] = ()
    repeat: int = 5
    dropout: float | tuple[float, ...] = 0.0
    kernel_size_factor: float = 1.0
    separable: bool = True
    se: bool = False
    se_context_size: int = -1
    se_reduction_ratio: int = 8
    stride_last: bool = False
    residual_mode: Literal["add", "stride_add"] = "add"
    residual_dense: bool = False
    prolog: tuple[Mapping[str, Any], ...] = ()
    epilog: tuple[Mapping[str, Any], ...] = ()
    activation: str = "relu"
    normalization_mode: str = "batch"
    norm_groups: int = -1
    conv_mask: bool = True


@dataclass(frozen=True)
class _Family:
    """Defaults of the encoder's keys and of `features.options`."""

    encoder: Mapping[str, Any]
    features: Mapping[str, Any] = field(default_factory=dict)


def _odd(first: int, last: int) -> list[int]:
    return list(range(first, last + 1, 2))


_CONFORMER = {"n_heads": 8, "d_model": 512, "dropout_emb": 0.0, "dropout_att": 0.1}
FAMILIES: Mapping[str, _Family] = {
    # Rekesh et al. 2023, arXiv 2305.05084; the sizes are those of "large".
    "fastconformer": _Family(
        {
            **_CONFORMER,
            "n_layers": 17,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": 256,
            "conv_kernel_size": 9,
        }
    ),
    # Gulati et al. 2020, arXiv 2005.08100.
    "conformer": _Family(
        {
            **_CONFORMER,
            "n_layers": 18,
            "subsampling": "striding",
            "subsampling_factor": 4,
            "conv_kernel_size": 31,
        }
    ),
    # Majumdar et al. 2021, arXiv 2104.01721.
    "citrinet": _Family(
        {
            "kernels": [_odd(11, 21), _odd(13, 25), _odd(25, 39)],
            "strides": [2, 2, 2],
            "dropout": 0.1,
            "se": True,
            "stride_last": True,
            "residual_mode": "stride_add",
            "prolog": [{"kernel": 5, "dropout": 0.0, "kernel_size_factor": 1.0}],
            "epilog": [{"kernel": 41, "dropout": 0.0, "filters": 640}],
        },
        {"pad_to": 16},
    ),
    # Kriman et al. 2019, arXiv 1910.10261: QuartzNet 15x5.
    "quartznet": _Family(
        {
            "kernels": [[33] * 3, [39] * 3, [51] * 3, [63] * 3, [75] * 3],
            "filters": [256, 256, 512, 512, 512],
            "prolog": [{"kernel": 33, "stride": 2}],
            "epilog": [
                {"kernel": 87, "dilation": 2},
                {"kernel": 1, "filters": 1024, "separable": False},
            ],
        },
        {"pad_to": 16, "win_length": 320},
    ),
    # Li et al. 2019, arXiv 1904.03288: Jasper DR 10x5.
    "jasper": _Family(
        {
            "kernels": [[11] * 2, [13] * 2, [17] * 2, [21] * 2, [25] * 2],
            "filters": [256, 384, 512, 640, 768],
            "dropout": [0.2, 0.2, 0.2, 0.3, 0.3],
            "separable": False,
            "residual_dense": True,
            "prolog": [{"kernel": 11, "stride": 2}],
            "epilog": [
                {"kernel": 29, "filters": 896, "dilation": 2, "dropout": 0.4},
                {"kernel": 1, "filters": 1024, "dropout": 0.4},
            ],
        },
        {"pad_to": 16, "win_length": 320},
    ),
}
_PREDICTOR = {"hidden": 640, "dropout": 0.2}
_JOINT = {"hidden": 640, "dropout": 0.2}


def model_config(recipe: ModelRecipe, vocab_size: int) -> ModelConfig:
    """The networks that `recipe` describes, for a tokenizer of `vocab_size` pieces.

    Raises:
        ConfigError: A key of `features.options`, `encoder`, `predictor` or `joint` is unknown, or a
            value does not fit it or the others; names the key and the nearest known one.
    """
    features = _features(recipe)
    conformer = recipe.family in ("fastconformer", "conformer")
    encoder = (_conformer if conformer else _jasper)(recipe, features.n_mels)
    durations = recipe.durations if "tdt" in recipe.heads else ()
    transducer = next((head for head in recipe.heads if head != "ctc"), None)
    return ModelConfig(
        features=features,
        encoder=encoder,
        vocab_size=vocab_size,
        ctc="ctc" in recipe.heads,
        transducer=_transducer(recipe, vocab_size, encoder.d_out, durations)
        if transducer
        else None,
        default_head=recipe.default_head or transducer or "ctc",
    )


def _features(recipe: ModelRecipe) -> LogMelConfig:
    said = recipe.features
    fitted(said.n_mels, Size, "model.features.n_mels")  # before as many numbers are made
    normalize: Normalisation = None
    if isinstance(said.normalize, tuple):
        mean, deviation = said.normalize
        normalize = (mean,) * said.n_mels, (deviation,) * said.n_mels
    else:
        normalize = said.normalize
    own = {"n_mels": said.n_mels, "normalize": normalize, "dither": said.dither}
    values = {**own, **FAMILIES[recipe.family].features, **said.options}
    config = validated(LogMelConfig, values, where="model.features.options")
    if config.frame_splicing != 1:
        raise ConfigError(
            "model.features.options.frame_splicing is only run, not trained; leave it"
        )
    return config


def _conformer(recipe: ModelRecipe, n_mels: int) -> ConformerConfig:
    where = "model.encoder"
    _refuse(recipe.encoder, where, feat_in="model.features.n_mels")
    values = {**FAMILIES[recipe.family].encoder, **recipe.encoder, "feat_in": n_mels}
    contexts = values.get("att_context_size")
    if isinstance(contexts, (list, tuple)) and contexts and isinstance(contexts[0], int):
        values["att_context_size"] = [contexts]
    config = validated(ConformerConfig, values, where=where)
    if any(len(size) != 2 for size in config.att_context_size):
        raise ConfigError(
            f"{where}.att_context_size is {shown(config.att_context_size)}; it must be [left, "
            "right], or a list of such pairs"
        )
    _positive(config, where, "n_layers", "d_model", "n_heads", "subsampling_factor")
    factor = config.subsampling_factor
    if factor & (factor - 1) and not config.subsampling.startswith("stacking"):
        raise ConfigError(f"{where}.subsampling_factor {factor} is no power of 2")
    _shares(config, where)
    chances = config.att_context_probs
    if chances is not None and len(chances) != len(config.att_context_size):
        raise ConfigError(
            f"{where}.att_context_probs has {len(chances)} entries for the "
            f"{len(config.att_context_size)} of att_context_size"
        )
    if config.att_context_style == "chunked_limited":
        for left, right in config.att_context_size:
            if right >= 0 and left >= 0 and left % (right + 1):
                raise ConfigError(
                    f"{where}.att_context_size has [{left}, {right}]; the left context must be a "
                    f"multiple of the chunk of {right + 1} steps"
                )
    return config


def _jasper(recipe: ModelRecipe, n_mels: int) -> JasperConfig:
    where = "model.encoder"
    values = {**FAMILIES[recipe.family].encoder, **recipe.encoder}
    said = validated(JasperRecipe, values, where=where)
    groups = len(said.kernels)
    filters = _each(said.filters, groups, f"{where}.filters")
    dropouts = _each(said.dropout, groups, f"{where}.dropout")
    strides = _each(said.strides or 1, groups, f"{where}.strides")
    plain = JasperBlockConfig(
        filters=filters[0],
        repeat=1,
        kernel=1,
        dropout=dropouts[0],
        separable=said.separable,
        se=said.se,
        se_context_size=said.se_context_size,
        se_reduction_ratio=said.se_reduction_ratio,
        kernel_size_factor=said.kernel_size_factor,
    )
    blocks = [_block(plain, row, f"{where}.prolog.{i}") for i, row in enumerate(said.prolog)]
    for kernels, width, dropout, stride in zip(
        said.kernels, filters, dropouts, strides, strict=True
    ):
        for i, kernel in enumerate(kernels):
            block = replace(
                plain,
                filters=width,
                repeat=said.repeat,
                kernel=kernel,
                stride=stride if i == 0 else 1,
                dropout=dropout,
                residual=True,
                stride_last=said.stride_last and i == 0,
                residual_mode=said.residual_mode,
                residual_dense=said.residual_dense,
            )
            blocks.append(block)
    last = replace(
        plain, filters=filters[-1], dropout=dropouts[-1], residual_mode=said.residual_mode
    )
    blocks += [_block(last, row, f"{where}.epilog.{i}") for i, row in enumerate(said.epilog)]
    for block in blocks:
        _positive(block, where, "filters", "kernel", "repeat", "stride", "dilation")
        _shares(block, where)
    return JasperConfig(
        feat_in=n_mels,
        blocks=tuple(blocks),
        activation=said.activation,
        normalization_mode=said.normalization_mode,
        norm_groups=said.norm_groups,
        conv_mask=said.conv_mask,
    )


def _each(value: Any, groups: int, where: str) -> tuple[Any, ...]:
    """One for each group of blocks."""
    each = value if isinstance(value, tuple) else (value,) * groups
    if len(each) != groups or not groups:
        raise ConfigError(f"{where} has {len(each)} entries for {groups} groups of kernels")
    return each


def _block(like: JasperBlockConfig, values: Mapping[str, Any], where: str) -> JasperBlockConfig:
    return validated(JasperBlockConfig, {**_shallow(like), **values}, where=where)


def _shallow(config: JasperBlockConfig) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config)}


def _transducer(
    recipe: ModelRecipe, vocab_size: int, width: int, durations: tuple[int, ...]
) -> TransducerConfig:
    where = "model.predictor"
    _refuse(recipe.predictor, where, vocab_size="the tokenizer")
    values = {**_PREDICTOR, **recipe.predictor, "vocab_size": vocab_size}
    predictor = validated(PredictorConfig, values, where=where)
    _positive(predictor, where, "hidden", "layers", "context_size")
    _shares(predictor, where)
    where = "model.joint"
    own = {
        "encoder_dim": width,
        "predictor_dim": predictor.hidden,
        "n_outputs": vocab_size + 1 + len(durations),
    }
    _refuse(recipe.joint, where, **dict.fromkeys(own, "the rest of the model"))
    joint = validated(JointConfig, {**_JOINT, **recipe.joint, **own}, where=where)
    _positive(joint, where, "hidden")
    _shares(joint, where)
    return TransducerConfig(predictor, joint, durations)


def _refuse(values: Mapping[str, Any], where: str, **follows: str) -> None:
    """Keys that nobody may give, because they follow from something else."""
    for key, source in follows.items():
        if key in values:
            raise ConfigError(f"{where}.{key} follows from {source}; leave it out")


def _positive(config: Any, where: str, *keys: str) -> None:
    for key in keys:
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}: {key} is {getattr(config, key)}; it must be above 0")


def _shares(config: Any, where: str) -> None:
    """What is dropped must leave something."""
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name.startswith("dropout") and not 0 <= value < 1:
            raise ConfigError(f"{where}: {each.name} is {value}; it must be from 0 to below 1")
