"""What a training will take of the memory, found out beforehand on short clips.

It is an estimate: what is kept for the backward pass is measured, and taken to grow with the number
of clips, with the length of a clip and, for attention, with its square. What the allocator loses
and libraries take besides is not in it; a quarter of what is free is left for that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from auricle.models.asr import ModelConfig
from auricle.training.recipe import OptimizerRecipe, Recipe
from auricle.training.recomputing import is_recomputed, once, uncounted

PROBES = (2.0, 6.0)  # seconds
TOKENS = 4  # in a second of speech
LEFT_ASIDE = 0.25
_STATE = {"adamw": 8.0, "adamw8bit": 2.0, "novograd": 4.0, "sgd": 0.0}  # bytes a parameter


@dataclass(frozen=True)
class Largest:
    """The largest batch: its seconds, padding counted, and those of its longest clip.

    With `windows` every clip takes as much as the longest.
    """

    longest: float
    seconds: float
    windows: bool = False


@dataclass(frozen=True)
class Estimate:
    """Bytes, but for `parameters` and `trained`, which are counted.

    `growth` are the bytes kept of a clip by its seconds and by their square, `fixed` those that are
    kept once, whatever the batch: copies of the weights in half precision.
    """

    parameters: int
    trained: int
    weights: int
    movement: int  # gradients, the optimiser's state, averages
    growth: tuple[float, float]
    longest: float  # seconds of a clip
    batch_seconds: float
    workspace: int
    free: int | None
    fixed: int = 0
    windows: bool = False  # whether a clip takes `longest`, however short it is

    def kept(self, batch_seconds: float) -> float:
        """Of a batch of clips of the longest kind."""
        linear, square = self.growth
        return batch_seconds * (linear + square * self.longest)

    @property
    def budget(self) -> int | None:
        """The `batch_seconds` that fit; 0 where not even one clip does."""
        if self.free is None:
            return None
        room = (1 - LEFT_ASIDE) * self.free - self.movement - self.workspace - self.fixed
        seconds = room / self.kept(1.0)
        return int(seconds) if seconds >= self.longest else 0

    def text(self, optimizer: str) -> str:
        """For people, in a line."""
        largest = self.kept(self.batch_seconds) + self.workspace + self.fixed
        if self.windows:
            batch = f"{self._clips(self.batch_seconds)} windows of {self.longest:.3g} s"
        else:
            batch = f"{self.batch_seconds:g} s in clips of {self.longest:.3g} s"
        said = (
            f"memory, an estimate by short clips: {_count(self.parameters)} parameters "
            f"({_size(self.weights)}), of which {_count(self.trained)} move "
            f"({100 * self.trained / self.parameters:.3g} %); their gradients and {optimizer} "
            f"{_size(self.movement)}; activations of a batch of {batch} {_size(largest)}"
        )
        if self.free is None or self.budget is None:
            return said
        fits = self.budget >= self.batch_seconds
        if not self.budget:
            end = "and not even one such clip may fit: lower data.max_seconds"
        elif self.windows:
            end = f"data.max_batch up to about {self._clips(self.budget)} should fit"
        else:
            end = f"data.batch_seconds up to about {self.budget} should fit"
        return f"{said}; {_size(self.free)} are free: {'' if fits else 'TOO LITTLE, '}{end}"

    def _clips(self, seconds: float) -> int:
        return int(seconds / self.longest + 1e-6)


def estimate(
    objective: nn.Module,
    noise: Callable[[int, float], tuple[Any, ...]],
    recipe: Recipe,
    batch: Largest,
    *,
    workspace: int = 0,
    autocast: AbstractContextManager[Any],
) -> Estimate:
    """What a training of `objective` takes.

    Args:
        objective: Gives losses, as in training; neither it nor the random numbers are changed.
        noise: Its arguments for so many clips of so many seconds.
        recipe: The training's.
        batch: The largest one.
        workspace: Bytes that a loss takes for a while, whatever the batch.
        autocast: The context in which it computes.
    """
    parameters = list(objective.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    device = parameters[0].device
    short, long = (batch.longest, batch.longest) if batch.windows else PROBES
    objective.train()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), uncounted(objective), autocast:
        alone = _kept_bytes(objective, noise(1, short))
        fixed = max(0, 2 * alone - _kept_bytes(objective, noise(2, short)))
        one = (alone - fixed) / short  # a second
        other = one if batch.windows else (_kept_bytes(objective, noise(1, long)) - fixed) / long
    square = 0.0 if batch.windows else max(0.0, (other - one) / (long - short))
    each = 4.0 + _state(recipe.optimizer) + (4.0 if recipe.train.ema else 0.0)
    return Estimate(
        parameters=sum(p.numel() for p in parameters),
        trained=trained,
        weights=sum(p.numel() * p.element_size() for p in parameters),
        movement=int(trained * each),
        growth=(one - square * short, square),
        longest=batch.longest,
        batch_seconds=batch.seconds,
        workspace=workspace,
        free=free_bytes(device),
        fixed=fixed,
        windows=batch.windows,
    )


def noise_for(config: ModelConfig, clips: int, seconds: float) -> tuple[Tensor | None, ...]:
    """What `Objective` takes, for so many clips of noise."""
    features = config.features
    frames = int(seconds * features.sample_rate) // features.hop_length
    tokens = max(1, int(seconds * TOKENS))
    return (
        torch.randn(clips, features.n_mels * features.frame_splicing, frames),
        torch.full((clips,), frames),
        torch.randint(config.vocab_size, (clips, tokens)),
        torch.full((clips,), tokens),
        None if config.prompt is None else torch.zeros(clips, dtype=torch.int64),
    )


def free_bytes(device: torch.device) -> int | None:
    """What a process may still take; None where nobody tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    try:
        psutil: Any = import_module("psutil")  # comes with accelerate
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _kept_bytes(objective: nn.Module, inputs: tuple[Any, ...]) -> int:
    """What the graph of one forward pass holds besides the model's own tensors."""
    own = {t.untyped_storage().data_ptr() for t in (*objective.parameters(), *objective.buffers())}
    kept = _Kept(own)
    inside = _Kept(own)  # of one of the layers that are computed twice
    layers = [module for module in objective.modules() if is_recomputed(module)]

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for given in (*args, *kwargs.values()):
            for value in given if isinstance(given, list) else [given]:
                if isinstance(value, Tensor):
                    kept.pack(value)
        if layer is layers[0]:
            with inside.counting():
                once(layer, *args, **kwargs)

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        with kept.counting():
            objective(*inputs)["loss"]
    finally:
        for hook in hooks:
            hook.remove()
    return kept.bytes + inside.bytes


class _Kept:
    """Counts the memory of tensors, that of `own` storages and of what is seen again not."""

    def __init__(self, own: set[int]) -> None:
        self._own = own
        self._seen: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """So much."""
        return sum(self._seen.values())

    def pack(self, tensor: Tensor) -> Tensor:
        """Take a tensor in."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    def counting(self) -> AbstractContextManager[Any]:
        """A context in which all that a backward pass would need is taken in."""
        return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)


def _state(optimizer: OptimizerRecipe) -> float:
    return _STATE[optimizer.name] + (4.0 if optimizer.momentum else 0.0)


def _size(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number:,}"
