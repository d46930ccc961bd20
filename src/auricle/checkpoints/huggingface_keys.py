"""Transformers' parameter names for Parakeet and Nemotron streaming, and ours, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from auricle.checkpoints.huggingface_config import transducer_width
from auricle.models.asr import ModelConfig, TransducerConfig
from auricle.models.conformer import ConformerConfig

_LEAVES = {
    "q_proj": "linear_q",
    "k_proj": "linear_k",
    "v_proj": "linear_v",
    "o_proj": "linear_out",
    "relative_k_proj": "linear_pos",
    "bias_u": "pos_bias_u",
    "bias_v": "pos_bias_v",
}
_OUR_LEAVES = {ours: theirs for theirs, ours in _LEAVES.items()}
_PREFIXES = {
    "encoder.subsampling.linear.": "encoder.pre_encode.out.",
    "ctc_head.": "ctc.",
    "encoder_projector.": "joint.enc.",
    "decoder.embedding.": "predictor.embed.",
    "decoder.lstm.": "predictor.lstm.",
    "decoder.decoder_projector.": "joint.pred.",
    "joint.head.": "joint.out.",
    "prompt_projector.linear_1.": "prompt_kernel.0.",
    "prompt_projector.linear_2.": "prompt_kernel.2.",
}
_ATTENTION = re.compile(r"(?<=\.self_attn\.)[a-z_]+")
_CONVOLUTION = re.compile(r"^encoder\.pre_encode\.conv\.(\d+)\.")
# Nemotron groups what Parakeet lists flat, activations counted: 0, then pairs at 2 and 3, 5 and 6.
_GROUPED = re.compile(r"^encoder\.subsampling\.layers\.(\d+)\.(depthwise|pointwise)_conv\.")
_STEM = "encoder.subsampling.conv_in."
_FLAT = "encoder.subsampling.layers."

# Rows of the vocabulary; the durations of a TDT come after them.
_VOCABULARY = (
    "ctc.weight",
    "ctc.bias",
    "joint.out.weight",
    "joint.out.bias",
    "predictor.embed.weight",
)


def from_huggingface(
    state: Mapping[str, Tensor], config: ModelConfig, *, blank: int
) -> dict[str, Tensor]:
    """Our names and shapes, with the blank's row moved behind the other tokens."""
    tensors = {}
    for key, value in state.items():
        ours = _ours(key)
        if ours == "ctc.weight" and value.ndim == 3 and value.shape[2] == 1:
            value = value[:, :, 0]  # [V+1, D, 1], a convolution of width one: [V+1, D]
        # One that has too few rows is refused by its shape.
        enough = value.ndim > 0 and len(value) > config.vocab_size
        if ours in _VOCABULARY and blank != config.vocab_size and enough:
            value = value[blank_last(len(value), blank, config.vocab_size)]
        tensors[ours] = value
    if isinstance(config.encoder, ConformerConfig) and config.encoder.use_bias:
        tensors.update(_absent_biases(tensors))
    return tensors


def to_huggingface(
    tensors: Mapping[str, Tensor], config: ModelConfig, head: str
) -> dict[str, Tensor]:
    """The state dict of the transformers class for one head of the model."""
    grouped = _is_grouped(config)
    other_head = ("predictor.", "joint.") if head == "ctc" else ("ctc.",)
    state = {}
    for key, value in tensors.items():
        if key.startswith(("features.", *other_head)):
            continue
        if key == "ctc.weight":
            value = value[:, :, None]  # [V+1, D, 1]
        elif config.transducer is not None:
            value = _widened(key, value, config.transducer)
        state[_theirs(key, grouped)] = value
    return state


def _widened(key: str, value: Tensor, transducer: TransducerConfig) -> Tensor:
    """A predictor or joint network in transformers' one width, which zeros fill up.

    A cell of an LSTM whose weights are 0 stays 0, and what a joint makes of 0 meets a weight of 0.
    """
    width = transducer_width(transducer)
    predictor = width - transducer.predictor.hidden
    joint = width - transducer.joint.hidden
    if key == "predictor.embed.weight":
        return F.pad(value, (0, predictor))
    if key.startswith("predictor.lstm.weight"):
        gates = value.reshape(4, -1, value.shape[1])  # [4, P, P]
        return F.pad(gates, (0, predictor, 0, predictor)).flatten(0, 1)
    if key.startswith("predictor.lstm.bias"):
        return F.pad(value.reshape(4, -1), (0, predictor)).flatten()
    if key in ("joint.enc.bias", "joint.pred.bias"):
        return F.pad(value, (0, joint))
    if key == "joint.enc.weight":
        return F.pad(value, (0, 0, 0, joint))
    if key == "joint.pred.weight":
        return F.pad(value, (0, predictor, 0, joint))
    return F.pad(value, (0, joint)) if key == "joint.out.weight" else value


def module_from_huggingface(name: str) -> str:
    """Our name of a module of transformers'; one that is ours already stays as it is."""
    return _ours(f"{name}.weight").removesuffix(".weight")


def module_to_huggingface(name: str, config: ModelConfig) -> str:
    """Transformers' name of a module of ours."""
    return _theirs(f"{name}.weight", _is_grouped(config)).removesuffix(".weight")


def _is_grouped(config: ModelConfig) -> bool:
    return isinstance(config.encoder, ConformerConfig) and config.encoder.causal_downsampling


def _ours(key: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    if key.startswith(_STEM):
        return "encoder.pre_encode.conv.0." + key.removeprefix(_STEM)
    if match := _GROUPED.match(key):
        index = 2 + 3 * int(match[1]) + (match[2] == "pointwise")
        return f"encoder.pre_encode.conv.{index}.{key[match.end() :]}"
    if key.startswith(_FLAT):
        return "encoder.pre_encode.conv." + key.removeprefix(_FLAT)
    key = key.replace(".conv.norm.", ".conv.batch_norm.")
    return _ATTENTION.sub(lambda m: _LEAVES.get(m[0], m[0]), key)


def _theirs(key: str, grouped: bool) -> str:
    for theirs, ours in _PREFIXES.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    if match := _CONVOLUTION.match(key):
        index, leaf = int(match[1]), key[match.end() :]
        if not grouped:
            return f"{_FLAT}{index}.{leaf}"
        if index == 0:
            return _STEM + leaf
        kind = "depthwise" if index % 3 == 2 else "pointwise"
        return f"{_FLAT}{(index - 2) // 3}.{kind}_conv.{leaf}"
    key = key.replace(".conv.batch_norm.", ".conv.norm.")
    return _ATTENTION.sub(lambda m: _OUR_LEAVES.get(m[0], m[0]), key)


def blank_last(rows: int, blank: int, last: int) -> list[int]:
    """The order of rows that moves the blank's behind the other tokens, before any durations."""
    return [*range(blank), *range(blank + 1, last + 1), blank, *range(last + 1, rows)]


def _absent_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transformers gives attention and convolution biases apart, we together: zeros do no harm."""
    linears = ("linear_q", "linear_k", "linear_v", "linear_out", "linear1", "linear2")
    convolutions = ("pointwise_conv1", "depthwise_conv", "pointwise_conv2")
    absent = {}
    for key, weight in tensors.items():
        module, _, leaf = key.rpartition(".")
        named = module.rpartition(".")[2] in (*linears, *convolutions)
        if leaf == "weight" and named and weight.ndim and f"{module}.bias" not in tensors:
            absent[f"{module}.bias"] = weight.new_zeros(len(weight))
    return absent
