"""The packaged recipes: short, whole, buildable, and each with a twin that is small."""

from __future__ import annotations

import re
from importlib import resources

import pytest
import torch
import yaml

from auricle.models.asr import ASR
from auricle.models.jasper import JasperConfig
from auricle.training.architecture import model_config
from auricle.training.objective import Objective
from auricle.training.reading import load_recipe, recipe_names
from auricle.training.recipe import Recipe
from auricle.training.spec_augment import SpecAugment

PUBLISHED = (
    "citrinet_256",
    "citrinet_512",
    "citrinet_1024",
    "quartznet_15x5",
    "fastconformer_ctc_large",
    "fastconformer_rnnt_large",
    "fastconformer_tdt_large",
    "fastconformer_hybrid_large",
    "fastconformer_streaming_hybrid_large",
)


def built(recipe: Recipe) -> ASR:
    with torch.device("meta"):
        return ASR(model_config(recipe.model, recipe.tokenizer.size))


def text(name: str) -> str:
    return resources.files("auricle").joinpath("recipes", f"{name}.yaml").read_text("utf-8")


def test_all_of_them_are_there() -> None:
    assert {*PUBLISHED, *(f"{name}_tiny" for name in PUBLISHED)} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_short_and_whole(name: str) -> None:
    lines = text(name).splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("# ")  # what it is
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.data.text is not None
    assert recipe.data.train
    assert recipe.data.validation
    assert recipe.train.steps or recipe.train.epochs
    if recipe.init_from is None:  # else the model is not in the recipe
        assert set(built(recipe).heads) == set(recipe.model.heads)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_that_are_said(name: str) -> None:
    size = sum(weight.numel() for weight in built(load_recipe(name)).parameters()) / 1e6
    for said in re.findall(r": (\d+)M parameters", text(name).splitlines()[0]):
        assert abs(int(said) - size) < 0.51


@pytest.mark.parametrize("name", PUBLISHED)
def test_twins_have_the_structure_in_small(name: str) -> None:
    assert yaml.safe_load(text(f"{name}_tiny"))["extends"] == name
    large, tiny = load_recipe(name), load_recipe(f"{name}_tiny")
    ours, theirs = (built(recipe) for recipe in (tiny, large))
    assert ours.heads == theirs.heads
    assert ours.config.default_head == theirs.config.default_head
    assert ours.seconds_per_step == theirs.seconds_per_step
    assert ours.config.features == theirs.config.features
    assert sum(weight.numel() for weight in ours.parameters()) < 1.5e6
    layers = [re.sub(r"\d+", "#", key) for key in ours.state_dict()]
    assert set(layers) == {re.sub(r"\d+", "#", key) for key in theirs.state_dict()}
    assert tiny.optimizer.name == large.optimizer.name
    assert tiny.schedule.name == large.schedule.name
    assert tiny.train.steps is not None
    assert tiny.train.steps <= 2000
    assert tiny.train.precision == "fp32"


def test_the_published_citrinet() -> None:
    """Majumdar et al. 2021, section 4, and the model card of stt_en_citrinet_1024_ls."""
    recipe = load_recipe("citrinet_1024")
    assert (recipe.tokenizer.kind, recipe.tokenizer.size) == ("unigram", 256)
    assert recipe.model.features.n_mels == 80
    spec = recipe.augment.spec
    assert spec is not None
    assert (spec.freq_masks, spec.freq_width, spec.time_masks, spec.time_width) == (2, 27, 10, 0.05)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.betas) == ("novograd", 0.05, (0.8, 0.25))
    assert optimizer.weight_decay == 0.001
    assert recipe.schedule.name == "cosine"
    config = built(recipe).encoder.config
    assert isinstance(config, JasperConfig)
    assert {block.kernel_size_factor for block in config.blocks[1:]} == {0.25}


def test_the_streaming_recipe_draws_several_lookaheads() -> None:
    for name in (
        "fastconformer_streaming_hybrid_large",
        "fastconformer_streaming_hybrid_large_tiny",
    ):
        config = built(load_recipe(name)).encoder.config
        assert config.att_context_size == ((70, 13), (70, 6), (70, 1), (70, 0))
        assert config.att_context_probs == (0.25,) * 4


@pytest.mark.parametrize("name", [f"{name}_tiny" for name in PUBLISHED])
def test_a_twin_takes_a_step(name: str) -> None:
    """Forward, losses and gradients for every weight, on noise."""
    recipe = load_recipe(name)
    spec = recipe.augment.spec
    torch.manual_seed(0)
    model = ASR(model_config(recipe.model, recipe.tokenizer.size)).train()
    masks = SpecAugment(spec) if spec else None
    objective = Objective(model, recipe.loss, masks).train()
    frames = torch.tensor([300, 220])
    features = torch.randn(2, recipe.model.features.n_mels, 300)
    tokens = torch.randint(1, recipe.tokenizer.size, (2, 8))
    losses = objective(features, frames, tokens, torch.tensor([8, 5]), None)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert losses["loss"] > 0
    still = [key for key, weight in model.named_parameters() if weight.grad is None]
    assert still == []
