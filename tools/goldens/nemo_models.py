"""Configurations of tiny NeMo models, and models from them with random but lively weights."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nemo.collections.asr import models
from omegaconf import OmegaConf

from goldens.nemo_record import encode, transducer_hypotheses

Config = dict[str, Any]
CHARACTERS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'", ".", ",", "?"]


def preprocessor(mels: int = 80, **changes: Any) -> Config:
    """The log-mel front end; a value of `...` leaves the key out of the file."""
    config: Config = {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": mels,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 1e-5,
        "pad_to": 0,
    }
    return _changed(config, changes)


def conformer(mels: int = 80, **changes: Any) -> Config:
    """A FastConformer encoder of two layers."""
    config: Config = {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": mels,
        "feat_out": -1,
        "n_layers": 2,
        "d_model": 24,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 8,
        "causal_downsampling": False,
        "ff_expansion_factor": 2,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "att_context_size": [-1, -1],
        "att_context_style": "regular",
        "xscaling": True,
        "untie_biases": True,
        "pos_emb_max_len": 5000,
        "conv_kernel_size": 9,
        "conv_norm_type": "batch_norm",
        "conv_context_size": None,
        "dropout": 0.1,
        "dropout_pre_encoder": 0.1,
        "dropout_emb": 0.0,
        "dropout_att": 0.1,
    }
    return _changed(config, changes)


def jasper(blocks: Sequence[Mapping[str, Any]], mels: int, **changes: Any) -> Config:
    """A convolutional encoder; each block is given as its difference from a plain one."""
    plain = {
        "filters": 32,
        "repeat": 1,
        "kernel": [5],
        "stride": [1],
        "dilation": [1],
        "dropout": 0.1,
        "residual": False,
    }
    config: Config = {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": mels,
        "activation": "relu",
        "conv_mask": True,
        "jasper": [{**plain, **block} for block in blocks],
    }
    return _changed(config, changes)


def ctc(
    encoder: Config, front: Config, *, tokenizer: Config | None = None, labels: Any = None
) -> Config:
    """A CTC model; characters where no tokenizer is given."""
    if encoder["_target_"].endswith("ConvASREncoder"):
        width = encoder["jasper"][-1]["filters"]
    else:
        width = _width(encoder)
    decoder = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": width,
        "num_classes": len(labels) if labels else -1,
        "vocabulary": list(labels) if labels else [],
    }
    config = _common(encoder, front, tokenizer, labels)
    return {**config, "decoder": decoder, "decoding": {"strategy": "greedy_batch"}}


def transducer(
    encoder: Config,
    front: Config,
    *,
    tokenizer: Config | None = None,
    labels: Any = None,
    layers: int = 1,
    context: int | None = None,
    activation: str = "relu",
    joint_dropout: float = 0.2,
    hidden: int = 24,
    joint_hidden: int = 28,
    durations: Sequence[int] = (),
    max_symbols: int | None = 10,
    big_blanks: Sequence[int] = (),
) -> Config:
    """An RNNT model, or TDT with `durations`; stateless with `context`."""
    config = _common(encoder, front, tokenizer, labels)
    sizes = {"enc_hidden": _width(encoder), "pred_hidden": hidden, "joint_hidden": joint_hidden}
    prednet: Config = {"pred_hidden": hidden, "pred_rnn_layers": layers, "dropout": 0.2}
    kind = "StatelessTransducerDecoder" if context else "RNNTDecoder"
    decoder: Config = {
        "_target_": f"nemo.collections.asr.modules.{kind}",
        "normalization_mode": None,
        "prednet": prednet,
        "vocab_size": len(labels) if labels else -1,
    }
    if context:
        decoder["context_size"] = context
        prednet.pop("pred_rnn_layers")
    else:
        decoder |= {"random_state_sampling": False, "blank_as_pad": True}
    extra = {"num_extra_outputs": len(durations) or len(big_blanks)}
    joint: Config = {
        "_target_": "nemo.collections.asr.modules.RNNTJoint",
        "log_softmax": None,
        "preserve_memory": False,
        "fuse_loss_wer": False,
        "jointnet": {
            "joint_hidden": joint_hidden,
            "activation": activation,
            "dropout": joint_dropout,
            "encoder_hidden": sizes["enc_hidden"],
            "pred_hidden": hidden,
        },
        "num_classes": len(labels) if labels else -1,
        "vocabulary": list(labels) if labels else [],
        **(extra if extra["num_extra_outputs"] else {}),
    }
    decoding: Config = {"strategy": "greedy_batch", "greedy": {"max_symbols": max_symbols}}
    loss: Config = {"loss_name": "default"}
    if durations:
        decoding |= {"model_type": "tdt", "durations": list(durations)}
        loss = {"loss_name": "tdt", "tdt_kwargs": {"durations": list(durations), "sigma": 0.02}}
        sizes |= {"tdt_durations": list(durations), "num_tdt_durations": len(durations)}
    if big_blanks:
        decoding |= {"model_type": "multiblank", "big_blank_durations": list(big_blanks)}
        decoding["strategy"] = "greedy"
        loss = {
            "loss_name": "multiblank_rnnt",
            "multiblank_rnnt_kwargs": {"big_blank_durations": list(big_blanks), "sigma": 0.05},
        }
    return {
        **config,
        "model_defaults": sizes,
        "decoder": decoder,
        "joint": joint,
        "decoding": decoding,
        "loss": loss,
    }


def hybrid(config: Config) -> Config:
    """The same transducer with a CTC head beside it."""
    head = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": config["model_defaults"]["enc_hidden"],
        "num_classes": config["decoder"]["vocab_size"],
        "vocabulary": config["joint"]["vocabulary"],
    }
    aux = {"ctc_loss_weight": 0.3, "decoder": head, "decoding": {"strategy": "greedy_batch"}}
    return {**config, "aux_ctc": aux}


def prompted(config: Config, languages: Mapping[str, int], prompts: int) -> Config:
    """The same model conditioned on a language by `prompt_kernel`."""
    config = copy.deepcopy(config)
    config["model_defaults"] |= {
        "num_prompts": prompts,
        "prompt_dictionary": dict(languages),
        "initialize_prompt_feature": True,
    }
    return config


def spm(folder: Path) -> Config:
    """The section of a SentencePiece tokenizer, whether BPE or unigram."""
    return {"dir": str(folder), "type": "bpe"}


def wpe(folder: Path) -> Config:
    """The section of a WordPiece tokenizer."""
    return {"dir": str(folder), "type": "wpe"}


def aggregate(folders: Mapping[str, Path]) -> Config:
    """The section of one SentencePiece tokenizer per language, ids one after the other."""
    return {"type": "agg", "langs": {name: spm(folder) for name, folder in folders.items()}}


def build(config: Config, seed: int) -> Any:
    """The NeMo model of a configuration, in eval mode, with every tensor random. CPU, fp32."""
    torch.manual_seed(seed)
    model = _class_of(config)(cfg=OmegaConf.create(config))
    _randomise(model, seed)
    return model.eval()


@torch.no_grad()
def enliven(model: Any, clips: Sequence[np.ndarray], prompt: int | None = None) -> None:
    """Centre and scale the heads' inputs, so that a random model's output varies with time.

    Untouched, a random encoder differs little from frame to frame, and one token wins everywhere.
    """
    encodings = [encode(model, [clip], prompt)[2][0] for clip in clips]
    enliven_heads(model, torch.cat(encodings, dim=1).T)


@torch.no_grad()
def enliven_heads(model: Any, encodings: torch.Tensor) -> None:
    """`enliven`, for encodings [N, D] like those that the heads will see."""
    for head in (getattr(model, "ctc_decoder", None), getattr(model, "decoder", None)):
        if hasattr(head, "decoder_layers"):
            _whiten(head.decoder_layers[0], encodings, 2.5)
            head.decoder_layers[0].bias[-1] += 4.0
    if not hasattr(model, "joint"):
        return
    blank = model.decoder.blank_idx
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, blank, (8, 12), generator=generator)
    predictions = model.decoder.predict(tokens, state=None, add_sos=True)[0].flatten(0, 1)
    _whiten(model.joint.enc, encodings, 1.5)
    _whiten(model.joint.pred, predictions, 1.5)
    frames = encodings[torch.randint(0, len(encodings), (64,), generator=generator)]
    past = predictions[torch.randint(0, len(predictions), (64,), generator=generator)]
    sums = model.joint.enc(frames)[:, None] + model.joint.pred(past)  # [64, 64, J]
    _entangle(model.joint.joint_net[-1], model.joint.joint_net[:-1](sums), 3.0)


def _entangle(layer: Any, hidden: torch.Tensor, gain: float) -> None:
    """Random weights on what depends on frame and history together.

    With effects of the frame alone or the history alone, a random transducer either repeats
    itself up to max_symbols or falls silent for good. `hidden` is [frames, histories, J].
    """
    mean = hidden.mean((0, 1))
    by_frame = hidden.mean(1, keepdim=True) - mean
    by_history = hidden.mean(0, keepdim=True) - mean
    joint = (hidden - mean - by_frame - by_history).flatten(0, 1)  # [F*H, J]
    alone = torch.cat([by_frame.flatten(0, 1), by_history.flatten(0, 1)])
    noise = alone.T @ alone / len(alone)
    signal = joint.T @ joint / len(joint)
    ridge = 1e-2 * signal.diagonal().mean() * torch.eye(len(noise))
    lower = torch.linalg.inv(torch.linalg.cholesky(noise + ridge))
    _, axes = torch.linalg.eigh(lower @ signal @ lower.T)
    directions = lower.T @ axes[:, -8:]  # [J, 8], the most entangled ones
    directions = directions / (joint @ directions).std(0)
    generator = torch.Generator().manual_seed(layer.weight.shape[0])
    mix = torch.randn(layer.weight.shape[0], 8, generator=generator) * gain / 8**0.5
    layer.weight.data.copy_(mix @ directions.T)
    layer.bias.data.copy_(-layer.weight @ mean)


def _whiten(layer: Any, inputs: torch.Tensor, gain: float, components: int = 10) -> None:
    """Random weights for which the outputs vary with every principal part of `inputs` [N, D].

    The slow, strong parts of a random encoder's output would otherwise hide the quick ones.
    """
    mean = inputs.mean(0)
    _, spread, axes = torch.linalg.svd(inputs - mean, full_matrices=False)
    kept = min(components, int((spread > 0.01 * spread[0]).sum()))
    scale = spread[:kept] / len(inputs) ** 0.5
    generator = torch.Generator().manual_seed(layer.weight.shape[0])
    mix = torch.randn(layer.weight.shape[0], kept, generator=generator) * gain / kept**0.5
    matrix = (mix / scale) @ axes[:kept]  # [out, D]
    layer.weight.data.copy_(matrix.reshape(layer.weight.shape))
    layer.bias.data.copy_(-matrix @ mean)


def calibrate(model: Any, clips: Sequence[np.ndarray], prompt: int | None = None) -> float:
    """Move the blank's bias until the greedy transducer emits 2.5 to 5 tokens a second."""
    linear = model.joint.joint_net[-1]
    blanks = _blank_rows(model)
    start = linear.bias.data[blanks].clone()
    seconds = sum(len(c) for c in clips) / 16000
    encoded = [encode(model, [clip], prompt) for clip in clips]

    def rate(offset: float) -> float:
        linear.bias.data[blanks] = start + offset
        hyps = [transducer_hypotheses(model, enc, lens)[0] for _, _, enc, lens in encoded]
        return sum(len(h.y_sequence) for h in hyps) / seconds

    below, above = -40.0, 40.0  # the rate falls as the offset rises, nearly monotonically
    for _ in range(24):
        middle = (below + above) / 2
        found = rate(middle)
        if 2.5 <= found <= 5.0:
            return found
        below, above = (middle, above) if found > 5.0 else (below, middle)
    return found


def _blank_rows(model: Any) -> list[int]:
    classes = model.joint.num_classes_with_blank - model.joint.num_extra_outputs - 1
    if getattr(model.cfg.decoding, "model_type", "") == "multiblank":
        return list(range(classes, model.joint.num_classes_with_blank))
    return [classes]


def _randomise(model: Any, seed: int) -> None:
    """Statistics, gains and biases too, so that no tensor can be forgotten or swapped unnoticed."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor, scale: float, centre: float = 0.0) -> None:
        tensor.data.copy_(centre + scale * torch.randn(tensor.shape, generator=generator))

    for module in model.modules():
        for name in ("pos_bias_u", "pos_bias_v"):
            if getattr(module, name, None) is not None:
                noise(getattr(module, name), 0.4)
        if getattr(module, "running_var", None) is not None:
            noise(module.running_mean, 0.2)
            module.running_var.data.copy_(
                0.5 + torch.rand(module.running_var.shape, generator=generator)
            )
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            noise(module.weight, 0.2, 1.0)
            noise(module.bias, 0.2)


def _class_of(config: Config) -> Any:
    if config.get("model_defaults", {}).get("initialize_prompt_feature"):
        if "aux_ctc" in config:
            return _prompt_class("hybrid_rnnt_ctc_bpe", "EncDecHybridRNNTCTCBPEModelWithPrompt")
        return _prompt_class("rnnt_bpe", "EncDecRNNTBPEModelWithPrompt")
    bpe = "tokenizer" in config
    if "aux_ctc" in config:
        return models.EncDecHybridRNNTCTCBPEModel if bpe else models.EncDecHybridRNNTCTCModel
    if "joint" in config:
        return models.EncDecRNNTBPEModel if bpe else models.EncDecRNNTModel
    return models.EncDecCTCModelBPE if bpe else models.EncDecCTCModel


def _prompt_class(file: str, name: str) -> Any:
    module = importlib.import_module(f"nemo.collections.asr.models.{file}_models_prompt")
    return getattr(module, name)


def _common(encoder: Config, front: Config, tokenizer: Config | None, labels: Any) -> Config:
    data = {"manifest_filepath": None, "sample_rate": 16000, "batch_size": 4, "shuffle": False}
    config: Config = {
        "sample_rate": 16000,
        "log_prediction": False,
        "compute_eval_loss": False,
        "skip_nan_grad": False,
        "train_ds": {**data, "defer_setup": True},
        "validation_ds": {**data, "defer_setup": True},
        "test_ds": {**data, "defer_setup": True},
        "preprocessor": front,
        "encoder": encoder,
    }
    if tokenizer:
        config["tokenizer"] = tokenizer
    if labels:
        config["labels"] = list(labels)
        for part in ("train_ds", "validation_ds", "test_ds"):
            config[part]["labels"] = list(labels)
    return config


def _width(encoder: Config) -> int:
    return encoder["feat_out"] if encoder["feat_out"] > 0 else encoder["d_model"]


def _changed(config: Config, changes: Mapping[str, Any]) -> Config:
    merged = {**config, **changes}
    return {key: value for key, value in merged.items() if value is not ...}
