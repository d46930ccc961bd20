"""Whisper's tensors under the names of CTranslate2 and of Hugging Face: one table, both ways.

Attention projections are fused in CTranslate2 (rows stacked) and apart in Hugging Face. What is in
neither's place is an error, so that no weight is lost or made up. bfloat16 goes through torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from auricle.checkpoints import ctranslate2
from auricle.checkpoints.ctranslate2 import BFLOAT16, Array, Binary
from auricle.checkpoints.reading import shards
from auricle.config import Size, Within, made, settle, shown, shown_name
from auricle.errors import CheckpointError, ConfigError, first_line

_ACTIVATIONS = {"relu": 0, "gelu_new": 1, "swish": 2, "silu": 2, "gelu": 3}
EMBEDDINGS = "decoder/embeddings/weight"
PROJECTION = "decoder/projection/weight"
EMBEDDING_TENSOR = "model.decoder.embed_tokens.weight"
_HEAD_TENSOR = "proj_out.weight"

# CTranslate2 module -> the Hugging Face modules whose rows are stacked to make it.
_ENDS = {
    "encoder/conv1": ["encoder.conv1"],
    "encoder/conv2": ["encoder.conv2"],
    "encoder/layer_norm": ["encoder.layer_norm"],
    "decoder/layer_norm": ["decoder.layer_norm"],
}
_ENCODER_LAYER = {
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}
_DECODER_LAYER = _ENCODER_LAYER | {
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
}
_TABLES = {  # not modules: one tensor each
    EMBEDDINGS: [EMBEDDING_TENSOR],
    "encoder/position_encodings/encodings": ["model.encoder.embed_positions.weight"],
    "decoder/position_encodings/encodings": ["model.decoder.embed_positions.weight"],
}
_ABSENT = "k_proj.bias"  # Whisper's keys have no bias; CTranslate2 stores zeros

# What CTranslate2 knows of a decoder besides its tensors, and Whisper leaves at these values.
_CONSTANTS = {
    "decoder/alibi": np.int8(0),
    "decoder/alibi_use_positive_positions": np.int8(0),
    "decoder/alignment_heads": np.int16(1),
    "decoder/alignment_layer": np.int16(-1),
    "decoder/pre_norm": np.int8(1),
    "decoder/scale_alibi": np.int8(0),
    "decoder/start_from_zero_embedding": np.int8(0),
}


@dataclass(frozen=True)
class WhisperShape:
    """The numbers that make a Whisper, by the names of Hugging Face's config."""

    num_mel_bins: Size
    d_model: Size
    encoder_layers: Annotated[int, Within(1, 256)]
    encoder_attention_heads: Size
    encoder_ffn_dim: Size
    decoder_layers: Annotated[int, Within(1, 256)]
    decoder_attention_heads: Size
    decoder_ffn_dim: Size
    max_source_positions: Size
    max_target_positions: Size
    vocab_size: Annotated[int, Within(1, 2**22)]
    activation_function: str = "gelu"
    scale_embedding: bool = False

    def __post_init__(self) -> None:
        settle(self)
        for heads in (self.encoder_attention_heads, self.decoder_attention_heads):
            if self.d_model % heads:
                raise ConfigError(f"d_model {self.d_model} is no multiple of {heads} heads")


def shape_from_binary(binary: Binary, src: Path) -> WhisperShape:
    """The numbers behind a `model.bin`, from its variables' shapes.

    Raises:
        CheckpointError: A variable is missing.
    """
    variables = binary.variables

    def dim(name: str, axis: int) -> int:
        return int(variables[name].shape[axis])

    def layers(side: str) -> int:
        pattern = re.compile(rf"{side}/layer_\d+/ffn/linear_0/bias")
        return sum(1 for name in variables if pattern.fullmatch(name))

    try:
        activation = int(variables["decoder/activation"])
        return WhisperShape(
            num_mel_bins=dim("encoder/conv1/weight", 1),
            d_model=dim("encoder/conv1/weight", 0),
            encoder_layers=layers("encoder"),
            encoder_attention_heads=int(variables["encoder/num_heads"]),
            encoder_ffn_dim=dim("encoder/layer_0/ffn/linear_0/bias", 0),
            decoder_layers=layers("decoder"),
            decoder_attention_heads=int(variables["decoder/num_heads"]),
            decoder_ffn_dim=dim("decoder/layer_0/ffn/linear_0/bias", 0),
            max_source_positions=dim("encoder/position_encodings/encodings", 0),
            max_target_positions=dim("decoder/position_encodings/encodings", 0),
            vocab_size=dim(EMBEDDINGS, 0),
            activation_function={v: k for k, v in _ACTIVATIONS.items()}[activation],
            scale_embedding=bool(variables["decoder/scale_embeddings"]),
        )
    except KeyError as error:
        raise CheckpointError(
            f"{src / 'model.bin'} lacks {error}, or has another value there than a Whisper; copy "
            "or convert the model anew"
        ) from None
    except (ConfigError, IndexError, TypeError, ValueError) as error:  # variables of odd shapes
        raise CheckpointError(
            f"{src / 'model.bin'} is no plain Whisper: {first_line(error)}; copy or convert the "
            "model anew"
        ) from None


def shape_from_config(config: Mapping[str, Any], src: Path) -> WhisperShape:
    """The numbers in a Hugging Face `config.json`.

    Raises:
        CheckpointError: A number is missing, or an activation that CTranslate2 does not have.
    """
    known = {field.name for field in fields(WhisperShape)}
    try:
        given = {name: value for name, value in config.items() if name in known}
        shape: WhisperShape = made(WhisperShape, given)
    except ConfigError as error:
        raise CheckpointError(f"{src / 'config.json'}: {error}; fetch it again") from None
    if shape.activation_function not in _ACTIVATIONS:
        raise CheckpointError(
            f"{src / 'config.json'}: CTranslate2 has no activation "
            f"{shown(shape.activation_function)}; use a plain Whisper"
        )
    return shape


def open_safetensors(src: Path, stack: ExitStack) -> dict[str, Callable[[], Array]]:
    """Every tensor of a folder, read when it is called for; sharded folders too."""
    tensors: dict[str, Callable[[], Array]] = {}
    for path in _files(src):
        file = stack.enter_context(_opened(path))
        for key in file.keys():  # noqa: SIM118 - not a mapping
            dtype = file.get_slice(key).get_dtype()
            if dtype not in ("F16", "BF16", "F32", "F64"):
                raise CheckpointError(
                    f"{path}: the tensor {shown_name(key)} is of type {dtype}; use a checkpoint "
                    "in floating point"
                )
            if dtype == "BF16":
                tensors[key] = partial(_bfloat16, path, key)
            else:
                tensors[key] = partial(file.get_tensor, key)
    return tensors


def check_shapes(src: Path, shape: WhisperShape) -> None:
    """Compare the tensors' names and shapes with the configuration, before networks are built.

    Raises:
        CheckpointError: A file or tensor is missing, damaged, or of another shape.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path in _files(src):
        with _opened(path) as file:
            keys = file.keys()  # of no mapping
            found |= {key: tuple(file.get_slice(key).get_shape()) for key in keys}
    for part in (part for parts in _table(shape).values() for part in parts):
        size = _size(part, shape)
        if found.get(part, size) != size or (part not in found and not part.endswith(_ABSENT)):
            there = list(found[part]) if part in found else "missing"
            raise CheckpointError(
                f"{src}: {part} is {there}, and should be {list(size)}; copy or convert the model "
                "anew"
            )


def _files(src: Path) -> list[Path]:
    index = src / "model.safetensors.index.json"
    names = shards(index) if index.exists() else ["model.safetensors"]
    for name in names:
        if not (src / name).is_file():
            raise CheckpointError(f"{src} has no {name}; save the model as safetensors first")
    return [src / name for name in names]


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, "np")
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({first_line(error)}); fetch it again") from None


def _bfloat16(path: Path, key: str) -> Array:
    """Numpy has no bfloat16, so torch reads it."""
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        raw: Array = file.get_tensor(key).view(torch.int16).numpy()
    return raw.view(BFLOAT16)


def is_tied(tensors: Mapping[str, Callable[[], Array]]) -> bool:
    """Whether the output projection is the embedding, stored once or twice."""
    if _HEAD_TENSOR not in tensors:
        return True
    return tensors[_HEAD_TENSOR]().tobytes() == tensors[EMBEDDING_TENSOR]().tobytes()


def ctranslate2_variables(
    tensors: Mapping[str, Callable[[], Array]], shape: WhisperShape, tied: bool, src: Path
) -> Iterator[tuple[str, Array]]:
    """Every variable in the order of names, made when it is drawn."""
    table = _table(shape)
    if not tied:
        table[PROJECTION] = [_HEAD_TENSOR]
    wanted = {part for parts in table.values() for part in parts}
    unknown = sorted(set(tensors) - wanted - {_HEAD_TENSOR})
    missing = sorted(part for part in wanted - set(tensors) if not part.endswith(_ABSENT))
    if unknown or missing:
        what = f"lacks {missing[0]!r}" if missing else f"holds the unknown {shown(unknown[0])}"
        raise CheckpointError(f"{src}: the checkpoint {what}: not a plain Whisper")
    constants = {
        **_CONSTANTS,
        "decoder/activation": np.int8(_ACTIVATIONS[shape.activation_function]),
        "decoder/num_heads": np.int16(shape.decoder_attention_heads),
        "decoder/scale_embeddings": np.int8(shape.scale_embedding),
        "encoder/num_heads": np.int16(shape.encoder_attention_heads),
    }
    for name in sorted([*table, *constants]):
        if name in constants:
            yield name, np.asarray(constants[name])
        else:
            found = {part: tensors[part]() for part in table[name] if part in tensors}
            for part, array in found.items():
                _check(part, array, _size(part, shape), src)
            like = next(iter(found.values()))  # a part that is not there is zero
            rows = [found.get(part, np.zeros_like(like)) for part in table[name]]
            yield name, np.concatenate(rows)


def _size(part: str, shape: WhisperShape) -> tuple[int, ...]:
    """The shape of a tensor by its Hugging Face name."""
    side = shape.encoder_ffn_dim if ".encoder." in part else shape.decoder_ffn_dim
    ends = {
        "embed_tokens.weight": (shape.vocab_size, shape.d_model),
        "proj_out.weight": (shape.vocab_size, shape.d_model),
        "encoder.embed_positions.weight": (shape.max_source_positions, shape.d_model),
        "decoder.embed_positions.weight": (shape.max_target_positions, shape.d_model),
        "conv1.weight": (shape.d_model, shape.num_mel_bins, 3),
        "conv2.weight": (shape.d_model, shape.d_model, 3),
        "fc1.weight": (side, shape.d_model),
        "fc1.bias": (side,),
        "fc2.weight": (shape.d_model, side),
        "_proj.weight": (shape.d_model, shape.d_model),
    }
    return next((size for end, size in ends.items() if part.endswith(end)), (shape.d_model,))


def _check(name: str, array: Array, size: tuple[int, ...], src: Path) -> None:
    if array.shape != size:
        raise CheckpointError(
            f"{src}: {name} is {list(array.shape)} and not {list(size)}; copy or convert the model "
            "anew"
        )
    if array.dtype.kind in "fV" and not np.isfinite(ctranslate2.cast(array, "float32")).all():
        raise CheckpointError(f"{src}: {name} holds NaN or infinite values; use another copy")


def _table(shape: WhisperShape) -> dict[str, list[str]]:
    """CTranslate2 variable -> the Hugging Face tensors whose rows are stacked to make it."""
    modules = {name: [f"model.{part}" for part in parts] for name, parts in _ENDS.items()}
    for side, count, layer in (
        ("encoder", shape.encoder_layers, _ENCODER_LAYER),
        ("decoder", shape.decoder_layers, _DECODER_LAYER),
    ):
        for number in range(count):
            for name, parts in layer.items():
                modules[f"{side}/layer_{number}/{name}"] = [
                    f"model.{side}.layers.{number}.{part}" for part in parts
                ]
    table = dict(_TABLES)
    for name, parts in modules.items():
        weight, bias = ("gamma", "beta") if name.endswith("layer_norm") else ("weight", "bias")
        table[f"{name}/{weight}"] = [f"{part}.weight" for part in parts]
        table[f"{name}/{bias}"] = [f"{part}.bias" for part in parts]
    return table


def huggingface_tensors(binary: Binary, shape: WhisperShape, src: Path) -> dict[str, Array]:
    """Views of the mapped file where a variable is stored as floating point."""
    variables = binary.variables
    table = check_variables(binary, shape, src)
    dtype = dtype_name(variables["encoder/layer_norm/gamma"])
    tensors: dict[str, Array] = {}
    for name, parts in table.items():
        whole = variables[name]
        if name + "_scale" in variables:
            whole = ctranslate2.cast(ctranslate2.dequantize(name, variables), dtype)
        rows = len(whole) // len(parts)
        for number, part in enumerate(parts):
            tensor = whole[number * rows : (number + 1) * rows]  # [rows of all, ..] -> [rows, ..]
            if not part.endswith(_ABSENT):
                tensors[part] = tensor
            elif np.any(ctranslate2.cast(tensor, "float32")):
                raise CheckpointError(f"{src / 'model.bin'}: {name!r} has a bias on its keys")
    return tensors


def check_variables(binary: Binary, shape: WhisperShape, src: Path) -> dict[str, list[str]]:
    """Compare a `model.bin` with what a Whisper of this shape has; gives the table that it fits.

    Raises:
        CheckpointError: A variable is missing, left over, of another shape, or holds NaN.
    """
    variables = binary.variables
    table = _table(shape)
    if PROJECTION in variables:
        table[PROJECTION] = [_HEAD_TENSOR]
    unknown = [
        name
        for name, array in variables.items()
        if array.ndim and name not in table and name.removesuffix("_scale") not in table
    ]
    missing = [name for name in table if name not in variables]
    if unknown or missing:
        what = f"lacks {missing[0]!r}" if missing else f"holds the unknown {shown(unknown[0])}"
        raise CheckpointError(f"{src / 'model.bin'} {what}: not a plain Whisper")
    for name, parts in table.items():
        sizes = [_size(part, shape) for part in parts]
        rows = sum(size[0] for size in sizes)
        _check(name, variables[name], (rows, *sizes[0][1:]), src / "model.bin")
        scale = variables.get(name + "_scale")
        whole = variables[name].dtype.kind == "i"
        if whole != (scale is not None) or (scale is not None and scale.size not in (1, rows)):
            raise CheckpointError(
                f"{src / 'model.bin'}: {name} and its scale do not fit; copy or convert the model "
                "anew"
            )
    return table


def save_safetensors(tensors: dict[str, Array], path: Path) -> None:
    """Write tensors in Hugging Face's manner, straight from the arrays' memory."""
    metadata = {"format": "pt"}
    if not any(tensor.dtype == BFLOAT16 for tensor in tensors.values()):
        from safetensors.numpy import save_file

        save_file(tensors, path, metadata)
        return
    import torch
    from safetensors.torch import save_file as save_torch

    def as_torch(tensor: Array) -> torch.Tensor:
        if tensor.dtype != BFLOAT16:
            return torch.from_numpy(tensor.copy())
        return torch.from_numpy(tensor.view(np.int16).copy()).view(torch.bfloat16)

    save_torch({name: as_torch(tensor) for name, tensor in tensors.items()}, path, metadata)


def dtype_name(array: Array) -> str:
    """An array's type as torch and transformers call it."""
    return "bfloat16" if array.dtype == BFLOAT16 else array.dtype.name
