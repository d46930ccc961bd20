"""What of a model moves: frozen parts, rates by layer, adapters."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from auricle import checkpoints
from auricle.checkpoints import build, load
from auricle.checkpoints.adapters import load_adapter, merged
from auricle.errors import ConfigError
from auricle.models.asr import ASR
from auricle.training import plots
from auricle.training.adapting import adapt, lora_targets, rates, trained
from auricle.training.loop import train
from auricle.training.objective import Objective
from auricle.training.optimizing import build_optimizer
from auricle.training.progress import Silent
from auricle.training.recipe import (
    AdaptRecipe,
    LoraRecipe,
    LossRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    TokenizerRecipe,
)
from auricle.training.starting import trainable
from tests.checkpoints.goldens import GOLDEN, nemo
from tests.training.test_loop_resume import assert_same_run
from tests.training.tiny import SMALLER, Hearing, differing, metrics, state, tiny, tuned

ATTENTION = LoraRecipe(targets=("*.self_attn.*",), rank=2)
EVERYWHERE = LoraRecipe(targets=("self_attn", "*.feed_forward*", "ctc", "joint"), rank=2)
SHORT = (*SMALLER, "train.steps=4", "train.validate_every=2", "train.save_every=2")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda *paths: [])


def golden(name: str = "hybrid_tdt_ctc") -> ASR:
    return build(load(nemo(name))).train()


def moving(model: ASR) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def losses(model: ASR) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    features = torch.randn(2, model.config.features.n_mels, 200)
    tokens = torch.randint(0, model.config.vocab_size, (2, 5))
    objective = Objective(model, LossRecipe(omega=0.0))
    lengths = torch.tensor([5, 3])
    found: dict[str, torch.Tensor] = objective(features, torch.tensor([200, 150]), tokens, lengths)
    return found


# Frozen parts.


def test_frozen_parts_have_no_gradient_and_no_state() -> None:
    model = golden()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    recipe = AdaptRecipe(freeze=("encoder", "predictor"), unfreeze=("norm", "*.1.self_attn.q_proj"))
    said = adapt(model, recipe, seed=0)
    assert said.startswith("frozen: encoder.layers.*.conv")
    optimizer = build_optimizer(model, OptimizerRecipe(weight_decay=0.5, lr=0.1))
    losses(model)["loss"].backward()
    optimizer.step()
    free = {n for n in before if n.startswith(("ctc.", "joint.")) or "norm" in n}
    free |= {f"encoder.layers.1.self_attn.linear_q.{leaf}" for leaf in ("weight", "bias")}
    assert moving(model) == free
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in free)
        assert (parameter in optimizer.state) == (name in free)
        still = parameter.grad is None or (not parameter.grad.any() and parameter.ndim == 1)
        assert torch.equal(parameter, before[name]) == still


@pytest.mark.parametrize(
    "recipe, complaint",
    [
        (AdaptRecipe(freeze=("encodr",)), "adapt.freeze has 'encodr', .* near are encoder"),
        (AdaptRecipe(freeze=("encoder",), unfreeze=("nrm",)), "adapt.unfreeze has 'nrm'"),
        (AdaptRecipe(freeze=("*",)), "keeps all of the model"),
        (AdaptRecipe(lora=LoraRecipe(targets=("*.slf_attn.*",))), "near are .*self_attn"),
        (AdaptRecipe(lora=replace(ATTENTION, exclude=("x",))), "adapt.lora.exclude has 'x'"),
        (AdaptRecipe(lora=replace(ATTENTION, exclude=("self_attn",))), "leaves no layer"),
        (AdaptRecipe(lora=LoraRecipe(targets=("ctc", "predictor.lstm"))), "is an LSTM and can"),
        (AdaptRecipe(lora=LoraRecipe(targets=("*.depthwise_conv",))), "is a depthwise convolution"),
        (AdaptRecipe(lora=LoraRecipe(targets=("*.norm_out",))), "norm_out is a norm and can"),
        (AdaptRecipe(lora=LoraRecipe(targets=("decoder.embedding",))), "is an embedding"),
    ],
)
def test_wrong_patterns(recipe: AdaptRecipe, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        adapt(golden(), recipe, seed=0)


# Learning rates.


def test_each_layer_has_the_rate_of_the_one_above_times_the_decay() -> None:
    model = golden()
    lr = {"ctc": 3.0, "encoder.layers.0": 10.0, "pre_encode": 1.0}
    found = rates(model, AdaptRecipe(layer_decay=0.5, lr=lr))
    assert "joint.out.weight" not in found
    assert found["ctc.weight"] == 3.0
    top = len(model.encoder.layers) - 1  # type: ignore[union-attr, arg-type]
    assert f"encoder.layers.{top}.norm_out.weight" not in found
    assert found["encoder.layers.0.norm_out.weight"] == 10 * 0.5**top
    assert found["encoder.pre_encode.out.weight"] == 0.5 ** (top + 1)
    optimizer = build_optimizer(model, OptimizerRecipe(lr=0.1), found)
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rate[parameter] == pytest.approx(0.1 * found.get(name, 1.0))


def test_rates_of_adapters() -> None:
    model = golden()
    recipe = AdaptRecipe(lora=ATTENTION, layer_decay=0.5, lr={"*.lora_B.*": 4.0, "q_proj": 2.0})
    adapt(model, recipe, seed=0)
    found, layer = rates(model, recipe), "encoder.layers.1.self_attn"
    assert set(found) <= moving(model)
    assert found[f"{layer}.linear_k.lora_B.default.weight"] == 4.0
    assert found[f"{layer}.linear_q.lora_B.default.weight"] == 2.0
    assert found["encoder.layers.0.self_attn.linear_k.lora_A.default.weight"] == 0.5


def test_rates_move_as_much_as_they_say(tmp_path: Path) -> None:
    """By the loop: plain SGD, one step."""
    sgd = (*SMALLER, "optimizer={name: sgd, lr: 0.1}", "train.clip=null", "train.steps=1")
    sgd += ("train.save_every=1", "data.validation=[]", "schedule.warmup=0")
    moved = []
    for number, recipe in enumerate((None, AdaptRecipe(lr={"ctc": 0.25}))):
        run, tuning = tmp_path / str(number), tuned(tmp_path, *sgd, adapt=recipe)
        train(tuning, run)
        before = load(Path(tuning.init_from or "")).tensors
        after = checkpoints.load(run).tensors
        moved.append({name: after[name] - before[name] for name in before})
    assert_close(moved[1]["ctc.weight"], 0.25 * moved[0]["ctc.weight"], rtol=1e-3, atol=1e-7)
    assert torch.equal(
        moved[1]["encoder.pre_encode.out.bias"], moved[0]["encoder.pre_encode.out.bias"]
    )


# Adapters.


def test_targets_are_linear_layers_by_their_exact_names() -> None:
    model = golden()
    found = lora_targets(model, replace(EVERYWHERE, exclude=("*.0.*", "joint.pred")))
    assert {"ctc", "joint.enc", "joint.out"} <= set(found)
    assert "joint.pred" not in found
    assert not any(".0." in name for name in found)
    everything = lora_targets(model, LoraRecipe(targets=("*",)))
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert list(everything) == linear


@pytest.mark.parametrize("name", ["hybrid_tdt_ctc", "hybrid_rnnt_ctc"])
@pytest.mark.parametrize("dora", [False, True])
def test_merged_equals_unmerged_and_only_adapters_move(name: str, dora: bool) -> None:
    start = load(nemo(name))
    model = build(start).train()
    lora = replace(EVERYWHERE, dora=dora)
    recipe = Recipe("x", init_from="a", tokenizer=None, adapt=AdaptRecipe(lora=lora))
    assert recipe.adapt is not None
    adapt(model, recipe.adapt, seed=0)
    assert all(".lora_" in name for name in moving(model))
    optimizer = build_optimizer(model, OptimizerRecipe(lr=0.05))
    for _ in range(2):
        losses(model)["loss"].backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    made = trained(start, model.state_dict(), recipe)
    assert made.adapter is not None
    base = {n.replace(".base_layer", ""): p for n, p in model.state_dict().items()}
    assert all(torch.equal(base[n], tensor) for n, tensor in start.tensors.items())
    before, after = build(start), build(made.checkpoint)
    samples = 0.1 * torch.randn(1, 16000)
    with torch.no_grad():
        ours, theirs, untouched = (
            m.encode(samples, torch.tensor([16000]))[0] for m in (after, model.eval(), before)
        )
        assert model.ctc is not None and after.ctc is not None
        logits = model.ctc(theirs)
        assert (after.ctc(ours) - logits).abs().max() < 1e-5 * logits.abs().max()
        assert (ours - untouched).abs().max() > 1e-2
        for key in ("ctc", start.config.heads[-1]):
            assert_close(losses(after)[key], losses(model)[key], rtol=1e-5, atol=1e-4)


def test_dropout_of_an_adapter_at_the_joints_end() -> None:
    """Which the loss computes twice: its gradient is that of its value."""
    model = golden("parakeet_tdt").eval().requires_grad_(False)
    lora = LoraRecipe(targets=("joint.out",), dropout=0.5)
    said = adapt(model, AdaptRecipe(lora=lora), seed=0)
    assert said.endswith("; joint.out goes without dropout, as the loss computes it twice")
    layer = model.get_submodule("joint.out")
    layer.train()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.requires_grad else None
    weight = layer.get_parameter("lora_B.default.weight")
    loss = losses_of(model)
    (slope,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        weight += 1e-3 * slope / slope.norm()
        assert float(losses_of(model) - loss) == pytest.approx(1e-3 * float(slope.norm()), rel=0.05)


def losses_of(model: ASR) -> torch.Tensor:
    return losses(model)["loss"]


def test_a_training_of_adapters(tmp_path: Path) -> None:
    """Small saves, a merged model, the adapter beside it, and what was heard before and after."""
    recipe = tuned(tmp_path, *SHORT, heads="[ctc, tdt]", adapt=AdaptRecipe(lora=EVERYWHERE))
    hearing, run = Hearing(), tmp_path / "run"
    train(recipe, run, progress=hearing)
    assert hearing.lines[0].startswith("LoRA of rank 2 on ")
    saved, start = state(run, 4)["weights"], load(Path(recipe.init_from or ""))
    parameters = {n for n, _ in build(start).named_parameters()}
    assert all(".lora_" in name for name in saved if name not in start.tensors)
    assert not parameters & {name.replace(".base_layer", "") for name in saved}
    model = checkpoints.load(run)
    adapter = load_adapter(run, model.config)
    assert differing(dict(merged(start, adapter).tensors), dict(model.tensors)) == []
    assert len(adapter.tensors) == 13
    (row, *others) = metrics(run, "validation")
    assert (row["step"], row["before"]) == (0, 1)
    assert [other["step"] for other in others] == [2, 4]
    for name in ("before", "best"):
        assert len((run / "heard" / f"{name}.jsonl").read_text().splitlines()) == 8


def test_adapters_go_on_bit_for_bit(tmp_path: Path) -> None:
    lora = replace(EVERYWHERE, dropout=0.2, dora=True)
    changes = (*SHORT, "train.ema=0.9", "model.encoder.dropout=0.1")
    recipe = tuned(tmp_path, *changes, heads="[ctc, tdt]", adapt=AdaptRecipe(lora=lora))
    train(recipe, tmp_path / "whole")
    train(replace(recipe, train=replace(recipe.train, steps=2)), tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole", 4)
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_going_on_from_another_base_is_refused(tmp_path: Path) -> None:
    recipe = tuned(tmp_path, *SHORT, adapt=AdaptRecipe(freeze=("encoder",)))
    train(replace(recipe, train=replace(recipe.train, steps=2)), tmp_path / "run")
    saved = state(tmp_path / "run", 2)["weights"]
    assert {name for name in saved if not name.startswith(("ctc.", "features."))} == set()
    base = Path(recipe.init_from or "")
    start = load(base)
    other = {name: tensor + 1 for name, tensor in start.tensors.items()}
    checkpoints.save(replace(start, tensors=other), base)
    with pytest.raises(ConfigError, match=r"is not the model that the run in .* began with"):
        train(recipe, tmp_path / "run", resume=True)


# A new tokenizer.


def test_a_new_tokenizer(tmp_path: Path) -> None:
    """With LoRA too what is made anew moves, and then the adapter alone is not all there is."""
    new = TokenizerRecipe(kind="bpe", size=20)
    first = tuned(tmp_path, *SHORT, heads="[ctc, tdt]", tokenizer=new)
    hearing = Hearing()
    train(first, tmp_path / "full", progress=hearing)
    assert re.match(r"new tokenizer: \d+ of its 20 pieces are the model's too", hearing.lines[0])
    assert len(checkpoints.load(tmp_path / "full").tokenizer.pieces) == 20
    recipe = replace(first, adapt=AdaptRecipe(lora=ATTENTION))
    train(recipe, tmp_path / "lora")
    saved = state(tmp_path / "lora", 4)["weights"]
    assert {"ctc.weight", "predictor.embed.weight", "joint.out.bias"} <= saved.keys()
    assert "joint.enc.weight" not in saved
    assert not (tmp_path / "lora" / "adapter").exists()
    with pytest.raises(ConfigError, match=r"freeze keeps ctc\.bias, which the new tokenizer"):
        train(replace(first, adapt=AdaptRecipe(freeze=("ctc",))), tmp_path / "frozen")


def test_what_moves_has_memory_of_its_own(tmp_path: Path) -> None:
    recipe = tuned(tmp_path, *SMALLER, adapt=AdaptRecipe(freeze=("encoder",)))
    start = load(Path(recipe.init_from or ""))
    model, _ = trainable(recipe, start, Silent())
    for name, tensor in model.state_dict().items():
        shared = tensor.data_ptr() == start.tensors[name].data_ptr()
        assert shared == (name.startswith("encoder.") and "running" not in name)


# Every kind of model.

HF = GOLDEN / "huggingface"
KINDS = {
    "streaming_tdt": (nemo("streaming_tdt"), ("self_attn", "joint")),
    "prompt_hybrid": (nemo("prompt_hybrid"), ("self_attn", "ctc", "prompt_kernel")),
    "quartznet_char": (nemo("quartznet_char"), ("ctc",)),
    "parakeet_ctc_hf": (HF / "parakeet_ctc_hf", ("*.q_proj", "ctc_head")),
    "parakeet_rnnt_hf": (HF / "parakeet_rnnt_hf", ("*.o_proj", "joint.head")),
    "parakeet_tdt_hf": (HF / "parakeet_tdt_hf", ("encoder_projector", "decoder.decoder_projector")),
    "nemotron_streaming_hf": (HF / "nemotron_streaming_hf", ("*.relative_k_proj", "joint")),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_step_of_every_kind_of_checkpoint(tmp_path: Path, name: str) -> None:
    """And the adapter beside its base is the model that was made."""
    path, targets = KINDS[name]
    recipe = tiny(tmp_path, "train.steps=1", "data.batch_seconds=3", "optimizer.lr=0.1", count=2)
    spoken = (replace(recipe.data.train[0], language="en-US" if "prompt" in name else None),)
    recipe = replace(
        recipe,
        init_from=str(path),
        model=ModelRecipe(),
        tokenizer=None,
        data=replace(recipe.data, train=spoken, validation=spoken),
        adapt=AdaptRecipe(lora=LoraRecipe(targets=targets, rank=2)),
    )
    train(recipe, tmp_path / "run")
    base, made = load(path), load(tmp_path / "run")
    adapter = load_adapter(tmp_path / "run", base.config, blank=base.tokenizer.spec.get("blank"))
    assert differing(dict(merged(base, adapter).tensors), dict(made.tensors)) == []
    moved = {n for n in base.tensors if not torch.equal(made.tensors[n], base.tensors[n])}
    assert moved == {f"{layer}.weight" for layer in adapter.tensors}
