"""How sure a token is: measures from 0 to 1 on log-probabilities [..., V], blank included.

The formulas are those of NeMo's `asr_confidence_utils` (Laptev and Ginsburg, "Fast entropy-based
methods of word-level confidence estimation for end-to-end ASR", 2022). In all of them 0 is a
uniform distribution and 1 a certain one. A transducer's durations take no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

from auricle.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Measure = Callable[["Tensor"], "Tensor"]
Kind = Literal["gibbs", "tsallis", "renyi"]
Norm = Literal["lin", "exp"]


def max_prob(log_probs: Tensor, alpha: float = 1.0) -> Tensor:
    """The largest probability, moved so that chance level is 0."""
    chance = math.pow(log_probs.shape[-1], alpha)
    return ((log_probs.amax(dim=-1) * alpha).exp() * chance - 1) / (chance - 1)


def gibbs(log_probs: Tensor, alpha: float = 1.0, norm: Norm = "lin") -> Tensor:
    """Gibbs entropy; with alpha 1 it is Shannon's."""
    size = log_probs.shape[-1]
    negentropy = ((log_probs * alpha).exp() * log_probs).sum(dim=-1)
    scale = math.pow(size, 1 - alpha)
    if norm == "lin":
        return 1 + negentropy / (math.log(size) * scale)
    least = math.pow(size, -alpha * scale)
    return ((negentropy * alpha).exp() - least) / (1 - least)


def tsallis(log_probs: Tensor, alpha: float = 0.33, norm: Norm = "exp") -> Tensor:
    """Tsallis entropy; alpha 1 is its limit, Shannon's."""
    if alpha == 1:
        return gibbs(log_probs, norm=norm)
    powers = (log_probs * alpha).exp().sum(dim=-1)
    most = math.pow(log_probs.shape[-1], 1 - alpha)
    if norm == "lin":
        return 1 + (1 - powers) / (most - 1)
    least = math.exp((1 - most) / (1 - alpha))
    return (((1 - powers) / (1 - alpha)).exp() - least) / (1 - least)


def renyi(log_probs: Tensor, alpha: float = 0.33, norm: Norm = "lin") -> Tensor:
    """Rényi entropy; alpha 1 is its limit, Shannon's."""
    if alpha == 1:
        return gibbs(log_probs, norm=norm)
    size = log_probs.shape[-1]
    powers = (log_probs * alpha).exp().sum(dim=-1)
    if norm == "lin":
        return 1 + powers.log2() / ((alpha - 1) * math.log2(size))
    return (powers ** (1 / (alpha - 1)) * size - 1) / (size - 1)


def entropy(kind: Kind = "tsallis", *, alpha: float = 0.33, norm: Norm = "exp") -> Measure:
    """An entropy measure by its name; the defaults are those of NeMo's `name: entropy`.

    Raises:
        ConfigError: A name that does not exist, or an alpha that is not above 0.
    """
    kinds = {"gibbs": gibbs, "tsallis": tsallis, "renyi": renyi}
    if kind not in kinds:
        raise ConfigError(f"unknown entropy {kind!r}: use {', '.join(kinds)}")
    if norm not in ("lin", "exp"):
        raise ConfigError(f"unknown norm {norm!r} of an entropy: use lin or exp")
    if alpha <= 0:
        raise ConfigError(f"alpha={alpha} of an entropy: it must be above 0")
    return partial(kinds[kind], alpha=alpha, norm=norm)


def least(confidences: Iterable[float | None]) -> float | None:
    """The least of those that are known; None where none is."""
    return min((c for c in confidences if c is not None), default=None)


def mean(confidences: Iterable[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [c for c in confidences if c is not None]
    return sum(known) / len(known) if known else None
