"""The transducer losses beside NeMo's on the CPU, and TDT's beside Transformers'.

NeMo's TDT loss runs on CUDA alone; its definition is the recursion that `tests/training` compares.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit, see `make parity`")

from nemo.collections.asr.losses.ctc import CTCLoss
from nemo.collections.asr.losses.rnnt import RNNTLoss
from nemo.utils import logging as nemo_logging
from slow_transducer import slow_loss
from transformers.loss.loss_tdt import tdt_loss

from auricle.models.heads import Joint, JointConfig
from auricle.training.losses import ctc_loss, transducer_loss

nemo_logging.setLevel(logging.ERROR)
pytestmark = pytest.mark.parity

VOCABULARY = 30
REDUCTIONS = ("mean", "sum", "mean_batch", "mean_volume")
# NeMo's lattices are fp32, where a loss of some hundreds has rounding of 1e-5.
LOSS, GRADIENT = 1e-5, 1e-4  # relative; the gradient's of its largest value


@dataclass
class Batch:
    """Encodings and tokens of different lengths, and a joint."""

    joint: Joint
    encodings: Tensor
    predictions: Tensor
    tokens: Tensor
    steps: Tensor
    lengths: Tensor

    @property
    def leaves(self) -> list[Tensor]:
        return [self.encodings, self.predictions, *self.joint.parameters()]

    def logits(self) -> Tensor:
        """[B, T, U + 1, outputs], whole, as the others want it."""
        f = self.joint.project_encodings(self.encodings)
        g = self.joint.project_predictions(self.predictions)
        return self.joint(f[:, :, None], g[:, None])

    def loss(self, **options: Any) -> Tensor:
        batch = (self.encodings, self.predictions, self.tokens, self.steps, self.lengths)
        return transducer_loss(self.joint, *batch, **options)

    def reduced(self, losses: Tensor, reduction: str) -> Tensor:
        """NeMo's reductions, from the loss of each utterance."""
        match reduction:
            case "mean":
                return (losses / self.lengths).mean()
            case "mean_batch":
                return losses.mean()
            case "mean_volume":
                return losses.sum() / self.lengths.sum()
        return losses.sum()


def batch(durations: tuple[int, ...] = ()) -> Batch:
    torch.manual_seed(0)
    steps, lengths = torch.tensor([40, 33, 12, 1, 25]), torch.tensor([12, 9, 12, 1, 3])
    joint = Joint(JointConfig(16, 16, 32, VOCABULARY + 1 + len(durations)))
    with torch.no_grad():
        joint.out.weight *= 5
    return Batch(
        joint,
        torch.randn(5, 40, 16, requires_grad=True),
        torch.randn(5, 13, 16, requires_grad=True),
        torch.randint(0, VOCABULARY, (5, 12)),
        steps,
        lengths,
    )


def compare(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=LOSS, atol=LOSS)
    mine = torch.autograd.grad(ours.sum(), leaves)
    others = torch.autograd.grad(theirs.sum(), leaves)
    for a, b in zip(mine, others, strict=True):
        assert (a - b).abs().max() < GRADIENT * b.abs().max()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["pytorch", "warprnnt_numba"])
def test_rnnt_is_nemos(name, reduction):
    x = batch()
    criterion = RNNTLoss(VOCABULARY, reduction=reduction, loss_name=name)
    theirs = criterion(
        log_probs=x.logits(), targets=x.tokens, input_lengths=x.steps, target_lengths=x.lengths
    )
    compare(x.reduced(x.loss(), reduction), theirs, x.leaves)


@pytest.mark.parametrize("durations", [(0, 1, 2, 3, 4), (0, 1, 2, 4, 8), (0, 1)])
def test_tdt_is_transformers(durations):
    x = batch(durations)
    logits = x.logits()
    split = len(durations)
    theirs = tdt_loss(
        token_logits=logits[..., :-split],
        duration_logits=logits[..., -split:],
        targets=x.tokens,
        logit_lengths=x.steps,
        target_lengths=x.lengths,
        blank_token_id=VOCABULARY,
        durations=list(durations),
        reduction="none",
    )
    compare(x.loss(durations=durations), theirs, x.leaves)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_tdt_is_its_definition_at_the_size_of_parity(sigma):
    durations = (0, 1, 2, 3, 4)
    x = batch(durations)
    logits, rows = x.logits(), zip(x.steps.tolist(), x.lengths.tolist(), strict=True)
    slow = [
        slow_loss(logits[b, :t, : u + 1], x.tokens[b, :u].tolist(), durations, sigma)
        for b, (t, u) in enumerate(rows)
    ]
    compare(x.loss(durations=durations, sigma=sigma), torch.stack(slow), x.leaves)


@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume"])
def test_ctc_is_nemos(reduction):
    x = batch()
    logits = torch.randn(5, 40, VOCABULARY + 1, requires_grad=True)
    criterion = CTCLoss(VOCABULARY, zero_infinity=True, reduction=reduction)
    theirs = criterion(
        log_probs=logits.log_softmax(-1),
        targets=x.tokens,
        input_lengths=x.steps,
        target_lengths=x.lengths,
    )
    ours = x.reduced(ctc_loss(logits, x.tokens, x.steps, x.lengths), reduction)
    compare(ours, theirs, [logits])
