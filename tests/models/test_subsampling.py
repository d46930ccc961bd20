from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auricle.models import subsampling
from auricle.models.subsampling import (
    ConvSubsampling,
    Reduction,
    Stacking,
    SubsamplingConfig,
    build_subsampling,
)
from tests.models.lively import difference, lively, ragged

KINDS = ["striding", "dw_striding", "vggnet", "striding_conv1d", "dw_striding_conv1d"]


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def network(kind: str, factor: int = 8, causal: bool = False, mels: int = 13) -> ConvSubsampling:
    built = build_subsampling(SubsamplingConfig(kind, factor, mels, 10, 6, causal))
    assert isinstance(built, ConvSubsampling)
    return lively(built)


def frames(lengths: list[int], mels: int = 13) -> tuple[Tensor, Tensor]:
    x, n = ragged(lengths, mels)
    return x.transpose(1, 2), n


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 64, 97])
def test_foretells_its_lengths(kind, causal, factor, length):
    net = network(kind, factor, causal)
    x, n = frames([length])
    out, steps = net(x[:, :length], n)
    assert out.shape == (1, net.out_length(length), 10)
    assert steps.tolist() == [net.out_length(length)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_rows_do_not_hear_their_padding(kind, causal):
    net = network(kind, causal=causal)
    x, n = frames([97, 40, 1, 64])
    together, steps = net(x, n)
    for i, length in enumerate(n.tolist()):
        alone, (m,) = net(x[i : i + 1, :length], n[i : i + 1])
        assert int(m) == int(steps[i])
        assert difference(together[i, :m], alone[0, :m]) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_pieces_make_the_whole(monkeypatch, kind, causal, steps):
    net = network(kind, causal=causal)
    x, n = frames([197, 64, 3, 0])
    whole = net._convolve(x, n)
    pieces = net._convolve_in_pieces(x, n.tolist(), steps)
    assert pieces.shape == whole.shape
    for a, b, m in zip(pieces, whole, net.out_length(n).tolist(), strict=True):
        assert torch.allclose(a[:m], b[:m], atol=1e-5)
    monkeypatch.setattr(subsampling, "PIECE_CPU", 1)
    assert torch.allclose(net(x, n)[0][0], net.out(whole[0]) if net.out else whole[0], atol=1e-5)


def test_vggnet_by_hand():
    net = network("vggnet", 4)
    x, n = frames([30])
    y = x[:, None, :30]
    convs = [layer for layer in net.conv if isinstance(layer, torch.nn.Conv2d)]
    for i, conv in enumerate(convs):
        y = F.relu(F.conv2d(y, conv.weight, conv.bias, padding=1))
        if i % 2:
            y = F.max_pool2d(y, 2, ceil_mode=True)
    assert net.out is not None
    expected = net.out(y.transpose(1, 2).flatten(2))  # [B, 8, D]
    assert expected.shape[1] == 8
    assert torch.allclose(net(x, n)[0][:, :8], expected, atol=1e-5)


def test_causal_convolutions_hear_no_future():
    net = network("dw_striding", 8, causal=True)
    x, n = frames([80])
    later = x.clone()
    later[:, 33:] += 1.0
    a, b = net(x, n)[0], net(later, n)[0]
    assert torch.equal(a[:, :5], b[:, :5])  # step 4 ends at frame 32
    assert not torch.allclose(a[:, 5], b[:, 5])


@pytest.mark.parametrize("norm", [False, True])
def test_stacking_counts_the_padding_of_the_batch(norm):
    net = lively(Stacking(SubsamplingConfig("stacking", 4, 13, 10, 0), norm=norm))
    x, _ = frames([9, 3])  # ten frames in all
    out, steps = net(x, torch.tensor([9, 3]))
    assert steps.tolist() == [2, 1]
    assert out.shape == (2, 3, 10)
    first = x[0, :4] if net.pre_norm is None else net.pre_norm(x[0, :4])
    assert torch.allclose(out[0, 0], net.proj_out(first.flatten()), atol=1e-6)


def test_pooling_shortens_lengths_as_often_as_nemo():
    x = torch.arange(16.0).reshape(1, 16, 1)
    out, steps = Reduction("pooling", 2, 1)(x, torch.tensor([15]))
    assert out.flatten().tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert steps.tolist() == [7]
    assert Reduction("pooling", 4, 1)(x, torch.tensor([16]))[1].tolist() == [1]
