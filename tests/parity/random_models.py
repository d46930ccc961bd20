"""Configurations drawn at random from what NeMo 3.0.0 can build, small enough to be quick."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldens import nemo_models as nm

Tokenizers = Mapping[str, Path]


def draw(seed: int, tokenizers: Tokenizers) -> nm.Config:
    """A model configuration; equal for equal seeds."""
    rng = random.Random(seed)
    mels = rng.choice([64, 80, 128])
    front = _front(rng, mels)
    encoder = _jasper(rng, mels) if rng.random() < 0.2 else _conformer(rng, mels)
    output = _output(rng, tokenizers)
    if encoder["_target_"].endswith("ConvASREncoder") or rng.random() < 0.3:
        return nm.ctc(encoder, front, **output)
    config = _transducer(rng, encoder, front, output)
    return nm.hybrid(config) if rng.random() < 0.4 else config


def _front(rng: random.Random, mels: int) -> nm.Config:
    return nm.preprocessor(
        mels,
        normalize=rng.choice(["per_feature", "per_feature", "all_features", "NA", None]),
        window_size=rng.choice([0.02, 0.025]),
        window=rng.choice(["hann", "hann", "hamming", "blackman", "bartlett"]),
        n_fft=rng.choice([512, 1024, ...]),
        preemph=rng.choice([0.97, 0.9, None, ...]),
        pad_to=rng.choice([0, 16, ...]),
        log_zero_guard_type=rng.choice(["add", "clamp", ...]),
        log_zero_guard_value=rng.choice([2**-24, 1e-5, "tiny", "eps", ...]),
        mag_power=rng.choice([1.0, 2.0, ...]),
        lowfreq=rng.choice([0, 50, ...]),
        highfreq=rng.choice([7600, None, ...]),
        exact_pad=rng.choice([False, False, True, ...]),
        mel_norm=rng.choice(["slaney", "slaney", None, ...]),
    )


def _conformer(rng: random.Random, mels: int) -> nm.Config:
    heads = rng.choice([2, 4])
    kernel = rng.choice([3, 5, 9, 15])
    changes: nm.Config = {
        "d_model": heads * rng.choice([4, 6, 8]),
        "n_heads": heads,
        "n_layers": rng.choice([1, 2, 3]),
        "ff_expansion_factor": rng.choice([1, 2, 4]),
        "conv_kernel_size": kernel,
        "use_bias": rng.choice([True, False, ...]),
        "xscaling": rng.choice([True, False]),
        "untie_biases": rng.choice([True, False]),
        "feat_out": rng.choice([-1, -1, 20]),
        "conv_norm_type": rng.choice(["batch_norm", "batch_norm", "layer_norm", "group_norm2"]),
        "conv_context_size": rng.choice([None, None, "causal", [kernel - 2, 1]]),
    }
    changes |= _subsampling(rng)
    if changes.get("reduction_position") == -1:  # NeMo then reduces what feat_out has narrowed
        changes["feat_out"] = -1
    return nm.conformer(mels, **changes | _attention(rng))


def _subsampling(rng: random.Random) -> nm.Config:
    kind = rng.choice(["dw_striding", "dw_striding", "striding", "stacking", "stacking_norm"])
    factor = rng.choice([2, 4, 8])
    changes: nm.Config = {
        "subsampling": kind,
        "subsampling_factor": factor,
        "subsampling_conv_channels": rng.choice([4, 8]),
        "causal_downsampling": kind == "dw_striding" and rng.random() < 0.4,
    }
    if rng.random() < 0.2:
        reduction = {"reduction": rng.choice(["pooling", "striding"]), "reduction_factor": 2}
        changes |= {**reduction, "reduction_position": rng.choice([0, -1])}
    return changes


def _attention(rng: random.Random) -> nm.Config:
    kind = rng.choice(["rel_pos", "rel_pos", "rel_pos", "abs_pos", "local"])
    if kind == "local":
        width = rng.choice([2, 4, 7])
        size = rng.choice([[width, width], [width, width // 2], [width // 2, width]])
        globals_ = rng.choice([0, 0, 1, 3])
        return {
            "self_attention_model": "rel_pos_local_attn",
            "att_context_size": size,
            "global_tokens": globals_,
            "global_tokens_spacing": rng.choice([1, 2]),
            "global_attn_separate": bool(globals_) and rng.random() < 0.5,
        }
    style = rng.choice(["none", "regular", "chunked_limited", "with_rc"])
    sizes: dict[str, nm.Config] = {
        "none": {"att_context_size": rng.choice([[-1, -1], None, ...])},
        "regular": {"att_context_size": rng.choice([[5, 3], [-1, 2], [4, 0], [3, -1]])},
        "chunked_limited": {
            "att_context_style": "chunked_limited",
            "att_context_size": rng.choice([[8, 3], [[6, 1], [6, 0]], [-1, 4]]),
        },
        "with_rc": {
            "att_context_style": "chunked_limited_with_rc",
            "att_context_size": [-1, -1, -1],
        },
    }
    return {"self_attention_model": kind, **sizes[style]}


def _jasper(rng: random.Random, mels: int) -> nm.Config:
    blocks: list[dict[str, Any]] = []
    for _ in range(rng.choice([2, 3, 4])):
        residual = rng.random() < 0.6
        stride = rng.choice([1, 1, 2])
        block: dict[str, Any] = {
            "filters": rng.choice([16, 24]),
            "repeat": rng.choice([1, 2, 3]),
            "kernel": [rng.choice([3, 4, 7, 11])],
            "dilation": [rng.choice([1, 1, 2]) if stride == 1 else 1],
            "separable": rng.random() < 0.6,
            "residual": residual and stride == 1,
            "se": rng.random() < 0.5,
            "se_context_size": rng.choice([-1, -1, 10]),
            "kernel_size_factor": rng.choice([1.0, 0.5, 1.3]),
        }
        if stride == 2:
            block |= {"stride": [2], "stride_last": True, "residual": residual}
            block["residual_mode"] = "stride_add"
        blocks.append(block)
    blocks.append({"filters": 24, "kernel": [1]})
    activation = rng.choice(["relu", "hardtanh", "selu", "swish", "silu", "gelu"])
    changes: dict[str, Any] = {"activation": activation, "conv_mask": rng.random() < 0.8}
    changes["normalization_mode"] = rng.choice(["batch", "batch", "layer", "group", "instance"])
    if changes["normalization_mode"] == "group":
        changes["norm_groups"] = rng.choice([-1, 4])
    return nm.jasper(blocks, mels, **changes)


def _output(rng: random.Random, tokenizers: Tokenizers) -> dict[str, Any]:
    kind = rng.choice(["bpe", "bpe", "unigram", "aggregate", "characters"])
    if kind == "characters":
        return {"labels": nm.CHARACTERS}
    if kind == "aggregate":
        pair = {"en": tokenizers["english"], "es": tokenizers["spanish"]}
        return {"tokenizer": nm.aggregate(pair)}
    return {"tokenizer": nm.spm(tokenizers[kind])}


def _transducer(
    rng: random.Random, encoder: nm.Config, front: nm.Config, output: dict[str, Any]
) -> nm.Config:
    durations = rng.choice([(), (), (0, 1, 2, 3, 4), (0, 2, 4), (1, 2, 3)])
    return nm.transducer(
        encoder,
        front,
        **output,
        layers=rng.choice([1, 2]),
        context=None if durations else rng.choice([None, None, 1, 2, 3]),
        activation=rng.choice(["relu", "tanh", "sigmoid"]),
        joint_dropout=rng.choice([0.0, 0.2]),
        durations=durations,
        max_symbols=rng.choice([1, 2, 5, 10]),
    )
