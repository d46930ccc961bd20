"""What of a model that is there moves: all of it, what is not frozen, or adapters beside it (LoRA).

The layers of adapters are `peft`'s, put where the recipe's patterns say; what comes out of a
training is a model with the adapters in its weights, and the adapters by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from auricle.checkpoints import Checkpoint
from auricle.checkpoints.adapters import Adapter, merged_tensors
from auricle.checkpoints.whisper_model import WhisperCheckpoint
from auricle.errors import ConfigError, MissingExtra
from auricle.models.adapted import LoraTensors
from auricle.training.patterns import is_norm, matching, near, spellings_of, starred
from auricle.training.recipe import AdaptRecipe, LoraRecipe, Recipe

_BASE = ".base_layer."  # what peft puts between a layer's name and its weight's
_PART = re.compile(r"(.+)\.lora_(A|B|magnitude_vector)\.default\.weight")
_LAYER = re.compile(r"(?:^|\.)encoder\.(?:layers|encoder)\.(\d+)\.")
_BELOW = re.compile(r"(?:^|\.)encoder\.(?:pre_encode|conv\d|embed_positions)\b")
# The loss computes this layer twice, and dropout would not be the same.
_WITHOUT_DROPOUT = "joint.out"


@dataclass(frozen=True)
class Trained:
    """What a training has made so far: a model, and the adapter where that is all that moved."""

    checkpoint: Checkpoint | WhisperCheckpoint
    adapter: Adapter | None


def adapt(model: nn.Module, recipe: AdaptRecipe, *, remade: Iterable[str] = (), seed: int) -> str:
    """Freeze what `recipe` says and put adapters where it says.

    Args:
        model: Is changed.
        recipe: What moves.
        remade: Parameters that have no learnt numbers yet, and so must move.
        seed: Of the adapters' first numbers.

    Returns:
        What was done, for people.

    Raises:
        ConfigError: A pattern that fits nothing, or a layer that can have no adapter; nothing that
            moves, or something new that does not.
    """
    names = spellings_of(model)
    parameters = dict(model.named_parameters())
    free = matching(recipe.unfreeze, parameters, key="adapt.unfreeze", also=names)
    if recipe.lora is not None:
        targets = lora_targets(model, recipe.lora)
        _inject(model, recipe.lora, targets, seed)
        for name in {*free, *remade}:
            parameters[name].requires_grad_(True)
        kind = "DoRA" if recipe.lora.dora else "LoRA"
        said = f"{kind} of rank {recipe.lora.rank} on {len(targets)} layers: {_briefly(targets)}"
        if recipe.lora.dropout and _WITHOUT_DROPOUT in targets:
            said += f"; {_WITHOUT_DROPOUT} goes without dropout, as the loss computes it twice"
    else:
        still = set(matching(recipe.freeze, parameters, key="adapt.freeze", also=names)) - {*free}
        if bad := still & {*remade}:
            raise ConfigError(
                f"adapt.freeze keeps {min(bad)}, which the new tokenizer has made anew: except it "
                f"by adapt.unfreeze=[{min(bad)}]"
            )
        for name in still:
            parameters[name].requires_grad_(False)
        said = f"frozen: {_briefly(_modules(still))}" if still else "all of the model moves"
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("adapt.freeze keeps all of the model; adapt.unfreeze names what moves")
    return said


def lora_targets(model: nn.Module, lora: LoraRecipe) -> tuple[str, ...]:
    """The layers that `targets` mean and `exclude` does not, in the model's order.

    Of what a pattern means those are taken that can have an adapter.

    Raises:
        ConfigError: A pattern that means nothing, or nothing that can have an adapter.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    also = spellings_of(model)
    able = {name: (name, *also.get(name, ())) for name, m in modules.items() if _takes_lora(m)}
    found: set[str] = set()
    for pattern in lora.targets:
        meant = matching([pattern], modules, key="adapt.lora.targets", also=also)
        taken = set(meant) & able.keys()
        if not taken:
            name = next((n for n in meant if list(modules[n].parameters(recurse=False))), meant[0])
            raise ConfigError(
                f"adapt.lora.targets has {pattern!r}, but {name} is {_kind(modules[name])} and can "
                f"have no adapter; {near(pattern, able)}"
            )
        found |= taken
    found -= set(matching(lora.exclude, modules, key="adapt.lora.exclude", also=also))
    if not found:
        raise ConfigError("adapt.lora.exclude leaves no layer of adapt.lora.targets")
    return tuple(name for name in able if name in found)


def rates(model: nn.Module, recipe: AdaptRecipe | None) -> dict[str, float]:
    """Factors of the learning rate by the names of the parameters that move; 1 is left out.

    Raises:
        ConfigError: A pattern of `lr` that fits nothing.
    """
    if recipe is None:
        return {}
    also: dict[str, tuple[str, ...]] = {}
    for name, others in spellings_of(model).items():
        also[name.replace(_BASE, ".")] = tuple(other.replace(_BASE, ".") for other in others)
    everything = [name for name, _ in model.named_parameters()]
    top = max((int(m[1]) for name in everything if (m := _LAYER.search(name))), default=0)
    moving = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = {name.replace(_BASE, "."): name for name in moving}
    factors = dict.fromkeys(plain, 1.0)
    for pattern, factor in recipe.lr.items():
        meant = matching([pattern], plain, key="adapt.lr", also=also)
        factors |= dict.fromkeys(meant, factor)
    found = {n: factor * recipe.layer_decay ** _depth(n, top) for n, factor in factors.items()}
    return {plain[name]: value for name, value in found.items() if value != 1.0}


def trained(
    start: Checkpoint | WhisperCheckpoint, state: Mapping[str, Tensor], recipe: Recipe
) -> Trained:
    """What came out of a training of `start`.

    Args:
        start: Its tensors do not matter.
        state: The state dict of the model, as `adapt` has left it; empty on ranks but the first.
        recipe: The training's.
    """
    lora = recipe.adapt.lora if recipe.adapt else None
    if lora is None or recipe.adapt is None:
        return Trained(replace(start, tensors=state), None)
    parts: dict[str, dict[str, Tensor]] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := _PART.fullmatch(name):
            parts.setdefault(match[1], {})[match[2]] = value
        else:
            tensors[name.replace(_BASE, ".")] = value
    adapter = Adapter(
        name=recipe.name,
        rank=lora.rank,
        alpha=lora.alpha,
        dora=lora.dora,
        tensors={
            n: LoraTensors(p["A"], p["B"], p.get("magnitude_vector")) for n, p in parts.items()
        },
        base=recipe.init_from,
        dropout=lora.dropout,
    )
    whole = replace(start, tensors=merged_tensors(tensors, adapter))
    alone = not recipe.adapt.unfreeze and recipe.tokenizer is None
    return Trained(whole, adapter if alone else None)


def own_memory(model: nn.Module) -> None:
    """Part what moves from where it was read: a mapped file stays as it is."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.clone()
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())


def _inject(model: nn.Module, lora: LoraRecipe, targets: tuple[str, ...], seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtra("LoRA needs an extra: pip install 'auricle[finetune]'") from None
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=list(targets),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    if _WITHOUT_DROPOUT in targets:
        layer = model.get_submodule(_WITHOUT_DROPOUT)
        layer.lora_dropout = nn.ModuleDict({"default": nn.Identity()})


def _takes_lora(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _kind(module: nn.Module) -> str:
    """What a module is, for someone who took it for a linear layer."""
    if isinstance(module, nn.RNNBase):
        return f"an {type(module).__name__}"
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return "a depthwise convolution" if module.groups > 1 else "a convolution"
    if isinstance(module, nn.Embedding):
        return "an embedding"
    if is_norm(module):
        return "a norm"
    return "no linear layer"


def _depth(name: str, top: int) -> int:
    """How many layers of the encoder lie above."""
    if match := _LAYER.search(name):
        return top - int(match[1])
    return top + 1 if _BELOW.search(name) else 0


def _modules(parameters: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name.rpartition(".")[0] for name in parameters}))


def _briefly(names: Iterable[str], most: int = 6) -> str:
    """Names with `*` for numbers, each once."""
    short = list(dict.fromkeys(map(starred, names)))
    return ", ".join(short[:most]) + (f" and {len(short) - most} more" if len(short) > most else "")
