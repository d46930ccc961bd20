"""Our configuration as a NeMo model section, complete enough for NeMo to restore and transcribe.

The inverse of `nemo_config`. What NeMo's classes read beyond the networks (data sections, labels,
decoding) is written too: a section that is null where NeMo looks into it is a crash there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from auricle.checkpoints.nemo_config import IGNORED_PREFIXES, IGNORED_ROOT, translate
from auricle.checkpoints.nemo_families import CLASSES, PROMPT_CLASSES
from auricle.errors import CheckpointError
from auricle.features import LogMelConfig
from auricle.models.asr import ModelConfig, TransducerConfig
from auricle.models.conformer import ConformerConfig
from auricle.models.jasper import JasperBlockConfig, JasperConfig
from auricle.tokenizers import AggregateTokenizer, CharTokenizer, Tokenizer

NEMO_VERSION = "3.0.0"  # whose classes the written configuration is for
DATA_SECTIONS = ("train_ds", "validation_ds", "test_ds")
_MODULES = "nemo.collections.asr.modules"
_MODELS = {
    "EncDecCTCModel": "ctc_models",
    "EncDecCTCModelBPE": "ctc_bpe_models",
    "EncDecRNNTModel": "rnnt_models",
    "EncDecRNNTBPEModel": "rnnt_bpe_models",
    "EncDecHybridRNNTCTCModel": "hybrid_rnnt_ctc_models",
    "EncDecHybridRNNTCTCBPEModel": "hybrid_rnnt_ctc_bpe_models",
    "EncDecRNNTBPEModelWithPrompt": "rnnt_bpe_models_prompt",
    "EncDecHybridRNNTCTCBPEModelWithPrompt": "hybrid_rnnt_ctc_bpe_models_prompt",
    "EncDecRNNTBPEEOUModel": "asr_eou_models",
    "EncDecHybridRNNTCTCBPEEOUModel": "asr_eou_models",
}


def compose(
    config: ModelConfig,
    tokenizer: Tokenizer,
    tokenizer_section: Mapping[str, Any] | None,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The model section of the file.

    Args:
        config: Ours.
        tokenizer: Whose pieces NeMo wants listed.
        tokenizer_section: From `write_tokenizer`.
        origin: The checkpoint's. Of the YAML the model came with, under `nemo`, all stays that
            still describes `config`; the training's losses, under `loss`, are written too.
    """
    fresh = _fresh(config, tokenizer, tokenizer_section)
    yaml = origin.get("nemo")
    if yaml is None:
        values = fresh
    elif (kept := _updated(yaml, config, tokenizer, tokenizer_section)) is not None:
        values = kept
        for key in (*DATA_SECTIONS[1:], "target", "nemo_version"):
            values[key] = values.get(key) or fresh[key]
    else:
        remains = {k: v for k, v in yaml.items() if k in IGNORED_ROOT or _prefixed(k)}
        values = {**remains, **{k: v for k, v in fresh.items() if not remains.get(k)}}
    return _with_losses(values, config, origin["loss"]) if "loss" in origin else values


def _updated(
    origin: Mapping[str, Any],
    config: ModelConfig,
    tokenizer: Tokenizer,
    tokenizer_section: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """The YAML the model came with and what has changed since; None for a model of another kind."""
    if not _same_vocabulary(origin, tokenizer):
        return None
    values = {**origin, **_vocabularies(origin, tokenizer)}
    size = None if isinstance(tokenizer, CharTokenizer) else len(tokenizer.pieces)
    try:
        before = translate(values, "origin", vocab_size=size).config
        if before != config:
            old, new = (_fresh(c, tokenizer, tokenizer_section) for c in (before, config))
            values = _changed(values, old, new)
            if translate(values, "origin", vocab_size=size).config != config:
                return None
    except CheckpointError:
        return None
    if tokenizer_section is not None:
        values["tokenizer"] = _joined(origin["tokenizer"], tokenizer_section)
    return values


def _changed(
    origin: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    """`origin` with what tells `new` from `old`."""
    values = {key: value for key, value in origin.items() if key not in old or key in new}
    for key, value in new.items():
        if key in old and old[key] == value:
            continue
        mine, was = origin.get(key), old.get(key)
        if isinstance(mine, Mapping) and isinstance(was, Mapping) and isinstance(value, Mapping):
            value = _changed(mine, was, value)
        values[key] = value
    return values


def _with_losses(
    values: dict[str, Any], config: ModelConfig, loss: Mapping[str, Any]
) -> dict[str, Any]:
    """What the model was trained with, in the places where NeMo goes on from.

    Args:
        values: The model section.
        config: Ours.
        loss: `ctc_weight`, `reduction`, `sigma` and `omega`, as in a recipe.
    """
    reduction = loss["reduction"]
    if config.transducer is None:
        return {**values, "ctc_reduction": reduction}
    values = {**values, "rnnt_reduction": reduction}
    if config.ctc:
        aux = {"ctc_loss_weight": loss["ctc_weight"], "ctc_reduction": reduction}
        values["aux_ctc"] = {**values["aux_ctc"], **aux}
    if config.transducer.durations:
        tdt = values.get("loss", {})
        trained = {"sigma": loss["sigma"], "omega": loss["omega"]}
        kwargs = {**tdt.get("tdt_kwargs", {}), **trained}
        kwargs["durations"] = list(config.transducer.durations)
        values["loss"] = {**tdt, "loss_name": "tdt", "tdt_kwargs": kwargs}
    return values


def _joined(origin: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """What the file said of its tokenizer, with the artefacts' new names."""
    joined = {**origin, **{k: v for k, v in section.items() if k != "dir" or "dir" not in origin}}
    if "langs" in section:
        joined["langs"] = {
            language: _joined(origin["langs"][language], part)
            for language, part in section["langs"].items()
        }
    return joined


def _prefixed(key: str) -> bool:
    return key.startswith(IGNORED_PREFIXES) or key.endswith("_ds")


def _same_vocabulary(origin: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer is of the kind, and has the languages, that the YAML names."""
    section = origin.get("tokenizer")
    if isinstance(tokenizer, CharTokenizer) or not section:
        return isinstance(tokenizer, CharTokenizer) and not section
    aggregate = isinstance(tokenizer, AggregateTokenizer)
    if not aggregate or section.get("type") != "agg":
        return not aggregate and section.get("type") != "agg"
    return tuple(section["langs"]) == tokenizer.languages


def _vocabularies(origin: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Every place where NeMo keeps the list of pieces, brought up to date."""
    pieces = list(tokenizer.pieces)
    if "joint" not in origin:
        return {"decoder": _listing(origin["decoder"], pieces)}
    out: dict[str, Any] = {
        "labels": pieces,
        "decoder": {**origin["decoder"], "vocab_size": len(pieces)},
        "joint": {**origin["joint"], "num_classes": len(pieces), "vocabulary": pieces},
    }
    if "aux_ctc" in origin:
        head = _listing(origin["aux_ctc"]["decoder"], pieces)
        out["aux_ctc"] = {**origin["aux_ctc"], "decoder": head}
    return out


def _listing(decoder: Mapping[str, Any], pieces: list[str]) -> dict[str, Any]:
    """A CTC decoder's section, which counts its classes only where it was written to."""
    counted = {"num_classes": len(pieces)} if decoder.get("num_classes", -1) > 0 else {}
    return {**decoder, **counted, "vocabulary": pieces}


def _fresh(
    config: ModelConfig, tokenizer: Tokenizer, tokenizer_section: Mapping[str, Any] | None
) -> dict[str, Any]:
    pieces = list(tokenizer.pieces)
    width = config.encoder.d_out
    values: dict[str, Any] = {"sample_rate": config.features.sample_rate}
    for key in DATA_SECTIONS:
        values[key] = _data_section(config, pieces, shuffle=key == "train_ds")
    if config.transducer is not None:
        values["model_defaults"] = _defaults(config, config.transducer, width)
    if tokenizer_section is not None:
        values["tokenizer"] = dict(tokenizer_section)
    values["preprocessor"] = _preprocessor(config.features)
    values["encoder"] = _encoder(config.encoder)
    if config.transducer is None:
        values["decoder"] = _ctc_decoder(pieces, width)
        values["decoding"] = {"strategy": "greedy_batch"}
    else:
        values.update(_transducer(config.transducer, pieces))
    if config.transducer is not None and config.ctc:
        values["aux_ctc"] = {
            "ctc_loss_weight": 0.3,
            "use_cer": False,
            "ctc_reduction": "mean_batch",
            "decoder": _ctc_decoder(pieces, width),
            "decoding": {"strategy": "greedy_batch"},
        }
    values["labels"] = pieces
    family = _family(config, tokenizer)
    values["target"] = f"nemo.collections.asr.models.{_MODELS[family]}.{family}"
    values["nemo_version"] = NEMO_VERSION
    return values


def _family(config: ModelConfig, tokenizer: Tokenizer) -> str:
    pieces = "" if isinstance(tokenizer, CharTokenizer) else "BPE"
    if config.transducer is None:
        return f"EncDecCTCModel{pieces}"
    kind = "HybridRNNTCTC" if config.ctc else "RNNT"
    family = f"EncDec{kind}{pieces}Model{'WithPrompt' if config.prompt else ''}"
    if config.prompt and family not in PROMPT_CLASSES:
        raise CheckpointError("NeMo has no prompted model on characters; it cannot be written")
    return family


def _data_section(config: ModelConfig, pieces: list[str], *, shuffle: bool) -> dict[str, Any]:
    return {
        "manifest_filepath": None,
        "sample_rate": config.features.sample_rate,
        "labels": pieces,
        "batch_size": 16,
        "shuffle": shuffle,
        "num_workers": 0,
        "pin_memory": True,
        "use_start_end_token": False,
        "defer_setup": True,
    }


def _defaults(config: ModelConfig, transducer: TransducerConfig, width: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "enc_hidden": width,
        "pred_hidden": transducer.predictor.hidden,
        "joint_hidden": transducer.joint.hidden,
    }
    if config.prompt is not None:
        values["initialize_prompt_feature"] = True
        values["num_prompts"] = config.prompt.num_prompts
        values["prompt_dictionary"] = dict(config.prompt.languages)
    return values


def _preprocessor(features: LogMelConfig) -> dict[str, Any]:
    normalize: Any = features.normalize or "NA"
    if isinstance(normalize, tuple):
        normalize = {"fixed_mean": list(normalize[0]), "fixed_std": list(normalize[1])}
    return {
        "_target_": f"{_MODULES}.AudioToMelSpectrogramPreprocessor",
        "sample_rate": features.sample_rate,
        "normalize": normalize,
        "window_size": _seconds(features.win_length, features.sample_rate),
        "window_stride": _seconds(features.hop_length, features.sample_rate),
        "window": "ones" if features.window == "none" else features.window,
        "features": features.n_mels,
        "n_fft": features.n_fft,
        "preemph": features.preemphasis,
        "lowfreq": features.fmin,
        "highfreq": features.fmax,
        "mel_norm": features.mel_norm,
        "log": features.log,
        "log_zero_guard_type": features.log_guard_type,
        "log_zero_guard_value": features.log_guard,
        "mag_power": features.mag_power,
        "frame_splicing": features.frame_splicing,
        "exact_pad": features.exact_pad,
        "dither": features.dither,
        "pad_to": features.pad_to,
        "pad_value": features.pad_value,
    }


def _seconds(samples: int, rate: int) -> float:
    """NeMo multiplies by the rate and cuts off: the quotient must not fall just below."""
    seconds = samples / rate
    return seconds if int(seconds * rate) == samples else math.nextafter(seconds, math.inf)


def _encoder(encoder: ConformerConfig | JasperConfig) -> dict[str, Any]:
    if isinstance(encoder, JasperConfig):
        return _jasper(encoder)
    values = {key: _listed(value) for key, value in asdict(encoder).items()}
    contexts = values["att_context_size"]
    values["att_context_size"] = contexts[0] if len(contexts) == 1 else contexts
    return {"_target_": f"{_MODULES}.ConformerEncoder", **values, "pos_emb_max_len": 5000}


def _jasper(encoder: JasperConfig) -> dict[str, Any]:
    values = {key: value for key, value in asdict(encoder).items() if key != "blocks"}
    blocks = [_jasper_block(block) for block in encoder.blocks]
    return {"_target_": f"{_MODULES}.ConvASREncoder", **values, "jasper": blocks}


def _jasper_block(block: JasperBlockConfig) -> dict[str, Any]:
    values = asdict(block)
    return {**values, **{key: [values[key]] for key in ("kernel", "stride", "dilation")}}


def _ctc_decoder(pieces: list[str], width: int) -> dict[str, Any]:
    return {
        "_target_": f"{_MODULES}.ConvASRDecoder",
        "feat_in": width,
        "num_classes": len(pieces),
        "vocabulary": pieces,
    }


def _transducer(transducer: TransducerConfig, pieces: list[str]) -> dict[str, Any]:
    predictor, joint = transducer.predictor, transducer.joint
    durations = list(transducer.durations)
    decoder: dict[str, Any] = {
        "_target_": f"{_MODULES}.RNNTDecoder",
        "normalization_mode": predictor.normalization_mode,
        "vocab_size": len(pieces),
        "prednet": {
            "pred_hidden": predictor.hidden,
            "pred_rnn_layers": predictor.layers,
            "dropout": predictor.dropout,
        },
    }
    if predictor.kind == "stateless":
        decoder["_target_"] = f"{_MODULES}.StatelessTransducerDecoder"
        decoder["context_size"] = predictor.context_size
    else:
        decoder["blank_as_pad"] = predictor.blank_as_pad
    if predictor.rnn_hidden:
        decoder["prednet"]["rnn_hidden_size"] = predictor.rnn_hidden
    decoding: dict[str, Any] = {
        "strategy": "greedy_batch",
        "greedy": _greedy(transducer.max_symbols),
        "beam": {"beam_size": 2, "return_best_hypothesis": False, "score_norm": True},
    }
    loss: dict[str, Any] = {"loss_name": "default"}
    if durations:
        decoding.update(model_type="tdt", durations=durations)
        kwargs = {"fastemit_lambda": 0.0, "clamp": -1.0, "sigma": 0.02, "omega": 0.1}
        loss = {"loss_name": "tdt", "tdt_kwargs": {**kwargs, "durations": durations}}
    return {
        "decoder": decoder,
        "joint": {
            "_target_": f"{_MODULES}.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "jointnet": {
                "joint_hidden": joint.hidden,
                "activation": joint.activation,
                "dropout": joint.dropout,
                "encoder_hidden": joint.encoder_dim,
                "pred_hidden": joint.predictor_dim,
            },
            "num_classes": len(pieces),
            "num_extra_outputs": len(durations),
            "vocabulary": pieces,
        },
        "decoding": decoding,
        "loss": loss,
    }


def _greedy(max_symbols: int | None) -> dict[str, Any]:
    """No limit has to be said twice: with CUDA graphs NeMo takes null for ten."""
    if max_symbols is None:
        return {"max_symbols": None, "use_cuda_graph_decoder": False}
    return {"max_symbols": max_symbols}


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


assert set(_MODELS) == set(CLASSES)
