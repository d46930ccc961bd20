"""Low-rank changes of linear layers (LoRA, DoRA): beside a model that stays as it is, or merged.

Letters in shapes: R rank, C_in and C_out a layer's widths.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from auricle.models.asr import ASR
from auricle.models.attention import SelfAttention
from auricle.models.packed import PackedLinear

_FUSED = ("linear_q", "linear_k", "linear_v")


@dataclass(frozen=True)
class LoraTensors:
    """The change of one linear layer: `a` [R, C_in], `b` [C_out, R].

    With `magnitude` [C_out], DoRA's, each row of the changed weight is brought to that length.
    """

    a: Tensor
    b: Tensor
    magnitude: Tensor | None = None

    def merged(self, weight: Tensor, scale: float) -> Tensor:
        """What `weight` [C_out, C_in] becomes, in its own precision."""
        changed = weight.float() + scale * (self.b.float() @ self.a.float()).to(weight.device)
        if self.magnitude is not None:
            changed *= self.gain(changed)[:, None]
        return changed.to(weight.dtype)

    def gain(self, changed: Tensor) -> Tensor:
        """What DoRA multiplies the rows of a changed weight [C_out, C_in] with: [C_out]."""
        assert self.magnitude is not None
        length: Tensor = changed.norm(dim=1)
        return self.magnitude.float().to(changed.device) / length


@dataclass(frozen=True)
class _Part:
    """A change of some rows of a layer's output; `gain` and `shift` are DoRA's."""

    rows: slice
    a: Tensor
    b: Tensor
    gain: Tensor | None
    shift: Tensor | None


class AdaptedLinear(nn.Module):
    """A linear layer that others use too, and what is added to its output here."""

    def __init__(self, shared: nn.Module, parts: Sequence[_Part]) -> None:
        super().__init__()
        self.shared = shared
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """[..., C_in] to [..., C_out]."""
        out: Tensor = self.shared(x)
        for part in self.parts:
            some = out[..., part.rows]
            if part.gain is not None and part.shift is not None:
                some.mul_(part.gain).add_(part.shift)
            some.add_(F.linear(F.linear(x, part.a), part.b))
        return out


def adapted(model: ASR, changes: Mapping[str, LoraTensors], scale: float) -> ASR:
    """A model with changed linear layers that shares everything else with `model`.

    Only the modules on the way to those layers are new, and without weights of their own; `model`
    may be one that `optimise` made, whose layers of queries, keys and values are one.
    """
    parts: dict[str, list[_Part]] = {}
    twins: dict[str, nn.Module] = {"": _twin(model)}

    def own(path: str) -> nn.Module:
        if path not in twins:
            above, _, leaf = path.rpartition(".")
            twins[path] = _twin(model.get_submodule(path))
            setattr(own(above), leaf, twins[path])
        return twins[path]

    for name, change in changes.items():
        home, rows = _place(model, name)
        parts.setdefault(home, []).append(_part(model.get_submodule(home), rows, change, scale))
    for home, mine in parts.items():
        above, _, leaf = home.rpartition(".")
        module = own(above)
        setattr(module, leaf, AdaptedLinear(model.get_submodule(home), mine))
        if isinstance(module, SelfAttention) and leaf == "linear_pos":
            module.projected = []
    twin = twins[""]
    assert isinstance(twin, ASR)
    return twin


def _twin(module: nn.Module) -> nn.Module:
    """Another module of the same weights, whose children can be exchanged."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _place(model: ASR, name: str) -> tuple[str, slice]:
    """The layer that does the work of the layer `name`, and where in its output that is."""
    above, _, leaf = name.rpartition(".")
    module = model.get_submodule(above)
    if isinstance(module, SelfAttention) and module.linear_qkv is not None and leaf in _FUSED:
        first, width = _FUSED.index(leaf) * module.config.d_model, module.config.d_model
        return f"{above}.linear_qkv", slice(first, first + width)
    return name, slice(None)


def _part(shared: nn.Module, rows: slice, change: LoraTensors, scale: float) -> _Part:
    """A change in the form, and on the device, that is quickest to use."""
    if isinstance(shared, PackedLinear):
        weight, bias = shared.packed, shared.offset
    else:
        assert isinstance(shared, nn.Linear)
        weight, bias = shared.weight, shared.bias
    a, b = change.a.to(weight.device), scale * change.b.to(weight.device).float()
    gain = shift = None
    if change.magnitude is not None:
        dense = weight.to_dense() if weight.is_mkldnn else weight
        gain = change.gain(dense[rows].float() + b @ a.float())
        b = gain[:, None] * b
        shift = 0 * gain if bias is None else (1 - gain) * bias[rows].float()
        gain, shift = gain.to(weight.dtype), shift.to(weight.dtype)
    return _Part(rows, a.to(weight.dtype, copy=True), b.to(weight.dtype), gain, shift)
