from __future__ import annotations

import pytest
import torch

from auricle.models.heads import (
    CTCHead,
    Joint,
    JointConfig,
    Predictor,
    PredictorConfig,
    build_predictor,
)
from tests.models.lively import lively

PREDICTORS = {
    "lstm": PredictorConfig(20, 12),
    "two layers": PredictorConfig(20, 12, layers=2),
    "projected": PredictorConfig(20, 12, layers=2, rnn_hidden=16),
    "stateless": PredictorConfig(20, 12, kind="stateless"),
    "one token": PredictorConfig(20, 12, kind="stateless", context_size=1),
    "three tokens": PredictorConfig(
        20, 12, kind="stateless", context_size=3, normalization_mode="layer"
    ),
}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("name", PREDICTORS)
def test_steps_make_the_sequence(name, premultiplied):
    net = lively(build_predictor(PREDICTORS[name]))
    if premultiplied and isinstance(net, Predictor):
        net.premultiply()
    tokens = torch.randint(0, 21, (3, 7), generator=torch.Generator().manual_seed(0))
    whole, after = net(tokens)
    first, middle = net(tokens[:, :4])
    second, resumed = net(tokens[:, 4:], middle)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-6)
    state, outs = net.initial_state(3), []
    for token in tokens.T:
        out, state = net.step(token, state)
        outs.append(out)
    assert torch.allclose(torch.stack(outs, 1), whole, atol=1e-6)
    for a, b, c in zip(state, after, resumed, strict=True):
        assert a.shape[1] == 3  # the batch
        assert torch.allclose(a, b, atol=1e-6)
        assert torch.allclose(a, c, atol=1e-6)


@pytest.mark.parametrize("name", PREDICTORS)
def test_rows_of_a_state_can_be_chosen(name):
    net = lively(build_predictor(PREDICTORS[name]))
    _, state = net(torch.tensor([[1, 2], [3, 4]]))
    chosen = tuple(part[:, [1]] for part in state)
    _, alone = net(torch.tensor([[3, 4]]))
    a, b = net.step(torch.tensor([5]), chosen)[0], net.step(torch.tensor([5]), alone)[0]
    assert torch.allclose(a, b, atol=1e-6)


def test_the_stateless_predictor_sees_no_further():
    net = lively(build_predictor(PREDICTORS["stateless"]))
    a, _ = net(torch.tensor([[1, 2, 3]]))
    b, _ = net(torch.tensor([[9, 2, 3]]))
    assert torch.equal(a[:, 2], b[:, 2])
    assert not torch.equal(a[:, 1], b[:, 1])


def test_blank_is_zero_before_the_first_token():
    net = Predictor(PREDICTORS["lstm"])
    assert not net.embed.weight[20].any()


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_joint_by_the_formula(activation):
    net = lively(Joint(JointConfig(6, 12, 10, 25, activation)))
    f, g = torch.randn(2, 5, 6), torch.randn(2, 3, 12)
    mixed = net.enc(f)[:, :, None] + net.pred(g)[:, None]  # [B, T, U, J]
    expected = net.out(getattr(torch, activation)(mixed))
    got = net(net.project_encodings(f)[:, :, None], net.project_predictions(g)[:, None])
    assert got.shape == (2, 5, 3, 25)
    assert torch.allclose(got, expected)


def test_ctc_head_is_a_linear_layer():
    assert set(CTCHead(6, 21).state_dict()) == {"weight", "bias"}
    assert CTCHead(6, 21)(torch.zeros(2, 4, 6)).shape == (2, 4, 21)
