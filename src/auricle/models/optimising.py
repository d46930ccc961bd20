"""Faster forms of layers, for inference alone: derived from a model, never saved.

Each function changes a module in place; `asr.optimise` hands them a copy that shares the weights
of the model it was made from. All are exact but for the order of additions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auricle.models.attention import SelfAttention
from auricle.models.conformer import ConformerConvolution, ConformerEncoder
from auricle.models.convolution import TimeConv
from auricle.models.heads import Predictor
from auricle.models.jasper import JasperBlock, MaskedConv
from auricle.models.norms import BatchNorm, FusedBatchNorm
from auricle.models.packed import PackedCausalConv2d, PackedConv2d, PackedLinear, can_pack
from auricle.models.subsampling import CausalConv2d, ConvSubsampling


@torch.no_grad()
def fuse(model: nn.Module) -> None:
    """Fold norms into the convolutions before them, and join products that share their input."""
    for module in model.modules():
        match module:
            case SelfAttention():
                module.fuse()
            case ConformerConvolution():
                if _folded(module.depthwise_conv, module.batch_norm):
                    module.batch_norm = nn.Identity()
            case JasperBlock():
                for layers in (module.mconv, *(module.res or ())):
                    _fold_within(layers)
            case ConformerEncoder():
                if module.distances is not None:
                    module.distances.whole = True
            case Predictor():
                module.premultiply()


@torch.no_grad()
def pack(model: nn.Module) -> None:
    """Replace products and two-dimensional convolutions by packed ones where that can be."""
    if not all(can_pack(weight) for weight in model.parameters()):
        return
    for module in list(model.modules()):
        if isinstance(module, TimeConv) and module.is_product and can_pack(module.weight):
            module.product = PackedLinear(module.weight.squeeze(-1), module.bias)
            module.register_parameter("weight", None)
            module.register_parameter("bias", None)
        if isinstance(module, ConvSubsampling):
            _pack_convolutions(module.conv)
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and can_pack(child.weight):
                setattr(module, name, PackedLinear(child.weight, child.bias))
    _own(model)


def _own(model: nn.Module) -> None:
    """Copy the few weights that packing left, so that nothing holds on to the checkpoint's file.

    Its pages would stay in memory beside the packed weights, which are as large.
    """
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(weight.detach().clone(), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.clone())


def _pack_convolutions(layers: nn.Sequential) -> None:
    for i, layer in enumerate(layers):
        if not isinstance(layer, nn.Conv2d) or not can_pack(layer.weight):
            continue
        relu = i + 1 < len(layers) and isinstance(layers[i + 1], nn.ReLU)
        layers[i] = (
            PackedCausalConv2d(layer, layer.pads, relu=relu)
            if isinstance(layer, CausalConv2d)
            else PackedConv2d(layer, relu=relu)
        )
        if relu:
            layers[i + 1] = nn.Identity()


def _fold_within(layers: nn.Module) -> None:
    """In a row of layers, fold each norm into the convolution right before it."""
    assert isinstance(layers, nn.ModuleList)
    for i in range(1, len(layers)):
        before = layers[i - 1]
        conv = before.conv if isinstance(before, MaskedConv) else before
        if isinstance(conv, TimeConv) and _folded(conv, layers[i]):
            layers[i] = nn.Identity()


def _folded(conv: TimeConv, norm: nn.Module) -> bool:
    """Give `conv` the scale and shift of `norm`, if that knows them beforehand."""
    found = _scale_and_shift(norm)
    if found is None:
        return False
    scale, shift = found
    bias = shift if conv.bias is None else shift + conv.bias * scale
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None], requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return True


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    match norm:
        case FusedBatchNorm():
            return norm.weight, norm.bias
        case BatchNorm():
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            return scale, norm.bias - norm.running_mean * scale
    return None
