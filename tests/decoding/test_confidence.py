"""Confidence measures at the points where their value is known."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from auricle.decoding import Greedy
from auricle.decoding.confidence import Measure, entropy, gibbs, max_prob, mean, renyi, tsallis
from auricle.errors import ConfigError

KINDS = ("gibbs", "tsallis", "renyi")
NORMS = ("lin", "exp")
ALL: dict[str, Measure] = {
    f"{kind} {norm} {alpha}": entropy(kind, alpha=alpha, norm=norm)  # type: ignore[arg-type]
    for kind in KINDS
    for norm in NORMS
    for alpha in (0.5, 1.0)
} | {"max_prob": max_prob, "max_prob 0.5": lambda x: max_prob(x, alpha=0.5)}


@pytest.mark.parametrize("name", ALL)
def test_chance_is_nothing_and_certainty_is_one(name: str) -> None:
    uniform = torch.full((1, 9), -math.log(9), dtype=torch.float64)
    certain = torch.full((1, 9), -1e4, dtype=torch.float64)
    certain[0, 3] = 0.0
    both = ALL[name](torch.cat([uniform, certain]))
    assert both.tolist() == pytest.approx([0.0, 1.0], abs=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_more_certain_is_more(name: str) -> None:
    logits = torch.tensor([1.0, 0.5, 0.2, -1.0], dtype=torch.float64)
    sharper = torch.stack([(logits * k).log_softmax(dim=0) for k in (0.5, 1, 2, 4, 8)])
    values = ALL[name](sharper).tolist()
    assert values == sorted(values)
    assert all(0 < value < 1 for value in values)


def test_closed_forms_for_a_coin() -> None:
    """p = (3/4, 1/4)."""
    coin = torch.tensor([0.75, 0.25], dtype=torch.float64).log()
    nats = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(max_prob(coin)) == pytest.approx(0.5)
    assert float(gibbs(coin)) == pytest.approx(1 - nats / math.log(2))
    assert float(gibbs(coin, norm="exp")) == pytest.approx(2 * math.exp(-nats) - 1)
    assert float(tsallis(coin, alpha=2, norm="lin")) == pytest.approx(
        1 - (1 - 0.75**2 - 0.25**2) / 0.5
    )
    assert float(renyi(coin, alpha=2)) == pytest.approx(1 + math.log2(0.75**2 + 0.25**2))
    assert float(renyi(coin, alpha=2, norm="exp")) == pytest.approx((10 / 16) * 2 - 1)
    assert float(max_prob(coin, alpha=2)) == pytest.approx((0.75**2 * 4 - 1) / 3)


@pytest.mark.parametrize("measure", [tsallis, renyi])
def test_alpha_one_is_shannons(measure: Measure) -> None:
    noise = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = noise.log_softmax(dim=-1)
    near = measure(x, alpha=1 + 1e-5, norm="lin")  # type: ignore[call-arg]
    exact = measure(x, alpha=1, norm="lin")  # type: ignore[call-arg]
    assert exact.tolist() == pytest.approx(near.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"kind": "shannon"}, {"norm": "log"}, {"alpha": 0.0}, {"alpha": -1.0}]
)
def test_names_that_do_not_exist(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="entropy"):
        entropy(**wrong)  # type: ignore[arg-type]


def test_greedy_options() -> None:
    assert Greedy().max_symbols is None and Greedy().measure is max_prob
    with pytest.raises(ConfigError, match="max_symbols=0"):
        Greedy(max_symbols=0)


def test_options_come_without_torch() -> None:
    program = "import auricle.decoding, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_mean() -> None:
    assert mean([0.5, None, 1.0]) == pytest.approx(0.75)
    assert mean([None]) is None
    assert mean([]) is None
