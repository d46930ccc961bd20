"""The configurations of transformers' Parakeet and Nemotron streaming classes, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from auricle.checkpoints.sections import Section
from auricle.config import Within, shown
from auricle.errors import CheckpointError, ConfigError
from auricle.features import LogMelConfig
from auricle.models.asr import MOST_SYMBOLS, ModelConfig, PromptConfig, TransducerConfig
from auricle.models.conformer import ConformerConfig
from auricle.models.heads import JointConfig, PredictorConfig

MODEL_TYPES = {
    "parakeet_ctc": "ctc",
    "parakeet_rnnt": "rnnt",
    "parakeet_tdt": "tdt",
    "nemotron_asr_streaming": "rnnt",
    "nemotron3_5_asr": "rnnt",
}
CLASSES = {
    "parakeet_ctc": "ParakeetForCTC",
    "parakeet_rnnt": "ParakeetForRNNT",
    "parakeet_tdt": "ParakeetForTDT",
    "nemotron_asr_streaming": "NemotronAsrStreamingForRNNT",
    "nemotron3_5_asr": "Nemotron3_5AsrForRNNT",
}
STREAMING = ("nemotron_asr_streaming", "nemotron3_5_asr")
FOREIGN_TYPES = {
    "whisper": "a Whisper model: load it by its folder or hub name with auricle.load",
    "canary": "an attention encoder-decoder (Canary) model, which Auricle does not run",
    "parakeet_encoder": "an encoder without a head, which cannot transcribe",
    "nemotron3_diarization": "a speaker diarisation model, which Auricle does not run",
    "nemotron3_5_transcribe": "a model of several parts, which Auricle does not run",
    "lasr_ctc": "a model of another maker (LASR), which Auricle does not run",
}

# What transformers writes into any configuration, and what concerns training or generation.
IGNORED_ROOT = (
    "_attn_implementation",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "bos_token_id",
    "chunk_size_feed_forward",
    "ctc_loss_reduction",
    "ctc_zero_infinity",
    "decoder_start_token_id",
    "default_prompt_id",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "sep_token_id",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)
IGNORED_ENCODER = (
    *IGNORED_ROOT,
    "max_position_embeddings",
    "activation_dropout",
    "num_key_value_heads",
)
IGNORED_EXTRACTOR = (
    "feature_extractor_type",
    "mel_filters_dtype",
    "processor_class",
    "padding_side",
    "padding_value",
    "return_attention_mask",
)
DEFAULT_LOOKAHEADS = (13, 6, 1, 0)


@dataclass(frozen=True)
class Translation:
    """`blank` is its id in the folder's own numbering; in ours it is always the last."""

    config: ModelConfig
    blank: int


def translate_config(root: Section, processor: Mapping[str, Any]) -> Translation:
    """Make a folder's configuration ours.

    Raises:
        CheckpointError: A family that is not run, an unknown key, or a value that is none.
    """
    kind = root.take("model_type", "", str)
    if kind not in MODEL_TYPES:
        raise CheckpointError(f"{root.where}: {_refusal(kind, root.values)}")
    root.ignore(IGNORED_ROOT)
    head = MODEL_TYPES[kind]
    size = root.take("vocab_size", {"ctc": 1025, "rnnt": 8193, "tdt": 8193}[head], int) - 1
    blank = root.take("pad_token_id" if head == "ctc" else "blank_token_id", size, int)
    if not 0 <= blank <= size:
        raise CheckpointError(f"{root.where}: the blank's id {blank} is not one of {size + 1}")
    section = root.section("encoder_config")
    try:
        encoder = _encoder(section, kind, processor)
        config = ModelConfig(
            features=_features(processor, kind, encoder.feat_in, root.where),
            encoder=encoder,
            vocab_size=size,
            ctc=head == "ctc",
            transducer=None if head == "ctc" else _transducer(root, head, size, encoder.d_model),
            prompt=_prompt(root, processor, encoder.d_model) if kind == "nemotron3_5_asr" else None,
            default_head=head,
        )
    except (ConfigError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{root.where}: {error}; the configuration is not valid") from None
    root.finish()
    return Translation(config, blank)


def compose_config(config: ModelConfig, head: str) -> dict[str, Any]:
    """`config.json` for one head of the model.

    Raises:
        CheckpointError: An option that transformers' classes lack; the message names it.
    """
    encoder = config.encoder
    if not isinstance(encoder, ConformerConfig):
        raise CheckpointError("transformers has no Citrinet, QuartzNet or Jasper; save as .nemo")
    streaming = encoder.causal_downsampling
    kind = f"parakeet_{head}"
    if streaming:
        kind = "nemotron3_5_asr" if config.prompt else "nemotron_asr_streaming"
    _refuse(_lacking(config, encoder, head, streaming))
    values: dict[str, Any] = {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size + 1,
        "pad_token_id": config.vocab_size,
        "encoder_config": _compose_encoder(encoder, streaming),
    }
    if head == "ctc":
        return values
    assert config.transducer is not None
    transducer = config.transducer
    values.update(
        blank_token_id=config.vocab_size,
        decoder_hidden_size=transducer_width(transducer),
        num_decoder_layers=transducer.predictor.layers,
        hidden_act=transducer.joint.activation,
        max_symbols_per_step=transducer.max_symbols or MOST_SYMBOLS,
        is_encoder_decoder=True,
    )
    if transducer.durations:
        values["durations"] = list(transducer.durations)
    if config.prompt is not None:
        values["num_prompts"] = config.prompt.num_prompts
        values["prompt_intermediate_size"] = 2 * encoder.d_model
        values["default_prompt_id"] = config.prompt.languages.get("auto", 0)
    return values


def transducer_width(transducer: TransducerConfig) -> int:
    """The one width that transformers gives to the predictor and the joint network."""
    return max(transducer.predictor.hidden, transducer.joint.hidden)


def compose_generation(values: Mapping[str, Any]) -> dict[str, Any]:
    """`generation_config.json` of a folder with this `config.json`.

    Without it `generate` does not know which token to start from, and takes a TDT's durations,
    which stand behind the vocabulary, for tokens. (transformers' convert_nemo_to_hf.py)
    """
    generation = {"pad_token_id": values["pad_token_id"]}
    if "blank_token_id" not in values:
        return generation
    size, durations = values["vocab_size"], len(values.get("durations", ()))
    generation["decoder_start_token_id"] = values["blank_token_id"]
    # An id that is never emitted: only with one are the shorter clips of a batch padded at their
    # end. Without, transformers 5.24 decodes them on until the longest is done.
    generation["eos_token_id"] = size + durations
    if durations:
        generation["suppress_tokens"] = [*range(size, size + durations)]
    return generation


def compose_processor(config: ModelConfig, head: str, blank: str) -> dict[str, Any]:
    """`processor_config.json`."""
    encoder, features = config.encoder, config.features
    streaming = isinstance(encoder, ConformerConfig) and encoder.causal_downsampling
    flavour = "NemotronAsrStreaming" if streaming else "Parakeet"
    values: dict[str, Any] = {
        "processor_class": f"{'Nemotron3_5Asr' if config.prompt else flavour}Processor",
        "blank_token": blank,
        "feature_extractor": {
            "feature_extractor_type": f"{flavour}FeatureExtractor",
            "feature_size": features.n_mels,
            "sampling_rate": features.sample_rate,
            "hop_length": features.hop_length,
            "n_fft": features.n_fft,
            "win_length": features.win_length,
            "preemphasis": features.preemphasis or 0.0,
            "padding_value": 0.0,
        },
    }
    if not streaming:
        values["decoder_type"] = head
    elif isinstance(encoder, ConformerConfig):
        values["supported_num_lookahead_tokens"] = [c[1] for c in encoder.att_context_size]
    if config.prompt is not None:
        values["prompt_dictionary"] = dict(config.prompt.languages)
        values["num_prompts"] = config.prompt.num_prompts
    return values


def _refusal(kind: str, values: Mapping[str, Any]) -> str:
    if kind in FOREIGN_TYPES:
        return f"this is {FOREIGN_TYPES[kind]}"
    if "pretrained_llm" in values or "perception" in values:
        return "this is a speech language model (SALM), which Auricle does not run"
    named = f"model_type {shown(kind)}" if kind else "without model_type"
    return f"{named} is not run; Auricle runs {', '.join(MODEL_TYPES)}, and Whisper"


def _encoder(section: Section, kind: str, processor: Mapping[str, Any]) -> ConformerConfig:
    section.ignore(IGNORED_ENCODER)
    streaming = kind in STREAMING
    width = section.take("hidden_size", 1024, int)
    inner = section.take("intermediate_size", 4096, int)
    for key, only in (
        ("hidden_act", "silu"),
        ("subsampling_conv_kernel_size", 3),
        ("subsampling_conv_stride", 2),
    ):
        if section.take(key, only) != only:
            raise CheckpointError(
                f"{section.where}: {section.name(key)} is {shown(section.values[key])}; only "
                f"{only} is run"
            )
    if width < 1 or inner % width:
        raise CheckpointError(
            f"{section.where}: intermediate_size {inner} is no multiple of hidden_size {width}"
        )
    attention = section.take("attention_bias", True, bool)
    convolution = section.take("convolution_bias", True, bool)
    dropout = section.take("dropout", 0.1, float)
    contexts = _contexts(section, processor) if streaming else ((-1, -1),)
    config = ConformerConfig(
        feat_in=section.take("num_mel_bins", 80, int),
        n_layers=section.take("num_hidden_layers", 24, int),
        d_model=width,
        causal_downsampling=streaming,
        subsampling="dw_striding",
        subsampling_factor=section.take("subsampling_factor", 8, int),
        subsampling_conv_channels=section.take("subsampling_conv_channels", 256, int),
        ff_expansion_factor=inner // width,
        n_heads=section.take("num_attention_heads", 8, int),
        att_context_size=contexts,
        att_context_style="chunked_limited" if streaming else "regular",
        xscaling=section.take("scale_input", True, bool),
        conv_kernel_size=section.take("conv_kernel_size", 9, int),
        conv_norm_type="layer_norm" if streaming else "batch_norm",
        conv_context_size="causal" if streaming else None,
        use_bias=attention or convolution,
        dropout=dropout,
        dropout_pre_encoder=dropout,
        dropout_emb=section.take("dropout_positions", 0.0, float),
        dropout_att=section.take("attention_dropout", 0.1, float),
        stochastic_depth_drop_prob=section.take("layerdrop", 0.1, float),
        stochastic_depth_mode="uniform",
    )
    section.finish()
    return config


def _contexts(section: Section, processor: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """The default lookahead first, then the others the processor lists."""
    left = section.take("sliding_window", 71, int) - 1
    default = section.take("default_num_lookahead_tokens", 13, int)
    listed = Section(processor, "", section.where).take(
        "supported_num_lookahead_tokens",
        DEFAULT_LOOKAHEADS,
        tuple[Annotated[int, Within(0, 2**16)], ...],
    )
    others = [right for right in listed if right != default and left % (right + 1) == 0]
    return tuple((left, right) for right in (default, *others))


def _features(processor: Mapping[str, Any], kind: str, n_mels: int, where: str) -> LogMelConfig:
    section = Section(processor, "", where).section("feature_extractor")
    section.ignore(IGNORED_EXTRACTOR)
    config = LogMelConfig(
        sample_rate=section.take("sampling_rate", 16000, int),
        n_mels=section.take("feature_size", n_mels, int),
        n_fft=section.take("n_fft", 512, int),
        win_length=section.take("win_length", 400, int),
        hop_length=section.take("hop_length", 160, int),
        preemphasis=section.take("preemphasis", 0.97, float) or None,
        normalize=None if kind in STREAMING else "per_feature",
        dither=0.0,
    )
    section.finish()
    if config.n_mels != n_mels:
        raise CheckpointError(
            f"{where}: the encoder takes {n_mels} mel bins but the processor makes {config.n_mels}"
        )
    return config


def _transducer(root: Section, head: str, size: int, width: int) -> TransducerConfig:
    hidden = root.take("decoder_hidden_size", 640, int)
    durations = root.take("durations", (0, 1, 2, 3, 4), tuple[int, ...]) if head == "tdt" else ()
    return TransducerConfig(
        predictor=PredictorConfig(
            vocab_size=size, hidden=hidden, layers=root.take("num_decoder_layers", 2, int)
        ),
        joint=JointConfig(
            encoder_dim=width,
            predictor_dim=hidden,
            hidden=hidden,
            n_outputs=size + 1 + len(durations),
            activation=root.take("hidden_act", "relu", str),
        ),
        durations=durations,
        max_symbols=root.take("max_symbols_per_step", 10, int),
    )


def _prompt(root: Section, processor: Mapping[str, Any], width: int) -> PromptConfig:
    inner = root.take("prompt_intermediate_size", 2048, int)
    if inner != 2 * width:
        raise CheckpointError(
            f"{root.where}: prompt_intermediate_size is {inner}; only twice the hidden size is run"
        )
    auto = {"auto": root.take("default_prompt_id", 101, int)}
    languages = Section(processor, "", root.where).take(
        "prompt_dictionary", auto, Mapping[str, int]
    )
    count = root.take("num_prompts", 128, int)
    # transformers' own default names a prompt, 101, whether or not there are as many.
    known = {name: at for name, at in (languages or auto).items() if at < count}
    return PromptConfig(num_prompts=count, languages=known)


def _compose_encoder(encoder: ConformerConfig, streaming: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model_type": "nemotron_asr_streaming_encoder" if streaming else "parakeet_encoder",
        "hidden_size": encoder.d_model,
        "num_hidden_layers": encoder.n_layers,
        "num_attention_heads": encoder.n_heads,
        "intermediate_size": encoder.d_model * encoder.ff_expansion_factor,
        "hidden_act": "silu",
        "attention_bias": encoder.use_bias,
        "convolution_bias": encoder.use_bias,
        "conv_kernel_size": encoder.conv_kernel_size,
        "subsampling_factor": encoder.subsampling_factor,
        "subsampling_conv_channels": _channels(encoder),
        "num_mel_bins": encoder.feat_in,
        "dropout": encoder.dropout,
        "dropout_positions": encoder.dropout_emb,
        "layerdrop": encoder.stochastic_depth_drop_prob,
        "activation_dropout": encoder.dropout,
        "attention_dropout": encoder.dropout_att,
        "scale_input": encoder.xscaling,
    }
    if streaming:
        left, right = encoder.att_context_size[0]
        values["sliding_window"] = left + 1
        values["default_num_lookahead_tokens"] = right
    return values


def _channels(encoder: ConformerConfig) -> int:
    channels = encoder.subsampling_conv_channels
    return channels if channels > 0 else encoder.d_model


def _lacking(
    config: ModelConfig, encoder: ConformerConfig, head: str, streaming: bool
) -> dict[str, bool]:
    """Options by name, and whether the model has them in a way that transformers cannot."""
    contexts = encoder.att_context_size
    causal = encoder.conv_context == (encoder.conv_kernel_size - 1, 0)
    centred = encoder.conv_context[0] == encoder.conv_context[1]
    features = config.features
    lacking = {
        f"subsampling {encoder.subsampling}": encoder.subsampling != "dw_striding",
        f"self_attention_model {encoder.self_attention_model}": (
            encoder.self_attention_model != "rel_pos"
        ),
        "untie_biases off": not encoder.untie_biases,
        "reduction": bool(encoder.reduction) and encoder.reduction_factor > 1,
        "feat_out": encoder.feat_out not in (-1, encoder.d_model),
        f"conv_norm_type {encoder.conv_norm_type}": (
            encoder.conv_norm_type != ("layer_norm" if streaming else "batch_norm")
        ),
        "conv_context_size": not (causal if streaming else centred),
        f"att_context_size {list(contexts[0])}": (
            len({c[0] for c in contexts}) > 1 or min(min(c) for c in contexts) < 0
            if streaming
            else contexts[0] != (-1, -1)
        ),
        "att_context_style": streaming and encoder.att_context_style != "chunked_limited",
        "a prompt": config.prompt is not None and not streaming,
        f"a {head} head on a streaming encoder": streaming and head != "rnnt",
        "this front end": features
        != LogMelConfig(
            sample_rate=features.sample_rate,
            n_mels=features.n_mels,
            n_fft=features.n_fft,
            win_length=features.win_length,
            hop_length=features.hop_length,
            preemphasis=features.preemphasis,
            normalize=None if streaming else "per_feature",
            dither=features.dither,
            pad_to=features.pad_to,
        ),
    }
    if head != "ctc" and config.transducer is not None:
        predictor = config.transducer.predictor
        lacking["a stateless predictor"] = predictor.kind != "lstm"
        lacking["an LSTM with projections"] = bool(predictor.rnn_hidden)
    return lacking


def _refuse(lacking: Mapping[str, bool]) -> None:
    names = [name for name, lacks in lacking.items() if lacks]
    if names:
        raise CheckpointError(
            f"transformers has no form of {', '.join(names)}; save as .nemo or in Auricle's format"
        )
