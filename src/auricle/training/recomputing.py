"""Less memory for more time: what is inside a model's layers is computed again when needed.

The second pass has the first one's dropout, and does not count for the statistics of a BatchNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from auricle.models.asr import ASR
from auricle.models.conformer import ConformerEncoder


def recompute_layers(layers: Iterable[nn.Module]) -> None:
    """Keep of what is inside these layers, in training, nothing but what goes into them."""
    for layer in layers:
        # Not a module around it: names of parameters stay, and so do other libraries' hooks.
        setattr(layer, "forward", _Twice(layer, layer.forward))  # noqa: B010


def layers_of(model: ASR) -> Iterable[nn.Module]:
    """The encoder's layers, where most of the memory goes."""
    encoder = model.encoder
    return encoder.layers if isinstance(encoder, ConformerEncoder) else encoder.encoder


def is_recomputed(layer: nn.Module) -> bool:
    """Whether `recompute_layers` has changed it."""
    return isinstance(vars(layer).get("forward"), _Twice)  # accelerate puts a forward there, too


def once(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What a layer that `recompute_layers` has changed would be without that."""
    return layer.forward.once(*args, **kwargs)


@contextmanager
def uncounted(module: nn.Module) -> Iterator[None]:
    """Leave the statistics of each BatchNorm as they are, whatever it hears meanwhile."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = [(norm, dict(norm._buffers)) for norm in norms]
    for norm, buffers in own:
        # Copies, for without them PyTorch would keep another number of tensors than before.
        norm._buffers.update({k: None if b is None else b.clone() for k, b in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in own:
            norm._buffers.update(buffers)


@dataclass(frozen=True)
class _Twice:
    """A layer's forward, which in training is computed again for the gradients."""

    layer: nn.Module
    once: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.layer.training and torch.is_grad_enabled()):
            return self.once(*args, **kwargs)
        return checkpoint(
            self.once, *args, use_reentrant=False, context_fn=self._contexts, **kwargs
        )

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), uncounted(self.layer)
