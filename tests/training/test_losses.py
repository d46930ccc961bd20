from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from slow_transducer import slow_loss
from torch import Tensor
from torch.nn import functional as F

from auricle.models.heads import Joint, JointConfig
from auricle.training import losses
from auricle.training.losses import ctc_loss, transducer_loss

VOCABULARY = 6
TDT = (0, 1, 2, 3, 4)
# Double precision: what is left is rounding alone.
EXACT = {"rtol": 1e-9, "atol": 1e-10}


@dataclass
class Case:
    """A joint, and a batch whose padding is garbage."""

    joint: Joint
    encodings: Tensor
    predictions: Tensor
    tokens: Tensor
    steps: Tensor
    lengths: Tensor

    @property
    def leaves(self) -> list[Tensor]:
        return [self.encodings, self.predictions, *self.joint.parameters()]

    def loss(self, **options) -> Tensor:
        batch = (self.encodings, self.predictions, self.tokens, self.steps, self.lengths)
        return transducer_loss(self.joint, *batch, **options)

    def slow(self, durations=(), sigma=0.0, outputs=None) -> list[Tensor | None]:
        f = self.joint.project_encodings(self.encodings)
        g = self.joint.project_predictions(self.predictions)
        logits = self.joint(f[:, :, None], g[:, None])[..., :outputs]
        found = []
        for b, (steps, length) in enumerate(zip(self.steps.tolist(), self.lengths, strict=True)):
            labels = self.tokens[b, :length].tolist()
            found.append(slow_loss(logits[b, :steps, : length + 1], labels, durations, sigma))
        return found

    def gradients(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.leaves))


def case(sizes, durations=(), dtype=torch.float64, dropout=0.0, scale=3.0, **config) -> Case:
    """Utterances of the given (steps, tokens)."""
    torch.manual_seed(0)
    steps, lengths = (torch.tensor(column) for column in zip(*sizes, strict=True))
    outputs = VOCABULARY + 1 + len(durations)
    joint = Joint(JointConfig(5, 4, 8, outputs, dropout=dropout, **config)).to(dtype)
    with torch.no_grad():
        joint.out.weight *= scale
    shape = len(sizes), int(steps.max()) + 2, int(lengths.max()) + 3
    encodings = torch.randn(shape[0], shape[1], 5, dtype=dtype, requires_grad=True)
    predictions = torch.randn(shape[0], shape[2], 4, dtype=dtype, requires_grad=True)
    tokens = torch.randint(0, VOCABULARY, (shape[0], shape[2] - 1))
    return Case(joint, encodings, predictions, tokens, steps, lengths)


SIZES = [(7, 3), (1, 0), (1, 2), (5, 0), (4, 9), (9, 5)]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_rnnt_is_the_recursion_over_the_lattice(activation):
    x = case(SIZES, activation=activation)
    fast, slow = x.loss(), torch.stack(x.slow())
    torch.testing.assert_close(fast, slow, **EXACT)
    assert torch.equal(x.loss(sigma=0.3), fast)  # which is a TDT's alone
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, 1.0], dtype=torch.float64)
    for a, b in zip(x.gradients(fast @ weights), x.gradients(slow @ weights), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("durations", [TDT, (1, 2), (0, 2, 4, 8), (0, 1), (2, 1, 0)])
def test_tdt_is_the_recursion_over_the_lattice(durations, sigma):
    x = case([(8, 3), (9, 5), (12, 0), (1, 0), (4, 1), (6, 2)], durations)
    fast, slow = x.loss(durations=durations, sigma=sigma), x.slow(durations, sigma)
    there = [i for i, loss in enumerate(slow) if loss is not None]
    missing = [i for i, loss in enumerate(slow) if loss is None]
    assert len(there) >= 3
    expected = torch.stack([slow[i] for i in there])
    torch.testing.assert_close(fast[there], expected, **EXACT)
    assert fast[missing].tolist() == [0.0] * len(missing)
    for a, b in zip(x.gradients(fast.sum()), x.gradients(expected.sum()), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("durations", [(), TDT, (1, 2)])
def test_gradients_are_finite_differences(durations):
    x = case([(5, 2), (3, 1)], durations, activation="tanh")
    options = {"durations": durations, "sigma": 0.1}

    def loss(*_: Tensor) -> Tensor:
        return x.loss(**options)

    assert torch.autograd.gradcheck(loss, x.leaves, rtol=1e-6, atol=1e-8)


def test_tdt_without_a_path_costs_nothing():
    x = case([(3, 0), (5, 2), (2, 4)], (0, 2))  # 3 and 5 are no sums of 2
    loss = x.loss(durations=(0, 2))
    assert loss[:2].tolist() == [0.0, 0.0]
    assert loss[2] > 0
    encodings, predictions = torch.autograd.grad(loss.sum(), [x.encodings, x.predictions])
    assert not encodings[:2].any()
    assert not predictions[:2].any()
    assert encodings[2].any()


def test_a_tdt_trained_as_rnnt_ignores_durations():
    x = case(SIZES, TDT)
    loss = x.loss(durations=TDT, sigma=0.3, as_rnnt=True)
    torch.testing.assert_close(loss, torch.stack(x.slow(outputs=VOCABULARY + 1)), **EXACT)
    gradient = torch.autograd.grad(loss.sum(), x.joint.out.weight)[0]
    assert not gradient[-len(TDT) :].any()
    assert gradient[: -len(TDT)].any()


def test_no_steps_cost_nothing():
    x = case([(0, 0), (0, 3), (4, 2)])
    loss = x.loss()
    assert loss[:2].tolist() == [0.0, 0.0]
    assert all(gradient.isfinite().all() for gradient in x.gradients(loss.sum()))
    alone = case([(0, 2)])
    assert alone.loss().tolist() == [0.0]


def test_padding_changes_nothing():
    x = case(SIZES)
    before = x.loss()
    gradients = torch.autograd.grad(before.sum(), [x.encodings, x.predictions])
    with torch.no_grad():
        for row, (steps, length) in enumerate(SIZES):
            x.encodings[row, steps:] = math.nan
            x.predictions[row, length + 1 :] = math.inf
            x.tokens[row, length:] = 0
    after = x.loss()
    again = torch.autograd.grad(after.sum(), [x.encodings, x.predictions])
    assert torch.equal(before, after)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_nan_stays_nan_in_its_own_row():
    x = case([(4, 2), (5, 3)])
    with torch.no_grad():
        x.encodings[0, 1] = math.nan
    loss = x.loss()
    assert loss.isnan().tolist() == [True, False]
    gradient = torch.autograd.grad(loss.sum(), x.encodings)[0]
    assert gradient[0].isnan().any()
    assert gradient[1].isfinite().all()


@pytest.mark.parametrize("durations", [(), TDT])
def test_pieces_change_nothing(monkeypatch, durations):
    x = case(SIZES, durations)
    whole = x.loss(durations=durations)
    gradients = x.gradients(whole.sum())
    monkeypatch.setattr(losses, "_rows", lambda *_: 3)
    pieces = x.loss(durations=durations)
    torch.testing.assert_close(pieces, whole, **EXACT)
    for a, b in zip(x.gradients(pieces.sum()), gradients, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("durations", [(), TDT])
def test_the_backward_sees_the_dropout_of_the_forward(monkeypatch, durations):
    x = case([(5, 2), (3, 1)], durations, dropout=0.3, activation="tanh")
    monkeypatch.setattr(losses, "_seed", lambda joint: 7)
    monkeypatch.setattr(losses, "_rows", lambda *_: 5)
    assert torch.autograd.gradcheck(lambda *_: x.loss(durations=durations), x.leaves)


def test_dropout_leaves_its_share_and_ends_with_training():
    x = case([(300, 40)], dropout=0.2)
    plain = x.joint.eval() and x.loss()
    assert torch.equal(x.loss(), plain)
    x.joint.train()
    torch.manual_seed(1)
    first, second = x.loss(), x.loss()
    torch.manual_seed(1)
    assert torch.equal(x.loss(), first)
    assert not torch.equal(first, second)
    kept = losses._kept(7, (2000, 30), 0.2, torch.device("cpu"))
    assert kept.shape == (2000, 30)
    assert abs(kept.float().mean() - 0.8) < 0.01


def test_memory_bounds_the_rows_of_a_piece():
    joint = Joint(JointConfig(8, 8, 640, 1025))
    x = torch.empty(0)
    small, large = (losses._rows(joint, x, megabytes) for megabytes in (1, 512))
    assert 1 <= small * 1025 * 4 <= 2**20
    assert small < large
    assert losses._rows(joint, x, 0) == 1


@pytest.mark.parametrize("durations", [(), TDT])
def test_a_batch_is_the_sum_of_its_utterances(durations):
    sizes = [(60, 12), (35, 20), (50, 3), (44, 16)]
    x = case(sizes, durations, torch.float32)
    together = x.loss(durations=durations)
    gradients = x.gradients(together.sum())
    total = [torch.zeros_like(leaf) for leaf in x.leaves]
    for row, (steps, length) in enumerate(sizes):
        batch = (
            x.encodings[row : row + 1, :steps],
            x.predictions[row : row + 1, : length + 1],
            x.tokens[row : row + 1, :length],
            x.steps[row : row + 1],
            x.lengths[row : row + 1],
        )
        alone = transducer_loss(x.joint, *batch, durations=durations)
        assert math.isclose(alone.item(), together[row].item(), rel_tol=1e-6)
        for sum_, part in zip(total, x.gradients(alone.sum()), strict=True):
            sum_ += part
    for a, b in zip(total, gradients, strict=True):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()


def test_an_unlikely_tail_is_left_out_below_rounding():
    x = case([(80, 20), (70, 25)], dtype=torch.float32, scale=30.0)
    exact = case([(80, 20), (70, 25)], scale=30.0)
    with torch.no_grad():
        for a, b in zip(exact.leaves, x.leaves, strict=True):
            a.copy_(b)
        exact.tokens.copy_(x.tokens)
    pairs = zip(x.gradients(x.loss().sum()), exact.gradients(exact.loss().sum()), strict=True)
    for a, b in pairs:
        assert (a - b).abs().max() < 1e-5 * b.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_long_utterances_are_stable_under_autocast(dtype):
    x = case([(500, 200), (480, 150)], dtype=torch.float32)
    exact = x.loss()
    expected = x.gradients(exact.sum())
    with torch.autocast("cpu", dtype):
        loss = x.loss()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=5e-3, atol=0)
    for a, b in zip(x.gradients(loss.sum()), expected, strict=True):
        assert a.dtype == torch.float32
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99


def test_frozen_parts_need_no_gradients():
    x = case([(6, 2), (4, 3)])
    x.joint.requires_grad_(False)
    x.predictions.requires_grad_(False)
    x.loss().sum().backward()
    assert x.encodings.grad is not None
    assert x.joint.out.weight.grad is None
    with torch.no_grad():
        assert not x.loss().requires_grad


def test_ctc_sums_over_alignments_by_the_utterance():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, VOCABULARY + 1, requires_grad=True)
    tokens = torch.tensor([[1, 2], [3, 3], [2, 2]])
    loss = ctc_loss(logits, tokens, torch.tensor([4, 2, 3]), torch.tensor([2, 2, 2]))
    probs = logits.softmax(-1)
    total = 0.0
    for path in torch.cartesian_prod(*[torch.arange(VOCABULARY + 1)] * 4):
        spoken = [i for i in torch.unique_consecutive(path).tolist() if i != VOCABULARY]
        if spoken == [1, 2]:
            total = total + probs[0, torch.arange(4), path].prod()
    torch.testing.assert_close(loss[0], -total.log())
    assert loss[1] == 0  # two equal tokens need three steps
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    assert not gradient[1].any()
    assert not gradient[2, 3:].any()
    assert gradient[2, :3].any()


def test_ctc_of_nothing_and_of_nan():
    logits = torch.randn(3, 4, VOCABULARY + 1)
    logits[2, 1] = math.nan
    lengths = torch.tensor([0, 0, 1])
    loss = ctc_loss(logits, torch.zeros(3, 1, dtype=torch.long), torch.tensor([0, 4, 4]), lengths)
    assert loss[0] == 0
    torch.testing.assert_close(loss[1], -logits[1].log_softmax(-1)[:, -1].sum())
    assert loss[2].isnan()


def test_ctc_computes_in_fp32_and_keeps_the_dtype_of_gradients():
    logits = torch.randn(1, 30, VOCABULARY + 1).bfloat16().requires_grad_()
    tokens, steps = torch.zeros(1, 3, dtype=torch.long), torch.tensor([30])
    loss = ctc_loss(logits, tokens + torch.arange(3), steps, torch.tensor([3]))
    assert loss.dtype == torch.float32
    assert torch.autograd.grad(loss.sum(), logits)[0].dtype == torch.bfloat16
