"""What is said beforehand of memory, against what is kept."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch

from auricle.checkpoints import build, load
from auricle.training import estimate as module
from auricle.training.adapting import adapt
from auricle.training.estimate import Estimate, Largest, estimate, noise_for
from auricle.training.objective import Objective
from auricle.training.recipe import AdaptRecipe, LoraRecipe, LossRecipe, OptimizerRecipe, Recipe
from auricle.training.recomputing import layers_of, recompute_layers
from tests.checkpoints.goldens import nemo


def estimated(
    name: str, *, seconds: float = 12.0, lora: bool = False, twice: bool = False
) -> tuple[Estimate, Objective]:
    model = build(load(nemo(name))).train()
    if lora:
        adapt(model, AdaptRecipe(lora=LoraRecipe(rank=2)), seed=0)
    if twice:
        recompute_layers(layers_of(model))
    objective = Objective(model, LossRecipe())
    return estimate(
        objective,
        partial(noise_for, model.config),
        Recipe("x"),
        Largest(seconds, 10 * seconds),
        autocast=nullcontext(),
    ), objective


@pytest.mark.parametrize(
    "name", ["fastconformer_ctc", "hybrid_tdt_ctc", "citrinet", "conformer_rnnt"]
)
def test_activations_of_a_longer_clip(name: str) -> None:
    found, objective = estimated(name)
    inputs = noise_for(objective.model.config, 1, 12.0)
    kept = module._kept_bytes(objective, inputs)
    assert found.kept(12.0) + found.fixed == pytest.approx(kept, rel=0.15)
    assert found.fixed < 0.03 * kept


class Wide(torch.nn.Module):
    """A large layer that hears little."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(512, 512)

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(features).square().sum()}


def test_copies_of_weights_in_half_precision_are_kept_once() -> None:
    found = estimate(
        Wide(),
        lambda clips, seconds: (torch.randn(clips, int(seconds), 512, requires_grad=True),),
        Recipe("x"),
        Largest(10.0, 100.0),
        autocast=torch.autocast("cpu", torch.bfloat16),
    )
    assert found.fixed == pytest.approx(2 * 512 * 512, rel=0.01)
    assert found.kept(100.0) < 100 * 512 * 4 * 3


def test_a_clip_of_a_window_takes_as_much_however_short_it_is() -> None:
    found = estimate(
        Wide(),
        lambda clips, seconds: (torch.randn(clips, 4, 512),),
        Recipe("x"),
        Largest(8.4, 8.4 * 3, windows=True),
        autocast=nullcontext(),
    )
    each = found.kept(8.4)
    assert found.kept(8.4 * 3) == pytest.approx(3 * each)
    assert "activations of a batch of 3 windows of 8.4 s" in found.text("adamw")
    assert found.free is None or "data.max_batch up to about" in found.text("adamw")


def test_adapters_and_layers_computed_twice_take_less() -> None:
    whole, _ = estimated("fastconformer_ctc")
    lora, _ = estimated("fastconformer_ctc", lora=True)
    twice, _ = estimated("fastconformer_ctc", twice=True)
    assert lora.trained < whole.trained == whole.parameters < lora.parameters
    assert lora.movement == 12 * lora.trained
    assert twice.kept(12.0) < 0.8 * whole.kept(12.0)


def test_nothing_is_changed() -> None:
    model = build(load(nemo("fastconformer_ctc"))).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    objective = Objective(model, LossRecipe())
    noise = partial(noise_for, model.config)
    estimate(objective, noise, Recipe("x"), Largest(9, 90), autocast=nullcontext())
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


GIB = 2**30
ROOMY = Estimate(
    parameters=600_000_000,
    trained=6_000_000,
    weights=2_400_000_000,
    movement=72_000_000,
    growth=(0.02 * GIB, 0.001 * GIB),
    longest=20.0,
    batch_seconds=120.0,
    workspace=0,
    free=8 * GIB,
)


def test_what_is_said() -> None:
    assert ROOMY.kept(120.0) == pytest.approx(4.8 * GIB)
    assert ROOMY.budget == 148
    said = ROOMY.text("adamw")
    assert "600.0 M parameters (2.24 GiB), of which 6.0 M move (1 %)" in said
    assert said.endswith("8.00 GiB are free: data.batch_seconds up to about 148 should fit")
    tight = replace(ROOMY, batch_seconds=200.0)
    assert "TOO LITTLE, data.batch_seconds up to about 148" in tight.text("adamw")
    assert "not even one such clip may fit" in replace(ROOMY, free=GIB).text("adamw")
    assert "free" not in replace(ROOMY, free=None).text("adamw")


def test_state_of_optimisers() -> None:
    sizes = {n: module._state(OptimizerRecipe(name=n)) for n in ("adamw", "adamw8bit", "sgd")}
    assert sizes == {"adamw": 8.0, "adamw8bit": 2.0, "sgd": 0.0}
    assert module._state(OptimizerRecipe(name="sgd", momentum=0.9)) == 4.0
