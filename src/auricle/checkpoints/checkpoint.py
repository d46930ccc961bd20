"""What every checkpoint format is read into and written from, and the networks built from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auricle.errors import CheckpointError, ConfigError
from auricle.features import LogMel
from auricle.models.asr import ASR, ModelConfig
from auricle.tokenizers import Tokenizer

NAMED = 3  # how many keys an error lists
FINGERPRINTED = 8  # about how many numbers of a tensor its fingerprint takes


@dataclass(frozen=True)
class Checkpoint:
    """A model at rest.

    Attributes:
        config: What to build.
        tokenizer: Its vocabulary; without the blank.
        tensors: The state dict of `ASR`, in the dtypes they were stored in. May be views of a
            mapped file: write to copies only.
        name: What to call the model in transcripts and messages.
        origin: JSON-able remains of a foreign format, so that writing that format again loses
            nothing: `{"nemo": the resolved YAML}` for a `.nemo`.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    tensors: Mapping[str, Tensor]
    name: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Tells models apart: a digest of the configuration and of some numbers of every tensor."""
        return fingerprint(self.config.to_dict(), self.tensors)


def fingerprint(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A digest of a configuration and of some numbers of every tensor."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        flat = tensor.flatten()
        some = flat[:: max(1, len(flat) // FINGERPRINTED)]
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(some.double().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def build(checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32) -> ASR:
    """The networks in evaluation mode, holding the checkpoint's tensors without a copy.

    Args:
        checkpoint: What to build.
        dtype: Of the networks; the features stay in float32.

    Raises:
        CheckpointError: A tensor is missing, left over, or of the wrong shape.
    """
    model = skeleton(checkpoint.config, checkpoint.name)
    _check(checkpoint, model)
    ties = _ties(model)
    model.load_state_dict(
        {key: _cast(key, value, dtype) for key, value in checkpoint.tensors.items()},
        strict=True,
        assign=True,
    )
    for first, *others in ties:
        for name in others:
            module, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(module), leaf, model.get_parameter(first))
    return model.eval()


def check(checkpoint: Checkpoint) -> None:
    """Compare the tensors with what the configuration asks for, without building anything large.

    Raises:
        CheckpointError: A tensor is missing, left over, or of the wrong shape.
    """
    _check(checkpoint, skeleton(checkpoint.config, checkpoint.name))


def feature_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """The front end's window and filterbank, for formats that do not store them."""
    return {f"features.{key}": value for key, value in LogMel(config.features).state_dict().items()}


class _WithoutRandomNumbers(TorchFunctionMode):
    """Parameters on `meta` have no numbers, and asking for them imports PyTorch's compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def skeleton(config: ModelConfig, name: str) -> ASR:
    """The networks without numbers.

    Raises:
        CheckpointError: The configuration contradicts itself.
    """
    try:
        with torch.device("meta"), _WithoutRandomNumbers():
            return ASR(config)
    except ConfigError as error:
        raise CheckpointError(f"{name}: {error}; it cannot be built") from None


def _ties(model: ASR) -> list[list[str]]:
    """Names of one and the same parameter: loading parts them, and training must not."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _check(checkpoint: Checkpoint, model: ASR) -> None:
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in checkpoint.tensors.items()}
    problems = []
    if missing := [key for key in expected if key not in found]:
        problems.append(f"{len(missing)} missing ({_list(missing)})")
    if extra := [key for key in found if key not in expected]:
        problems.append(f"{len(extra)} too many ({_list(extra)})")
    wrong = [k for k, shape in expected.items() if k in found and found[k] != shape]
    if wrong:
        shapes = [f"{key} is {list(found[key])} and not {list(expected[key])}" for key in wrong]
        problems.append(f"{len(wrong)} of another shape ({_list(shapes)})")
    if problems:
        raise CheckpointError(
            f"{checkpoint.name}: the tensors do not fit the configuration: {'; '.join(problems)}; "
            "fetch the checkpoint again"
        )


def _list(items: Collection[str]) -> str:
    return ", ".join(list(items)[:NAMED]) + (", ..." if len(items) > NAMED else "")


def _cast(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.is_floating_point():
        return value
    return value.to(torch.float32 if key.startswith("features.") else dtype)
