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

from auricle.config import shown_name
from auricle.errors import CheckpointError, ConfigError, first_line
from auricle.features import LogMel
from auricle.models.asr import ASR, ModelConfig
from auricle.models.conformer import ConformerConfig
from auricle.tokenizers import Tokenizer

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.int16, torch.int32, torch.int64)
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
        origin: JSON-able facts that the networks do not need but other programs do, so that
            writing loses nothing: under `nemo` the resolved YAML of a `.nemo`, under `loss` what
            the losses of a training were.
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
        CheckpointError: A tensor is missing, left over, or of the wrong shape or type.
    """
    model = _fitting(checkpoint)
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
    """Compare tensors and tokenizer with the configuration, without building anything large.

    Raises:
        CheckpointError: A tensor is missing, left over, of the wrong shape or type, or holds NaN or
            infinite values; or the tokenizer has another number of pieces than the model.
    """
    _fitting(checkpoint)
    size, pieces = checkpoint.config.vocab_size, len(checkpoint.tokenizer.pieces)
    if pieces != size:
        raise CheckpointError(
            f"{checkpoint.name}: the tokenizer has {pieces} pieces and the model {size}; use the "
            "tokenizer that the model was trained with"
        )
    check_finite(checkpoint.tensors, checkpoint.name)


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that are no numbers.

    Raises:
        CheckpointError: A tensor holds NaN or infinite values.
    """
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not _finite(tensor):
            raise CheckpointError(
                f"{name}: the tensor {shown_name(key)} holds NaN or infinite values; use an "
                "earlier checkpoint of its training"
            )


def plain(state: object, where: str) -> dict[str, Tensor]:
    """`state` as a dictionary of plain tensors, whatever a pickle may have made it.

    Raises:
        CheckpointError: It is something else, or a tensor is sparse, quantised, without numbers, or
            larger than the numbers that are stored for it.
    """
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise CheckpointError(f"{where} is no dictionary of tensors; fetch the checkpoint again")
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            kind = "without numbers" if value.is_meta else "sparse or quantised"
            raise CheckpointError(
                f"{where}: the tensor {shown_name(key)} is {kind}; save it as a plain one"
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"{where}: the tensor {shown_name(key)} claims another shape than the numbers "
                "stored for it have; save a copy of it"
            )
    return dict(state)


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
    except (RuntimeError, ValueError, AssertionError) as error:  # PyTorch's, of sizes
        raise CheckpointError(
            f"{name}: the configuration's sizes do not fit together ({first_line(error)}); it "
            "cannot be built"
        ) from None


def _fitting(checkpoint: Checkpoint) -> ASR:
    """The networks without numbers, which the checkpoint's tensors fit."""
    for what, count in _counts(checkpoint.config).items():
        if count > len(checkpoint.tensors):
            raise CheckpointError(
                f"{checkpoint.name}: the configuration has {count} {what} and the file only "
                f"{len(checkpoint.tensors)} tensors; fetch the checkpoint again"
            )
    model = skeleton(checkpoint.config, checkpoint.name)
    _check(checkpoint, model)
    return model


def _counts(config: ModelConfig) -> dict[str, int]:
    """What is built one by one, and has a tensor each: too many would take for ever."""
    encoder = config.encoder
    if isinstance(encoder, ConformerConfig):
        counts = {"layers": encoder.n_layers}
    else:
        counts = {"convolutions": sum(block.repeat for block in encoder.blocks)}
    if config.transducer is not None:
        predictor = config.transducer.predictor
        stateless = predictor.kind == "stateless"
        counts["predictor layers"] = predictor.context_size if stateless else predictor.layers
    return counts


def _ties(model: ASR) -> list[list[str]]:
    """Names of one and the same parameter: loading parts them, and training must not."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _check(checkpoint: Checkpoint, model: ASR) -> None:
    networks = model.state_dict()
    expected = {key: tuple(value.shape) for key, value in networks.items()}
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
    for key in () if problems else expected:
        dtype = checkpoint.tensors[key].dtype
        # A count may have been turned into a float along with all the rest.
        counted = not networks[key].is_floating_point() and dtype in _WHOLE
        if dtype not in _FLOATING and not counted:
            problems.append(f"{shown_name(key)} is of type {str(dtype).removeprefix('torch.')}")
            break
    if problems:
        raise CheckpointError(
            f"{checkpoint.name}: the tensors do not fit the configuration: {'; '.join(problems)}; "
            "fetch the checkpoint again"
        )


def _finite(tensor: Tensor) -> bool:
    """In one pass and without a copy: NaN and infinite values stay in sums and in the range."""
    if tensor.dtype in (torch.float32, torch.float64) and bool(tensor.sum().isfinite()):
        return True  # a sum takes a third of the range's time, but may overflow
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor))


def _list(items: Collection[str]) -> str:
    return ", ".join(map(shown_name, list(items)[:NAMED])) + (", ..." if len(items) > NAMED else "")


def _cast(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.is_floating_point():
        return value
    return value.to(torch.float32 if key.startswith("features.") else dtype)
