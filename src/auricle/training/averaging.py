"""Means of weights: over the steps of a run (EMA), and over saved checkpoints.

The running mean and variance of a BatchNorm are averaged as the weights are: statistics of the
last weights alone would not fit the mean ones. Counters and other integers are the last ones'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auricle.checkpoints.reading import read_safetensors
from auricle.errors import CheckpointError

WEIGHTS = "model.safetensors"


class Ema:
    """An exponential moving average, in float32, of what a training changes in `model`.

    That is the parameters that take a gradient, and all buffers of floating point. The average
    depends on the weights and the number of the step only, so a resumed run has the same one.
    Of a model that FSDP has spread over ranks each has its piece, and all make every call together.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._model = model
        self._mean = {name: t.detach().float().clone() for name, t in _changing(model)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in; `step` steps are done with them.

        The decay starts low, min(decay, (1 + step) / (10 + step)), so that the first weights,
        which are random, are soon forgotten.
        """
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, tensor in _changing(self._model):
            self._mean[name].lerp_(tensor.float(), share)

    @contextmanager
    def in_place(self, model: nn.Module | None = None) -> Iterator[None]:
        """The averaged weights stand in `model` (None: the one averaged) during the block."""
        tensors = dict(_changing(self._model if model is None else model))
        own = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        _copy(self._mean, tensors)
        try:
            yield
        finally:
            _copy(own, tensors)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, float32, whole; not copied where they are whole already."""
        return {name: _whole(tensor) for name, tensor in self._mean.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            CheckpointError: It is of another model.
        """
        _refuse_other(self._mean, state, "the saved average of the weights")
        _copy(state, self._mean)


@torch.no_grad()
def average(checkpoints: Sequence[Mapping[str, Tensor] | str | Path]) -> dict[str, Tensor]:
    """The mean of several states of one model.

    Args:
        checkpoints: State dicts, safetensors files, or folders with a `model.safetensors`. Types
            and integers are those of the last.

    Raises:
        CheckpointError: A file is missing or damaged, or is of another model than the last.
    """
    assert checkpoints, "no checkpoints to average"
    states = [c if isinstance(c, Mapping) else _read(Path(c)) for c in checkpoints]
    last = states[-1]
    for number, (given, state) in enumerate(zip(checkpoints, states, strict=True), 1):
        name = f"number {number}" if isinstance(given, Mapping) else str(given)
        _refuse_other(last, state, f"checkpoint {name}")
    mean: dict[str, Tensor] = {}
    for key, tensor in last.items():
        if tensor.is_floating_point():
            total = torch.zeros_like(tensor, dtype=torch.float64)
            for state in states:
                total += state[key].to(total)
            mean[key] = (total / len(states)).to(tensor.dtype)
        else:
            mean[key] = tensor.clone()
    return mean


def _changing(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            yield name, buffer


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(_spread(source[name], tensor))


def _whole(tensor: Tensor) -> Tensor:
    """A DTensor's pieces together, on the CPU."""
    if not _in_pieces(tensor):
        return tensor
    pieces: Any = tensor
    whole: Tensor = pieces.full_tensor().cpu()
    return whole


def _spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in pieces, if `like` is."""
    if _in_pieces(tensor) or not _in_pieces(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    pieces: Any = like
    there = tensor.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(there, pieces.device_mesh, pieces.placements)


def _in_pieces(tensor: Tensor) -> bool:
    """Whether it is a DTensor; asked in this way it need not be imported."""
    return hasattr(tensor, "full_tensor")


def _read(path: Path) -> dict[str, Tensor]:
    return read_safetensors(path / WEIGHTS if path.is_dir() else path)


def _refuse_other(right: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Names and shapes must be those of `right`."""
    for name in sorted(right.keys() ^ given.keys()):
        missing = "lacks" if name in right else "has an unknown"
        raise CheckpointError(f"{what} {missing} {name}; it is of another model")
    for name, tensor in right.items():
        if given[name].shape != tensor.shape:
            raise CheckpointError(
                f"{what}: {name} has the shape {list(given[name].shape)}, "
                f"not {list(tensor.shape)}; it is of another model"
            )
