"""Less memory for more time: what is inside an encoder's layers is computed again when needed.

The second pass has the first one's dropout, and does not count for the statistics of a BatchNorm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from auricle.models.asr import ASR
from auricle.models.conformer import ConformerEncoder


def recompute_layers(model: ASR) -> None:
    """Keep of the encoder's layers, in training, only what goes into them."""
    encoder = model.encoder
    layers = encoder.layers if isinstance(encoder, ConformerEncoder) else encoder.encoder
    for layer in layers:
        # Not a module around it: names of parameters stay, and so do other libraries' hooks.
        setattr(layer, "forward", _twice(layer, layer.forward))  # noqa: B010


def is_recomputed(layer: nn.Module) -> bool:
    """Whether `recompute_layers` has changed it."""
    return "forward" in vars(layer)


def once(layer: Any, *args: Any) -> Any:
    """What a layer that `recompute_layers` has changed would be without that."""
    return layer.forward.__wrapped__(*args)


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


def _twice(layer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), uncounted(layer)

    @functools.wraps(forward)
    def run(*args: Any) -> Any:
        if not (layer.training and torch.is_grad_enabled()):
            return forward(*args)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)

    return run
