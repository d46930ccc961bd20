"""What is said beforehand of memory, against what is kept."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from auricle.checkpoints import build, load
from auricle.training import estimate as module
from auricle.training.adapting import adapt
from auricle.training.estimate import Estimate, clip_of, estimate
from auricle.training.objective import Objective
from auricle.training.recipe import AdaptRecipe, LoraRecipe, LossRecipe, OptimizerRecipe, Recipe
from auricle.training.recomputing import recompute_layers
from tests.checkpoints.goldens import nemo

CPU = torch.device("cpu")


def estimated(
    name: str, *, seconds: float = 12.0, lora: bool = False, twice: bool = False
) -> tuple[Estimate, Objective]:
    model = build(load(nemo(name))).train()
    if lora:
        adapt(model, AdaptRecipe(lora=LoraRecipe(rank=2)), seed=0)
    if twice:
        recompute_layers(model)
    objective, recipe = Objective(model, LossRecipe()), Recipe("x")
    found = estimate(
        objective, clip_of(model.config, CPU), recipe, longest=seconds, autocast=nullcontext()
    )
    return found, objective


@pytest.mark.parametrize(
    "name", ["fastconformer_ctc", "hybrid_tdt_ctc", "citrinet", "conformer_rnnt"]
)
def test_activations_of_a_longer_clip(name: str) -> None:
    found, objective = estimated(name)
    inputs = clip_of(objective.model.config, CPU)(12.0)
    kept = module._kept_bytes(objective, inputs)
    assert found.kept(12.0) == pytest.approx(kept, rel=0.15)


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
    estimate(objective, clip_of(model.config, CPU), Recipe("x"), longest=9, autocast=nullcontext())
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
