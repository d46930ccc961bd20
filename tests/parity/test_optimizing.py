"""Novograd and the schedules against NeMo's classes, step by step."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("nemo.core.optim", reason="needs nemo-toolkit, see `make parity`")

from nemo.core.optim import lr_scheduler as theirs
from nemo.core.optim.novograd import Novograd as NemoNovograd

from auricle.training.optimizing import Novograd, learning_rate
from auricle.training.recipe import ScheduleRecipe

pytestmark = pytest.mark.parity
PEAK, LOW, WARMUP, TOTAL = 0.05, 1e-4, 20, 200


@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_novograd_is_nemos(decay: float) -> None:
    """The published Citrinet's constants; NeMo writes into the gradients, so each has its own."""
    torch.manual_seed(0)
    mine = [torch.nn.Parameter(torch.randn(16, 8)), torch.nn.Parameter(torch.randn(8))]
    other = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    options = {"lr": 0.05, "betas": (0.8, 0.25), "weight_decay": decay}
    ours, nemo = Novograd(mine, **options), NemoNovograd(other, **options)
    for step in range(50):
        for a, b in zip(mine, other, strict=True):
            a.grad = torch.randn_like(a) * (0.0 if step == 0 else 10.0 ** (step % 5 - 2))
            b.grad = a.grad.clone()
        ours.step()
        nemo.step()
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def nemo_rates(kind: type, lr: float, steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = kind(optimizer, warmup_steps=WARMUP, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("constant", theirs.WarmupPolicy, {}),
        ("cosine", theirs.CosineAnnealing, {"max_steps": TOTAL, "min_lr": LOW}),
        ("linear", theirs.WarmupAnnealing, {"max_steps": TOTAL, "min_lr": LOW}),
        ("linear", theirs.PolynomialDecayAnnealing, {"max_steps": TOTAL, "min_lr": LOW}),
        (
            "wsd",
            theirs.WarmupHoldAnnealLinear,
            {"max_steps": TOTAL, "min_lr": LOW, "hold_steps": TOTAL - WARMUP - 40},
        ),
    ],
)
def test_schedules_are_nemos(name: str, kind: type, options: dict) -> None:
    schedule = ScheduleRecipe(name, warmup=WARMUP, min_lr=LOW, decay=0.2)
    ours = [learning_rate(schedule, PEAK, step, TOTAL) for step in range(TOTAL + 50)]
    assert ours == pytest.approx(nemo_rates(kind, PEAK, TOTAL + 50, **options), rel=1e-12)


def test_noams_peak_is_nemos_factor_over_the_root_of_width_times_warmup() -> None:
    factor, width = 5.0, 176
    schedule = ScheduleRecipe("noam", warmup=WARMUP, min_lr=0.03)
    peak = factor / (width * WARMUP) ** 0.5
    ours = [learning_rate(schedule, peak, step, None) for step in range(500)]
    nemo = nemo_rates(theirs.NoamAnnealing, factor, 500, d_model=width, min_lr=0.03)
    assert ours == pytest.approx(nemo, rel=1e-12)
    assert ours[-1] == 0.03 and max(ours) == pytest.approx(peak)
