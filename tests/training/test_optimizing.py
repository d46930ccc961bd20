"""Novograd against its algorithm in numpy, parameter groups, and the schedules' shapes."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from auricle.errors import ConfigError, MissingExtra
from auricle.training.optimizing import Novograd, build_optimizer, learning_rate
from auricle.training.recipe import OptimizerRecipe, ScheduleRecipe


def published(weights, gradients, rates, *, betas, eps, decay):
    """Algorithm 1 of arXiv 1905.11286, line by line; one layer, float64."""
    w = np.array(weights, dtype=np.float64)
    v = m = None
    for g, rate in zip(gradients, rates, strict=True):
        g = np.asarray(g, dtype=np.float64)
        if v is None:
            v = np.sum(g**2)
            m = g / (np.sqrt(v) + eps) + decay * w
        else:
            v = betas[1] * v + (1 - betas[1]) * np.sum(g**2)
            m = betas[0] * m + (g / (np.sqrt(v) + eps) + decay * w)
        w = w - rate * m
    return w


@pytest.mark.parametrize(("betas", "decay"), [((0.95, 0.98), 0.0), ((0.8, 0.25), 1e-3)])
def test_novograd_is_the_published_update(betas, decay) -> None:
    torch.manual_seed(0)
    layers = [nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(7))]
    begin = [p.detach().numpy().copy() for p in layers]
    gradients = [[torch.randn_like(p) * 10.0**n for p in layers] for n in (0, -2, 1, -1, 0, 0)]
    rates = [learning_rate(ScheduleRecipe("cosine", 2, 1e-4), 0.05, n, 6) for n in range(6)]
    optimizer = Novograd(layers, betas=betas, weight_decay=decay)
    for row, rate in zip(gradients, rates, strict=True):
        for p, g in zip(layers, row, strict=True):
            p.grad = g.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(layers, row, strict=True))
    for n, p in enumerate(layers):
        rows = [row[n].numpy() for row in gradients]
        expected = published(begin[n], rows, rates, betas=betas, eps=1e-8, decay=decay)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=2e-6, atol=2e-6)


def test_novograd_waits_for_the_first_gradient_that_is_not_zero() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = Novograd([weight], lr=0.1)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(weight, torch.ones(3))
    weight.grad = torch.tensor([3.0, 0.0, 4.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.94, 1.0, 0.92]))


def test_novograd_learns_and_its_state_saves_and_loads() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    inputs, targets = torch.randn(64, 8), torch.randn(64, 1)
    optimizer = build_optimizer(model, OptimizerRecipe("novograd", lr=0.02, betas=(0.9, 0.5)))

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> float:
        for _ in range(count):
            optimizer.zero_grad()
            loss = (model(inputs) - targets).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    first = steps(model, optimizer, 1)
    steps(model, optimizer, 20)
    twin, saved = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    last = steps(model, optimizer, 20)
    assert last < 0.5 * first
    again = build_optimizer(twin, OptimizerRecipe("novograd", lr=0.02, betas=(0.9, 0.5)))
    again.load_state_dict(saved)
    assert steps(twin, again, 20) == last
    for mine, other in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, other)


def _train_sharded(rank: int, meeting: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    sharded = fully_shard(copy.deepcopy(plain), mesh=mesh)
    inputs = torch.randn(8, 6)
    for model in (plain, sharded):
        optimizer = Novograd(model.parameters(), lr=0.05, weight_decay=1e-3)
        for _ in range(5):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    for mine, other in zip(sharded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.full_tensor(), other, rtol=1e-5, atol=1e-6)
    torch.distributed.destroy_process_group()


def test_novograd_of_sharded_weights_takes_the_norm_of_the_whole(tmp_path) -> None:
    """FSDP2 over two processes; a rank that fails makes `spawn` raise."""
    torch.multiprocessing.spawn(_train_sharded, (str(tmp_path / "meeting"),), nprocs=2)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.pos_bias_u = nn.Parameter(torch.zeros(2, 2))
        self.frozen = nn.Parameter(torch.ones(4, 4), requires_grad=False)
        self.tied = self.linear


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(name) -> None:
    net = Net()
    optimizer = build_optimizer(net, OptimizerRecipe(name, lr=0.5, weight_decay=0.1, momentum=0.9))
    decayed, others = optimizer.param_groups
    names = {id(p): n for n, p in net.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == ["embed.weight", "linear.weight"]
    assert {names[id(p)] for p in others["params"]} == {
        "pos_bias_u",
        "linear.bias",
        "norm.weight",
        "norm.bias",
    }
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert decayed["lr"] == others["lr"] == 0.5
    assert optimizer.defaults.get("betas", optimizer.defaults.get("momentum")) == (
        (0.9, 0.98) if name == "adamw" else 0.9
    )


def test_novograd_decays_everything_that_is_trained() -> None:
    net = Net()
    (group,) = build_optimizer(
        net.named_parameters(), OptimizerRecipe("novograd", weight_decay=0.1)
    ).param_groups
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == sum(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": -1.0}, r"optimizer.lr must be 0 or more, got -1.0"),
        ({"lr": math.nan}, r"optimizer.lr must be 0 or more, got nan"),
        ({"betas": (0.9, 1.0)}, r"optimizer.betas must be from 0 to below 1, got 1.0"),
        ({"weight_decay": -0.1}, r"optimizer.weight_decay"),
    ],
)
def test_constants_out_of_range_are_refused(change, said) -> None:
    with pytest.raises(ConfigError, match=said):
        build_optimizer(Net(), replace(OptimizerRecipe(), **change))


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter of the model is trained"):
        build_optimizer(Net().requires_grad_(False), OptimizerRecipe())


def rates(schedule: ScheduleRecipe, total: int | None, count: int, peak: float = 1.0):
    return [learning_rate(schedule, peak, step, total) for step in range(count)]


def test_every_schedule_rises_to_its_peak_and_ends_low() -> None:
    for name in ("cosine", "linear", "wsd"):
        got = rates(ScheduleRecipe(name, warmup=10, min_lr=0.01), 100, 130)
        assert got[10] == max(got) == 1.0
        assert got[:11] == pytest.approx([(n + 1) / 11 for n in range(11)])
        assert all(a >= b for a, b in itertools.pairwise(got[10:]))
        assert got[100:] == [0.01] * 30
        assert got[99] > 0.01


def test_the_middle_of_each_fall() -> None:
    plain = ScheduleRecipe(warmup=0, min_lr=0.0)
    assert learning_rate(plain, 2.0, 50, 100) == pytest.approx(1.0)
    assert learning_rate(plain, 2.0, 25, 100) == pytest.approx(1 + math.sqrt(0.5))
    assert learning_rate(replace(plain, name="linear"), 2.0, 25, 100) == pytest.approx(1.5)
    wsd = replace(plain, name="wsd", decay=0.2)
    assert rates(wsd, 100, 81, 2.0) == [2.0] * 81
    assert learning_rate(wsd, 2.0, 90, 100) == pytest.approx(1.0)
    assert rates(replace(wsd, decay=0.0), 10, 12) == [1.0] * 10 + [1.0, 0.0]


def test_noam_and_constant_need_no_end() -> None:
    noam = ScheduleRecipe("noam", warmup=100, min_lr=0.2)
    assert learning_rate(noam, 1.0, 100, None) == max(rates(noam, None, 500)) == 1.0
    assert learning_rate(noam, 1.0, 50, None) == 0.5
    assert learning_rate(noam, 1.0, 400, None) == pytest.approx(0.5)
    assert learning_rate(noam, 1.0, 100_000, None) == 0.2
    assert rates(replace(noam, warmup=0), None, 2) == [1.0, 1.0]
    constant = ScheduleRecipe("constant", warmup=3)
    assert rates(constant, None, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_run_shorter_than_its_warmup_rises_to_its_end() -> None:
    for name in ("constant", "noam", "cosine", "linear", "wsd"):
        got = rates(ScheduleRecipe(name, warmup=1000), 10, 10)
        assert got == sorted(got)
        assert 0 < got[0] <= got[-1] <= 0.01
    assert rates(ScheduleRecipe(warmup=5, min_lr=0.1), 5, 8)[5:] == [1.0, 0.1, 0.1]


def test_a_fall_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule.name=cosine .* set train.steps"):
        learning_rate(ScheduleRecipe(warmup=0), 1.0, 3, None)


def test_each_group_has_its_factor_of_the_rate() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(net, OptimizerRecipe(lr=0.1), {"0.weight": 0.5, "0.bias": 0.5})
    found = [(g["factor"], g["lr"], g["weight_decay"] > 0) for g in optimizer.param_groups]
    assert found == [(0.5, 0.05, True), (1.0, 0.1, True), (0.5, 0.05, False), (1.0, 0.1, False)]


def test_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = OptimizerRecipe(name="adamw8bit")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="adamw8bit needs an NVIDIA GPU: take adamw"):
        build_optimizer(nn.Linear(2, 2), recipe)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingExtra, match=r"pip install 'auricle\[bnb\]'"):
        build_optimizer(nn.Linear(2, 2), recipe)
