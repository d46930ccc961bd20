"""Which of a model's names a recipe means: globs over NeMo's names and Hugging Face's.

Knows names only. What may be done to what they name is for whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from auricle.checkpoints.huggingface_keys import module_to_huggingface
from auricle.checkpoints.nemo_keys import to_nemo
from auricle.config import nearest
from auricle.errors import ConfigError
from auricle.models.asr import ASR

NORM = "norm"  # what every norm is called besides its name
_NEAR = 3
_NOTHING = torch.empty(1, 1, 1)
_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def matching(
    patterns: Iterable[str],
    names: Iterable[str],
    *,
    key: str,
    also: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, ...]:
    """The names that any of `patterns` means, in their own order.

    A pattern means what it names and all below that. In it `*` is any text; without one it stands
    at the beginning of names, or where it does not, anywhere in them between dots.

    Args:
        patterns: What a recipe says.
        names: Of modules or of parameters.
        key: The key of the recipe, for messages.
        also: How else a name may be called.

    Raises:
        ConfigError: A pattern means nothing; the message shows names that are near.
    """
    spellings = {name: (name, *(also or {}).get(name, ())) for name in names}
    found: set[str] = set()
    for pattern in patterns:
        meant = _meant(pattern, spellings)
        if not meant:
            like = near(pattern, spellings)
            raise ConfigError(f"{key} has {pattern!r}, which fits no name of the model; {like}")
        found |= meant
    return tuple(name for name in spellings if name in found)


def near(pattern: str, spellings: Mapping[str, Sequence[str]]) -> str:
    """The end of a message: names like `pattern`, with `*` for numbers."""
    known: dict[str, None] = {}
    for names in spellings.values():
        for name in names:
            parts = starred(name).split(".")
            known |= dict.fromkeys(".".join(parts[: i + 1]) for i in range(len(parts)))
    whole = starred(pattern)
    like = nearest(whole, known, _NEAR)
    if not like:  # by its last part
        leaves: dict[str, str] = {}
        for name in known:
            leaves.setdefault(name.rpartition(".")[2], name)
        leaf = whole.strip("*.").rpartition(".")[2]
        like = [leaves[n] for n in nearest(leaf, leaves, _NEAR)]
    if like:
        return f"near are {', '.join(like)}"
    return f"there are {', '.join(sorted({name.partition('.')[0] for name in known}))}"


def spellings_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The other spellings of the names of a model's modules and parameters.

    NeMo's and Hugging Face's, and for norms, which have many names, `norm`.
    """
    names = [name for name, _ in model.named_modules() if name]
    names += [name for name, _ in model.named_parameters()]
    norms = {name for name, module in model.named_modules() if is_norm(module)}
    also: dict[str, tuple[str, ...]] = {}
    for name in names:
        others = _foreign(name, model)
        module = name if name in norms else name.rpartition(".")[0]
        if module in norms:
            others = (*others, f"{module.rpartition('.')[0]}.{NORM}{name.removeprefix(module)}")
        if others:
            also[name] = others
    return also


def _meant(pattern: str, spellings: Mapping[str, Sequence[str]]) -> set[str]:
    glob = ".*".join(map(re.escape, pattern.split("*")))
    for before in ("", r"(?:.*\.)?"):
        text = re.compile(rf"{before}{glob}(?:\..*)?")
        meant = {name for name, known in spellings.items() if any(map(text.fullmatch, known))}
        if meant or "*" in pattern:
            return meant
    return set()


def _foreign(name: str, model: nn.Module) -> tuple[str, ...]:
    """How NeMo and Hugging Face spell one of our names, where they do it otherwise."""
    if not isinstance(model, ASR):
        return ()
    theirs = module_to_huggingface(name, model.config)
    (nemos,) = to_nemo({f"{name}.weight": _NOTHING}, model.config)
    return tuple(other for other in (theirs, nemos.removesuffix(".weight")) if other != name)


def starred(name: str) -> str:
    """A name with `*` for its numbers."""
    return _NUMBER.sub(".*", name)


def is_norm(module: nn.Module) -> bool:
    """Whether it is a norm of any kind."""
    return "Norm" in type(module).__name__
