from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from auricle.models.convolution import TimeConv, beyond, hide


@pytest.mark.parametrize("kernel", [1, 2, 5])
@pytest.mark.parametrize("pads", [(0, 0), (2, 2), (4, 0), (1, 3)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_conv1d_and_foretells_lengths(kernel, pads, stride, dilation, groups):
    torch.manual_seed(0)
    conv = TimeConv((4, 8), kernel, pads, stride=stride, dilation=dilation, groups=groups)
    x = torch.randn(2, 13, 4)
    padded = F.pad(x.transpose(1, 2), pads)
    expected = F.conv1d(padded, conv.weight, conv.bias, stride, 0, dilation, groups)
    got = conv(x)
    assert torch.allclose(got, expected.transpose(1, 2), atol=1e-6)
    assert int(conv.out_length(torch.tensor(13))) == got.shape[1]


def test_hides_what_lies_beyond():
    x = torch.full((2, 3, 1), torch.nan)
    x[0, :2] = 1.0
    hidden = beyond(torch.tensor([2, 0]), 3)
    assert hide(x, hidden).squeeze(-1).tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert hide(x, None) is x
