"""A NeMo model's configuration made ours.

The translation is total: every key is used, is on an ignore list here, or is refused by name.
Absent keys get the defaults of NeMo's classes. The way back is `nemo_compose`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from auricle.checkpoints.nemo_families import (
    CTC_CLASSES,
    PROMPT_CLASSES,
    family_of,
    foreign,
    module_name,
)
from auricle.checkpoints.sections import Section
from auricle.config import made, shown
from auricle.errors import CheckpointError, ConfigError
from auricle.features import LogMelConfig
from auricle.models.asr import ModelConfig, PromptConfig, TransducerConfig
from auricle.models.conformer import ConformerConfig
from auricle.models.heads import JointConfig, PredictorConfig
from auricle.models.jasper import JasperBlockConfig, JasperConfig

# Keys of the root that concern training, data or logging, or only feed interpolations.
IGNORED_ROOT = (
    "adapters",
    "augmentor",
    "batch_size",
    "bleu_tokenizer",
    "bucketing_batch_size",
    "calculate_eou_metrics",
    "calculate_predictions",
    "char_labels",
    "child_model",
    "compute_eval_loss",
    "compute_langs",
    "compute_timestamps",
    "config_path",
    "ctc_reduction",
    "debug",
    "do_lowercase",
    "dropout",
    "dump_debug_info",
    "dump_debug_info_to_file",
    "enc_final",
    "enc_hidden",
    "exp_manager",
    "finetune_strategy",
    "freeze_decoder",
    "freeze_encoder",
    "freeze_updates",
    "freezing",
    "global_rank",
    "hydra",
    "init_strict",
    "interctc",
    "kernel_size_factor",
    "lang",
    "language",
    "languages",
    "local_rank",
    "log_prediction",
    "log_predictions",
    "memory_profile",
    "n_classes",
    "name",
    "nemo_version",
    "normalize_decoder_norm",
    "normalize_encoder_norm",
    "normalize_joint_norm",
    "normalize_joint_txu",
    "normalize_text",
    "nsys_profile",
    "chakra_profile",
    "num_prompts",
    "optim",
    "pretrained_model",
    "repeat",
    "rnnt_reduction",
    "save_pred_to_file",
    "se",
    "se_context_size",
    "separable",
    "skip_nan_grad",
    "spec_augment",
    "subsampling_factor",
    "test_ds",
    "token_init_bias_value",
    "token_init_method",
    "token_init_weight_value",
    "train_ds",
    "trainer",
    "use_cer",
    "validation_ds",
    "variational_noise",
    "version",
    "wer",
    "wer.use_cer",
    "world_size",
)
IGNORED_PREFIXES = ("init_from_", "save_", "hf_")

IGNORED_PREPROCESSOR = (
    "_target_",
    "rng",
    "nb_augmentation_prob",
    "nb_max_freq",
    "use_torchaudio",
    "stft_exact_pad",
    "stft_conv",
    "cls",
    "feat_type",
)
IGNORED_CONFORMER = (
    "_target_",
    "pos_emb_max_len",
    "subsampling_conv_chunking_factor",
    "use_pytorch_sdpa",
    "use_pytorch_sdpa_backends",
    "sync_max_audio_length",
)
IGNORED_JASPER = ("_target_", "init_mode", "quantize")
IGNORED_JASPER_BLOCK = ("se_interpolation_mode",)
IGNORED_PREDICTOR = ("t_max", "forget_gate_bias", "weights_init_scale", "hidden_hidden_bias_scale")
IGNORED_JOINT = (
    "_target_",
    "log_softmax",
    "preserve_memory",
    "fuse_loss_wer",
    "experimental_fuse_loss_wer",
    "fused_batch_size",
    "masking_prob",
    "n_samples",
    "vocabulary",
    "num_classes",
)
IGNORED_AUX_CTC = ("ctc_loss_weight", "use_cer", "ctc_reduction", "decoding", "bleu_tokenizer")

DEFAULT_MAX_SYMBOLS = 10
_LABELS = tuple[str | bool | int | float, ...]
_DURATIONS = tuple[int, ...]
UNUSED_CONTEXT = 2  # an LSTM's, so that equal models have equal configurations


@dataclass(frozen=True)
class Translation:
    """`labels` is the vocabulary as the file lists it, a character model's only one."""

    config: ModelConfig
    labels: tuple[str, ...]


def translate(
    values: Mapping[str, Any],
    where: str,
    *,
    vocab_size: int | None,
    feeds: Collection[str] = (),
) -> Translation:
    """Make a NeMo model section ours.

    Args:
        values: The section, interpolations resolved.
        where: The file, for messages.
        vocab_size: Pieces of the tokenizer; None for character models, whose labels are listed.
        feeds: Keys of the root that the file's own interpolations name; any are good.

    Raises:
        CheckpointError: A family that is not run, a key that is unknown, or a value that is none.
    """
    root = Section(values, "", where)
    family = family_of(values, where)
    transducer = family not in CTC_CLASSES
    hybrid = "Hybrid" in family
    root.ignore(["target"])
    labels = _labels(root, family)
    size = len(labels) if vocab_size is None else vocab_size
    try:
        features = _features(root.section("preprocessor"))
        encoder = _encoder(root.section("encoder"))
        width = encoder.d_out
        config = ModelConfig(
            features=features,
            encoder=encoder,
            vocab_size=size,
            ctc=hybrid or not transducer,
            transducer=_transducer(root, size, width) if transducer else None,
            prompt=_prompt(root, family),
            default_head=_default_head(root, transducer),
        )
    except (ConfigError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{where}: {error}; the configuration is not valid") from None
    if hybrid:
        aux = root.section("aux_ctc")
        aux.ignore(IGNORED_AUX_CTC)
        _check_ctc(aux.section("decoder"), width, size)
        aux.finish()
    elif not transducer:
        _check_ctc(root.section("decoder"), width, size)
    root.ignore(["sample_rate", "labels", "decoding", "loss", "model_defaults", "tokenizer"])
    root.ignore(IGNORED_ROOT)
    root.ignore(feeds)
    root.ignore([k for k in values if k.startswith(IGNORED_PREFIXES) or k.endswith("_ds")])
    root.finish(known=("encoder", "decoder", "joint", "aux_ctc", "preprocessor"))
    return Translation(config, labels)


def _labels(root: Section, family: str) -> tuple[str, ...]:
    if family in CTC_CLASSES:
        labels = root.section("decoder").take("vocabulary", (), _LABELS)
        root.ignore(["labels"])
    else:
        labels = root.take("labels", (), _LABELS)
    # YAML reads some letters as truth values and digits as numbers; NeMo takes them as text.
    return tuple(str(label) for label in labels)


def _features(section: Section) -> LogMelConfig:
    _expect(section, "AudioToMelSpectrogramPreprocessor")
    section.ignore(IGNORED_PREPROCESSOR)
    rate = section.take("sample_rate", 16000, int)
    window = _samples(section, "n_window_size", "window_size", 0.02, rate)
    config = LogMelConfig(
        sample_rate=rate,
        win_length=window,
        hop_length=_samples(section, "n_window_stride", "window_stride", 0.01, rate),
        n_mels=section.take("features", 64, int),
        n_fft=section.take("n_fft", 0, int) or _next_power_of_two(window),
        window=str(section.raw("window", "hann") or "none").replace("ones", "none"),
        preemphasis=section.raw("preemph", 0.97, float | None),
        fmin=section.take("lowfreq", 0.0, float),
        fmax=section.raw("highfreq", None, float | None),
        mel_norm=section.raw("mel_norm", "slaney"),
        log=section.take("log", True, bool),
        log_guard_type=section.take("log_zero_guard_type", "add"),
        log_guard=_guard(
            section.take("log_zero_guard_value", 2**-24, float | Literal["tiny", "eps"])
        ),
        normalize=_normalisation(section.raw("normalize", "per_feature")),
        pad_to=section.take("pad_to", 16, int),
        pad_value=section.take("pad_value", 0.0, float),
        mag_power=section.take("mag_power", 2.0, float),
        exact_pad=section.take("exact_pad", False, bool),
        dither=section.take("dither", 1e-5, float),
        frame_splicing=section.take("frame_splicing", 1, int),
    )
    section.finish()
    return config


def _samples(section: Section, in_samples: str, in_seconds: str, default: float, rate: int) -> int:
    """NeMo cuts the product off; a window given in samples rules out the default in seconds."""
    samples = section.take(in_samples, 0, int)
    seconds = section.raw(in_seconds, default, float | None)
    if samples and not section.values.get(in_seconds):
        return int(samples)
    if seconds is None:
        raise CheckpointError(f"{section.where}: {section.name(in_seconds)} is missing")
    return int(seconds * rate)


def _next_power_of_two(length: int) -> int:
    return 1 << max(0, length - 1).bit_length()


def _normalisation(value: Any) -> Any:
    """Any string but two means none, as in NeMo, where "NA" is the usual one."""
    if isinstance(value, Mapping):
        return value.get("fixed_mean"), value.get("fixed_std")
    return value if value in ("per_feature", "all_features") else None


def _guard(value: float | str) -> float:
    """NeMo also takes names; they mean float32's smallest number and its resolution."""
    names = {"tiny": 2.0**-126, "eps": 2.0**-23}
    return names[value] if isinstance(value, str) else value


def _encoder(section: Section) -> ConformerConfig | JasperConfig:
    name = module_name(section.values)
    if name in ("ConvASREncoder", "ParallelConvASREncoder", "ConvASREncoderAdapter"):
        return _jasper(section)
    _expect(section, "ConformerEncoder", "ConformerEncoderAdapter")
    return _conformer(section)


def _expect(section: Section, *names: str) -> None:
    name = module_name(section.values)
    section.ignore(["_target_"])
    if name and name not in names:
        raise foreign(section.where, "of a family it does not know", f"{section.path} is a {name}")


def _conformer(section: Section) -> ConformerConfig:
    section.ignore(IGNORED_CONFORMER)
    values: dict[str, Any] = {}
    for field in fields(ConformerConfig):
        value = section.take(field.name, None)
        if value is not None:
            values[field.name] = value
    contexts = values.get("att_context_size")
    if isinstance(contexts, list):
        nested = contexts and isinstance(contexts[0], list)
        values["att_context_size"] = contexts if nested else [contexts or [-1, -1]]
    if not section.take("subsampling_conv_channels", -1, int) > 0:
        values["subsampling_conv_channels"] = -1
    section.finish()
    for key in ("feat_in", "n_layers", "d_model"):
        section.take(key)
    config: ConformerConfig = made(ConformerConfig, values, section.path)
    return config


def _jasper(section: Section) -> JasperConfig:
    section.ignore(IGNORED_JASPER)
    mode = section.take("residual_mode", "add")
    blocks = []
    for number, row in enumerate(section.take("jasper", kind=tuple[Any, ...])):
        block = Section(row, f"{section.path}.jasper.{number}", section.where)
        block.ignore(IGNORED_JASPER_BLOCK)
        values: dict[str, Any] = {}
        for field in fields(JasperBlockConfig):
            value = block.take(field.name, None)
            if value is not None:
                values[field.name] = _single(block, field.name, value)
        block.finish()
        # An absent mode is the one of the block before: NeMo overwrites its own default.
        mode = values.setdefault("residual_mode", mode)
        blocks.append(made(JasperBlockConfig, values, block.path))
    if not blocks:
        raise CheckpointError(f"{section.where}: {section.name('jasper')} is empty")
    config = JasperConfig(
        feat_in=section.take("feat_in", kind=int),
        blocks=tuple(blocks),
        activation=section.take("activation", "relu", str),
        normalization_mode=section.take("normalization_mode", "batch", str),
        norm_groups=section.take("norm_groups", -1, int),
        conv_mask=section.take("conv_mask", True, bool),
        frame_splicing=section.take("frame_splicing", 1, int),
    )
    section.finish()
    return config


def _single(block: Section, key: str, value: Any) -> Any:
    """Kernels, strides and dilations are written as lists of one."""
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise CheckpointError(
            f"{block.where}: {block.name(key)} is {shown(value)}; blocks of several parallel "
            "kernels (CarneliNet) are not run"
        )
    return value[0]


def _default_head(root: Section, transducer: bool) -> str:
    if not transducer:
        return "ctc"
    return "tdt" if _durations(root) else "rnnt"


def _durations(root: Section) -> tuple[int, ...]:
    """By NeMo's rule the loss's durations, if it is the TDT loss, overrule those of decoding."""
    loss = root.section("loss")
    durations = root.section("decoding").take("durations", (), _DURATIONS)
    if loss.take("loss_name", None) == "tdt":
        durations = loss.section("tdt_kwargs").take("durations", durations, _DURATIONS)
    return tuple(durations)


def _transducer(root: Section, size: int, width: int) -> TransducerConfig:
    decoding, loss = root.section("decoding"), root.section("loss")
    multiblank = loss.take("loss_name", None) == "multiblank_rnnt"
    if decoding.take("big_blank_durations", None) or multiblank:
        raise foreign(root.where, "a multi-blank transducer", "it has big_blank_durations")
    predictor = _predictor(root.section("decoder"), size)
    durations = _durations(root)
    return TransducerConfig(
        predictor=predictor,
        joint=_joint(root, size, width, predictor.hidden, len(durations)),
        durations=durations,
        max_symbols=_max_symbols(decoding),
    )


def _max_symbols(decoding: Section) -> int | None:
    """Without a number NeMo's batched decoder takes ten, unless CUDA graphs are forbidden."""
    greedy = decoding.section("greedy")
    for key in ("max_symbols", "max_symbols_per_step"):
        if limit := greedy.take(key, 0, int):
            return int(limit)
    batched = decoding.raw("strategy", "greedy_batch") == "greedy_batch"
    graphs = greedy.raw("use_cuda_graph_decoder", True) and greedy.raw("loop_labels", True)
    return DEFAULT_MAX_SYMBOLS if batched and graphs else None


def _predictor(section: Section, size: int) -> PredictorConfig:
    stateless = module_name(section.values) == "StatelessTransducerDecoder"
    _expect(section, "RNNTDecoder", "StatelessTransducerDecoder")
    section.ignore(["random_state_sampling", "vocab_size"])
    prednet = section.section("prednet")
    prednet.ignore(IGNORED_PREDICTOR)
    normalisation = section.raw("normalization_mode", None)
    if normalisation is not None and not (stateless and normalisation == "layer"):
        raise CheckpointError(
            f"{section.where}: {section.name('normalization_mode')} {shown(normalisation)} is not "
            "run; only null is, and layer in a stateless decoder"
        )
    projected = prednet.take("rnn_hidden_size", -1, int)
    config = PredictorConfig(
        vocab_size=size,
        hidden=prednet.take("pred_hidden", kind=int),
        layers=prednet.take("pred_rnn_layers", 1, int),
        kind="stateless" if stateless else "lstm",
        context_size=section.take("context_size", 1, int) if stateless else UNUSED_CONTEXT,
        normalization_mode=normalisation,
        rnn_hidden=projected if projected > 0 else None,
        blank_as_pad=section.take("blank_as_pad", True, bool),
        dropout=prednet.take("dropout", 0.0, float),
    )
    prednet.finish()
    section.finish()
    return config


def _joint(root: Section, size: int, width: int, predictor: int, durations: int) -> JointConfig:
    section = root.section("joint")
    _expect(section, "RNNTJoint", "SampledRNNTJoint")
    section.ignore(IGNORED_JOINT)
    extra = section.take("num_extra_outputs", 0, int)
    if extra != durations:
        raise CheckpointError(
            f"{root.where}: joint.num_extra_outputs is {extra} but there are {durations} TDT "
            "durations in decoding and loss; the configuration is not whole"
        )
    net = section.section("jointnet")
    config = JointConfig(
        encoder_dim=net.take("encoder_hidden", width, int),
        predictor_dim=net.take("pred_hidden", predictor, int),
        hidden=net.take("joint_hidden", kind=int),
        n_outputs=size + 1 + extra,
        activation=net.take("activation", kind=str),
        dropout=net.take("dropout", 0.0, float),
    )
    net.finish()
    section.finish()
    return config


def _prompt(root: Section, family: str) -> PromptConfig | None:
    defaults = root.section("model_defaults")
    if family not in PROMPT_CLASSES or not defaults.take("initialize_prompt_feature", False):
        return None
    return PromptConfig(
        num_prompts=defaults.take("num_prompts", 128, int),
        languages=defaults.take("prompt_dictionary", {}, Mapping[str, int]),
    )


def _check_ctc(section: Section, width: int, size: int) -> None:
    _expect(section, "ConvASRDecoder")
    section.ignore(["init_mode", "vocabulary"])
    classes = section.take("num_classes", -1, int)
    wide = section.take("feat_in", width, int) or width
    if (classes > 0 and classes != size) or wide != width or not section.take("add_blank", True):
        raise CheckpointError(
            f"{section.where}: {section.path} has {classes} classes on {wide} channels, but the "
            f"vocabulary has {size} and the encoder gives {width}; the configuration is not whole"
        )
    section.finish()
