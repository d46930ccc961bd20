"""Adapters (LoRA, DoRA) at rest, in the layout of Hugging Face's PEFT, which is not needed here.

`adapter_config.json` beside `adapter_model.safetensors`; modules have transformers' names where
transformers has the model. What PEFT can do beyond these two is refused by name.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from auricle.checkpoints.checkpoint import Checkpoint, skeleton
from auricle.checkpoints.huggingface import INDEX, read_weights
from auricle.checkpoints.huggingface import WEIGHTS as MODEL_WEIGHTS
from auricle.checkpoints.huggingface_config import compose_config
from auricle.checkpoints.huggingface_keys import (
    blank_last,
    module_from_huggingface,
    module_to_huggingface,
)
from auricle.checkpoints.reading import read_json, read_safetensors
from auricle.checkpoints.writing import folder_beside, write_json, write_safetensors
from auricle.config import nearest, shown, shown_name
from auricle.errors import CheckpointError, ModelNotFound
from auricle.models.adapted import LoraTensors
from auricle.models.asr import ModelConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RUN_ADAPTER = "adapter"  # where a training's folder has the adapter of its best model
MAX_RANK, MAX_ALPHA = 2**16, 1e9

_VOCABULARY = {"ctc", "joint.out"}  # whose outputs are tokens
_CONVOLUTION = "ctc_head"  # what is a convolution in transformers, and a linear layer here

_KEY = re.compile(
    r"base_model\.model\.(.+)\.(?:lora_([AB])\.weight|lora_(magnitude)_vector(?:\.weight)?)"
)
# Ways to begin that leave the base's weights as they were.
_STARTS = (True, False, "gaussian", "orthogonal", "eva")
_MEANINGLESS = {  # for an adapter that is trained, and whose tensors say where they belong
    "auto_mapping",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}


@dataclass(frozen=True)
class Adapter:
    """What changes a model's linear layers, by our names of them.

    A layer's weight changes by `alpha / rank` times B A. `base` is the model it was made for, as
    far as the file says; `dropout` was that of its training, and is written for whoever goes on.
    """

    name: str
    rank: int
    alpha: float
    dora: bool
    tensors: Mapping[str, LoraTensors]
    base: str | None = None
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """What the products of the pairs are multiplied with."""
        return self.alpha / self.rank

    def fingerprint(self) -> str:
        """Tells adapters apart: a digest of the scale and of every number."""
        digest = hashlib.sha256(str(self.scale).encode())
        for name, lora in sorted(self.tensors.items()):
            for tensor in (lora.a, lora.b, lora.magnitude):
                digest.update(name.encode())
                digest.update(b"" if tensor is None else tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:32]


def linear_layers(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """The modules that adapters can change, each with its outputs and inputs."""
    return {
        name: (module.out_features, module.in_features)
        for name, module in skeleton(config, "the model").named_modules()
        if isinstance(module, nn.Linear)
    }


def load_adapter(path: str | Path, config: ModelConfig, *, blank: int | None = None) -> Adapter:
    """Read an adapter for a model of `config`, or that of a training's folder.

    Args:
        path: The folder.
        config: Of the model.
        blank: The blank's number in transformers' model, `tokenizer.spec["blank"]`; None: last.

    Raises:
        ModelNotFound, CheckpointError: As for `read_adapter`.
    """
    adapter = read_adapter(path, linear_layers(config), module_from_huggingface)
    tensors = dict(adapter.tensors)
    if blank is not None:
        for name in tensors.keys() & _VOCABULARY:
            order = blank_last(len(tensors[name].b), blank, config.vocab_size)
            tensors[name] = _reordered(tensors[name], order)
    return replace(adapter, tensors=tensors)


def read_adapter(
    path: str | Path, layers: Mapping[str, tuple[int, int]], ours: Callable[[str], str] = str
) -> Adapter:
    """Read an adapter, or that of a training's folder.

    Args:
        path: The folder.
        layers: What it may change, as `linear_layers` gives it.
        ours: The name there of a module that has this one in the file.

    Raises:
        ModelNotFound: There is nothing at `path`.
        CheckpointError: It is damaged, made for another model, or more than LoRA and DoRA.
    """
    path = Path(path)
    if not path.exists():
        raise ModelNotFound(f"{path} does not exist; give the folder of an adapter ({CONFIG})")
    folder = path / RUN_ADAPTER if (path / RUN_ADAPTER / CONFIG).exists() else path
    adapter = _described(folder)
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in read_safetensors(folder / WEIGHTS).items():
        if (match := _KEY.fullmatch(key)) is None:
            raise CheckpointError(f"{folder / WEIGHTS}: {shown(key)} is no part of LoRA or DoRA")
        name = ours(match[1])
        if name not in layers:
            near = nearest(name, layers, 3)
            like = f" (near are {', '.join(map(shown_name, near))})" if near else ""
            raise CheckpointError(
                f"{folder / WEIGHTS}: {shown(match[1])} is no linear layer here{like}; use the "
                "model that the adapter was made for"
            )
        parts.setdefault(name, {})[match[2] or match[3]] = value
    if not parts:
        raise CheckpointError(f"{folder / WEIGHTS} is empty; save the adapter again")
    tensors = {}
    for name, found in parts.items():
        try:
            tensors[name] = _checked(found, layers[name], adapter)
        except ValueError as error:
            raise CheckpointError(f"{folder / WEIGHTS}: {name}: {error}") from None
    return replace(adapter, tensors=tensors)


def save_adapter(
    adapter: Adapter, folder: Path, config: ModelConfig, *, blank: int | None = None
) -> None:
    """Write a folder that `load_adapter` reads, and PEFT beside the model in transformers.

    Args:
        adapter: What to write.
        folder: It appears whole or not at all.
        config: Of the model.
        blank: As for `load_adapter`.

    Raises:
        CheckpointError: `folder` is there already and is no adapter.
    """
    if _has_transformers(config):
        tensors = {}
        for name, lora in adapter.tensors.items():
            if blank is not None and name in _VOCABULARY:
                order = blank_last(len(lora.b), blank, config.vocab_size)
                lora = _reordered(lora, sorted(range(len(order)), key=order.__getitem__))
            tensors[module_to_huggingface(name, config)] = lora
        adapter = replace(adapter, tensors=tensors)
    write_adapter(adapter, folder)


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter by the names that its modules have.

    Raises:
        CheckpointError: `folder` is there already and is no adapter.
    """
    state = {}
    for name, lora in adapter.tensors.items():
        convolution = name == _CONVOLUTION  # of width one: [C_out, C_in, 1]
        prefix = f"base_model.model.{name}.lora"
        for part, value in (("A", lora.a), ("B", lora.b)):
            state[f"{prefix}_{part}.weight"] = value[..., None] if convolution else value
        if lora.magnitude is not None:
            value = lora.magnitude[None, :, None] if convolution else lora.magnitude
            state[f"{prefix}_magnitude_vector"] = value
    values = {
        "peft_type": "LORA",
        "task_type": None,  # PEFT has none for CTC and transducers
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if adapter.alpha % 1 == 0 else adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_dora": adapter.dora,
        "bias": "none",
        "target_modules": sorted(adapter.tensors),
        "inference_mode": True,
    }
    with folder_beside(folder, marker=CONFIG) as fresh:
        write_json(fresh / CONFIG, values)
        write_safetensors(fresh / WEIGHTS, state, metadata={"format": "pt"})


def merged(checkpoint: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The checkpoint with the adapter's changes in its weights."""
    tensors = merged_tensors(checkpoint.tensors, adapter)
    return replace(checkpoint, tensors=tensors, name=f"{checkpoint.name}+{adapter.name}")


def merged_tensors(tensors: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """A state dict with the adapter's changes in it."""
    changed = {
        f"{name}.weight": lora.merged(tensors[f"{name}.weight"], adapter.scale)
        for name, lora in adapter.tensors.items()
    }
    return {**tensors, **changed}


def merge_huggingface(source: Path, path: Path, target: Path) -> None:
    """Write a Hugging Face folder of any family with an adapter's changes in its weights.

    Raises:
        ModelNotFound, CheckpointError: As for `read_adapter`.
    """
    tensors = read_weights(source)
    layers = {
        name.removesuffix(".weight"): (value.shape[0], value.shape[1])
        for name, value in tensors.items()
        if name.endswith(".weight") and value.ndim == 2
    }
    changed = merged_tensors(tensors, read_adapter(path, layers))
    with folder_beside(target) as folder:
        for file in source.iterdir():
            if file.suffix in (".json", ".txt") and file.name != INDEX:
                shutil.copyfile(file, folder / file.name)
        write_safetensors(folder / MODEL_WEIGHTS, changed, metadata={"format": "pt"})


def _described(folder: Path) -> Adapter:
    """What the configuration says; no tensors yet."""
    path = folder / CONFIG
    values = read_json(path)
    rank, alpha = values.pop("r", None), values.pop("lora_alpha", None)
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise CheckpointError(f"{path}: r is {shown(rank)} and no rank; save it again")
    if type(alpha) not in (int, float) or not abs(alpha) <= MAX_ALPHA:
        raise CheckpointError(f"{path}: lora_alpha is {shown(alpha)}; save it again")
    dora, base = values.pop("use_dora", False), values.pop("base_model_name_or_path", None)
    if values.pop("use_rslora", False):
        alpha *= math.sqrt(rank)
    _refuse_more(values, path)
    named = folder.absolute()  # not resolved: a training's may be a link
    name = named.parent.name if named.name == RUN_ADAPTER else named.name
    base = base if isinstance(base, str) else None
    return Adapter(name, rank, float(alpha), bool(dora), {}, base)


def _refuse_more(values: dict[str, Any], path: Path) -> None:
    """Raise for whatever changes the model otherwise than LoRA does."""
    kind = values.pop("peft_type", None)
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type is {shown(kind)}, and only LORA is read")
    start = values.pop("init_lora_weights", True)
    if start not in _STARTS:
        raise CheckpointError(
            f"{path}: init_lora_weights {shown(start)} changes the base too; let PEFT save it "
            "with path_initial_model_for_weight_conversion"
        )
    if values.get("bias") == "none":
        del values["bias"]
    for key in sorted(key for key, value in values.items() if value and key not in _MEANINGLESS):
        raise CheckpointError(
            f"{path}: {shown(key)} is set, and only LoRA and DoRA are read; merge it with PEFT"
        )


def _checked(parts: Mapping[str, Tensor], size: tuple[int, int], adapter: Adapter) -> LoraTensors:
    """One layer's tensors in float32; raises ValueError where they do not fit."""
    rows, columns = size
    shapes: dict[str, tuple[int, ...]] = {"A": (adapter.rank, columns), "B": (rows, adapter.rank)}
    if adapter.dora:
        shapes["magnitude"] = (rows,)
    if parts.keys() != shapes.keys():
        raise ValueError(f"it has {', '.join(sorted(parts))} and not {', '.join(shapes)}")
    found = {}
    for part, shape in shapes.items():
        value = parts[part]
        if [n for n in value.shape if n > 1] != [n for n in shape if n > 1]:
            raise ValueError(
                f"a tensor is {list(value.shape)} and not {list(shape)}; use the model that the "
                "adapter was made for"
            )
        if not value.is_floating_point() or not value.float().isfinite().all():
            raise ValueError("a tensor holds what are no numbers; train the adapter again")
        found[part] = value.float().reshape(shape)
    return LoraTensors(found["A"], found["B"], found.get("magnitude"))


def _reordered(lora: LoraTensors, rows: list[int]) -> LoraTensors:
    magnitude = None if lora.magnitude is None else lora.magnitude[rows]
    return replace(lora, b=lora.b[rows], magnitude=magnitude)


def _has_transformers(config: ModelConfig) -> bool:
    """Whether transformers has a form of the model, with any of its heads."""
    for head in config.heads:
        try:
            compose_config(config, head)
        except CheckpointError:
            continue
        return True
    return False
