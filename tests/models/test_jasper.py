from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from auricle.errors import ConfigError
from auricle.models.jasper import JasperBlockConfig, JasperConfig, JasperEncoder, SqueezeExcite
from auricle.models.norms import BatchNorm, GroupNorm
from tests.models.lively import difference, lively, ragged

BLOCK = JasperBlockConfig(8, 2, 5, residual=True, separable=True)
FIRST = replace(BLOCK, repeat=1, stride=2, residual=False)
CITRINET = replace(BLOCK, se=True, se_reduction_ratio=2)
STACKS = {
    "quartznet": (FIRST, BLOCK, replace(BLOCK, dilation=2, residual=False)),
    "jasper": (replace(FIRST, separable=False), replace(BLOCK, separable=False)),
    "dense": tuple(replace(BLOCK, separable=False, residual_dense=True) for _ in range(3)),
    "citrinet": (
        CITRINET,
        replace(CITRINET, stride=2, stride_last=True, residual_mode="stride_add"),
    ),
    "groups": (replace(FIRST, groups=2), replace(BLOCK, groups=4, heads=2)),
    "future": (replace(FIRST, future_context=1), replace(BLOCK, future_context=0)),
}


def encoder(name: str) -> JasperEncoder:
    return lively(JasperEncoder(JasperConfig(8, STACKS[name])))


@pytest.mark.parametrize("name", STACKS)
def test_padding_changes_nothing(name):
    net = encoder(name)
    x, lengths = ragged([61, 97, 1, 40], 8, extra=5)
    with torch.no_grad():
        together, steps = net(x, lengths)
        for row, out, n, m in zip(x, together, lengths.tolist(), steps.tolist(), strict=True):
            alone, count = net(row[None, :, :n], torch.tensor([n]))
            assert count.tolist() == [m]
            assert difference(out[:m], alone[0, :m]) < 1e-5


@pytest.mark.parametrize("mode", ["layer", "group", "instance"])
def test_norms_over_time_count_every_frame(mode):
    """As in NeMo, where they count the column that is always masked too."""
    block = replace(BLOCK, se=True, se_reduction_ratio=2, residual_mode="max")
    net = lively(JasperEncoder(JasperConfig(8, (FIRST, block), normalization_mode=mode)))
    assert net.hears_padding
    features, lengths = ragged([40], 8, extra=1)
    seen = []
    for norm in (m for m in net.modules() if isinstance(m, GroupNorm)):
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        net(features, lengths)
    assert seen == [21] * len(seen) != []


@pytest.mark.parametrize("training", [True, False])
def test_batch_norms_count_every_frame_in_training(training):
    net = encoder("jasper").train(training)
    features, lengths = ragged([40, 31], 8, extra=1)
    seen = []
    for norm in (m for m in net.modules() if isinstance(m, BatchNorm)):
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    net(features, lengths)
    assert seen == [21 if training else 20] * len(seen) != []


@pytest.mark.parametrize("name", STACKS)
def test_every_weight_gets_a_gradient(name):
    net = encoder(name).train()
    out, _ = net(*ragged([61, 40], 8))
    out.square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("kernel", "factor", "width"),
    [(11, 1.0, 11), (13, 0.25, 3), (39, 0.25, 9), (5, 0.1, 1), (4, 1, 5)],
)
def test_kernels_are_scaled_and_made_odd(kernel, factor, width):
    assert replace(BLOCK, kernel=kernel, kernel_size_factor=factor).width == width


@pytest.mark.parametrize(
    ("options", "pads"),
    [
        ({}, (2, 2)),
        ({"dilation": 3}, (6, 6)),
        ({"future_context": 1}, (3, 1)),
        ({"future_context": 5}, (2, 2)),
        ({"future_context": 1, "dilation": 2}, (7, 2)),
    ],
)
def test_pads(options, pads):
    assert replace(BLOCK, **options).pads == pads


def test_without_masks_padding_is_heard_and_lengths_stay_in_bounds():
    config = JasperConfig(8, STACKS["citrinet"], conv_mask=False)
    net = lively(JasperEncoder(config))
    assert "encoder.0.mconv.0.weight" in net.state_dict()
    assert "encoder.0.mconv.0.conv.weight" in encoder("citrinet").state_dict()
    x, lengths = ragged([60], 8, extra=12)
    with torch.no_grad():
        out, steps = net(x, lengths)
        shorter, _ = net(x[:, :, :60], lengths)
    assert out.shape[1] == 36
    assert steps.tolist() == [36]
    assert not torch.allclose(out[:, :30], shorter[:, :30], atol=1e-4)


def test_squeeze_excite_means_over_what_a_row_has():
    config = JasperConfig(8, (CITRINET,))
    layer = lively(SqueezeExcite(config, CITRINET))
    x = torch.randn(2, 10, 8)
    with torch.no_grad():
        out, _ = layer(x, torch.tensor([10, 4]))
        gate = torch.sigmoid(layer.fc(x[1, :4].mean(0)))
    assert torch.allclose(out[1, :4], x[1, :4] * gate, atol=1e-6)
    assert not out[1, 4:].any()


def test_squeeze_excite_draws_a_stretch_in_training():
    layer = SqueezeExcite(JasperConfig(8, (CITRINET,)), replace(CITRINET, se_context_size=3))
    x = torch.arange(10.0).reshape(1, 10, 1).expand(1, 10, 8)
    lengths = torch.tensor([10])
    assert float(layer.eval()._mean(x, lengths)[0, 0]) == 4.5
    torch.manual_seed(0)
    means = {float(layer.train()._mean(x, lengths)[0, 0]) for _ in range(50)}
    assert means == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0}


def test_factor():
    assert encoder("quartznet").factor == 2
    assert encoder("citrinet").factor == 2
    every = JasperConfig(8, (replace(FIRST, repeat=2),))
    assert JasperEncoder(every).factor == 4


def test_refusals():
    with pytest.raises(ConfigError, match="one must be 1"):
        replace(BLOCK, stride=2, dilation=2)
    with pytest.raises(ConfigError, match="activation 'tanh'"):
        JasperConfig(8, (BLOCK,), activation="tanh")
    with pytest.raises(ConfigError, match="normalization_mode 'rms'"):
        JasperConfig(8, (BLOCK,), normalization_mode="rms")
    with pytest.raises(ConfigError, match="no attention"):
        encoder("quartznet")(*ragged([9], 8), context=(70, 1))
