"""How weights move: the optimisers of a recipe, and the learning rate as a function of the step.

Nothing here remembers the step: the loop asks `learning_rate` before each one and writes the
answer into the parameter groups. A step is counted from 0, so it is the number of steps done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

from auricle.errors import ConfigError, MissingExtra
from auricle.training.recipe import OptimizerRecipe, ScheduleRecipe


class Novograd(torch.optim.Optimizer):
    """Novograd (Ginsburg et al. 2019, arXiv 1905.11286, algorithm 1).

    Each tensor is a layer: its gradient is divided by the root of a moving average of its squared
    norm, the weight decay is added, and the sum goes into the momentum. The average begins at the
    first gradient that is not zero. Under sharding a tensor's norm is that of the whole tensor
    (FSDP2); flattened parameters (FSDP1) have no layers, so use AdamW there.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; the gradients are left as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["norm"] = torch.zeros((), device=parameter.device)  # squared, moving average
        (beta1, beta2), momentum, average = group["betas"], state["momentum"], state["norm"]
        norm = torch.linalg.vector_norm(gradient, dtype=torch.float32)
        if hasattr(norm, "full_tensor"):  # sharded: the norm over all ranks
            norm = norm.full_tensor()
        norm = norm.square()
        average.copy_(torch.where(average == 0, norm, beta2 * average + (1 - beta2) * norm))
        update = gradient / (average.sqrt() + group["eps"])
        update.add_(parameter, alpha=group["weight_decay"])
        momentum.mul_(beta1).add_(update)
        parameter.add_(momentum, alpha=-group["lr"])


def build_optimizer(
    model: nn.Module | Iterable[tuple[str, nn.Parameter]],
    recipe: OptimizerRecipe,
    factors: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters that are trained.

    AdamW and SGD decay weights, embeddings among them, but neither biases nor the scales of norms;
    Novograd decays everything, as published.

    Args:
        model: A network, or its parameters with their names.
        recipe: Which optimiser, and its constants.
        factors: Of the learning rate, by the names of parameters; others have 1. Each group of the
            optimiser has its own as `factor`, for whoever sets the rates.

    Raises:
        ConfigError: A constant out of its range, nothing to train, or no GPU for eight bits.
        MissingExtra: Eight bits, without what they need.
    """
    _check(recipe)
    named = model.named_parameters() if isinstance(model, nn.Module) else model
    trained = {id(p): (name, p) for name, p in named if p.requires_grad}.values()
    if not trained:
        raise ConfigError("no parameter of the model is trained: unfreeze some")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in sorted(trained, key=lambda named: not _decays(*named)):
        decays = recipe.name == "novograd" or _decays(name, parameter)
        kind = recipe.weight_decay if decays else 0.0, (factors or {}).get(name, 1.0)
        groups.setdefault(kind, []).append(parameter)
    return _made(
        [
            {"params": params, "weight_decay": decay, "factor": factor, "lr": recipe.lr * factor}
            for (decay, factor), params in groups.items()
        ],
        recipe,
    )


def _made(groups: list[dict[str, Any]], recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    if recipe.name == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)
    if recipe.name == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    if recipe.name == "novograd":
        return Novograd(groups, recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay)
    if not torch.cuda.is_available():
        raise ConfigError("optimizer.name=adamw8bit needs an NVIDIA GPU: take adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise MissingExtra(
            "optimizer.name=adamw8bit needs an extra: pip install 'auricle[bnb]'"
        ) from None
    made: torch.optim.Optimizer = AdamW8bit(
        groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps
    )
    return made


def learning_rate(schedule: ScheduleRecipe, peak: float, step: int, total: int | None) -> float:
    """The learning rate of a step.

    The warm-up rises to `peak`, which is reached at step `warmup`; after `total` the schedules that
    end stay at `min_lr`. A run shorter than its warm-up rises to its end. NeMo's Noam takes a
    factor in place of the peak: `peak = factor / sqrt(d_model * warmup)`.

    Args:
        schedule: Shape, warm-up and end.
        peak: `lr` of the optimiser's recipe.
        step: Steps done before this one.
        total: Steps of the whole run; constant and noam need none.

    Raises:
        ConfigError: The schedule ends, and `total` is None.
    """
    warmup, low = schedule.warmup, schedule.min_lr
    if schedule.name == "noam":
        return _noam(schedule, peak, max(1, step))
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule.name == "constant":
        return peak
    if total is None:
        raise ConfigError(
            f"schedule.name={schedule.name} falls until the last step, which is unknown: "
            "set train.steps or train.epochs, or take constant or noam"
        )
    begin = warmup
    if schedule.name == "wsd":
        begin = max(warmup, total - round(schedule.decay * total))
    if step <= begin:
        return peak
    if step >= total:
        return low
    gone = (step - begin) / (total - begin)
    left = 0.5 * (1 + math.cos(math.pi * gone)) if schedule.name == "cosine" else 1 - gone
    return low + (peak - low) * left


def _noam(schedule: ScheduleRecipe, peak: float, step: int) -> float:
    """Vaswani et al. 2017, whose first step is 1; `min_lr` is a floor after the warm-up."""
    warmup = max(1, schedule.warmup)
    rate = peak * min(step / warmup, math.sqrt(warmup / step))
    return rate if step <= warmup else max(rate, schedule.min_lr)


def _decays(name: str, parameter: Tensor) -> bool:
    """By shape, and by name for the relative positions' biases [heads, D / heads]."""
    return parameter.ndim > 1 and "bias" not in name.rpartition(".")[2]


def _check(recipe: OptimizerRecipe) -> None:
    for name in ("lr", "eps", "weight_decay"):
        value = getattr(recipe, name)
        if not 0 <= value < math.inf:
            raise ConfigError(f"optimizer.{name} must be 0 or more, got {value}")
    for name, values in (("betas", recipe.betas), ("momentum", (recipe.momentum,))):
        for value in values:
            if not 0 <= value < 1:
                raise ConfigError(f"optimizer.{name} must be from 0 to below 1, got {value}")
