"""What a step learns is the same however it is split: into batches, over processes, into shards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, DistributedType

from auricle.errors import ConfigError
from auricle.training import plots, ranks
from auricle.training.loop import train
from auricle.training.reading import to_yaml
from auricle.training.recipe import AdaptRecipe, LoraRecipe, Recipe
from tests.patience import PATIENCE
from tests.training.tiny import SMALLER, differing, metrics, saved, state, tiny, tuned
from tests.training.together import train_together

HEADS = ["[ctc]", "[rnnt]", "[tdt]", "[ctc, rnnt]", "[ctc, tdt]"]
REDUCTIONS = ["mean_batch", "mean_volume"]
NO_DITHER = "model.features.dither=0.0"  # which is drawn anew for every batch
GRADIENT = (
    *SMALLER[:2],
    NO_DITHER,
    "data.validation=[]",
    "data.buckets=1",
    "data.batch_seconds=1000",
    "optimizer={name: sgd, lr: 0.05}",
    "schedule={name: constant, warmup: 0}",
    "train.clip=null",
    "train.steps=2",
    "train.save_every=1",
)
BATCH_NORM = "model.encoder.conv_norm_type=batch_norm"
FROZEN = "train.freeze_batch_norm=true"
ADAPTED = {  # what of a model moves, with a BatchNorm that is frozen by default
    "lora": AdaptRecipe(lora=LoraRecipe(targets=("self_attn", "*.feed_forward*", "ctc"), rank=2)),
    "partly": AdaptRecipe(freeze=("encoder",), unfreeze=("norm", "*.linear_q"), lr={"ctc": 0.5}),
    "twice": None,  # all of it, the layers computed twice
}
PARTS = {  # of the 8 clips of a step: how many batches
    "one": ("data.max_batch=8", "train.accumulate=1"),
    "two": ("data.max_batch=4", "train.accumulate=2"),
    "four": ("data.max_batch=2", "train.accumulate=4"),
    "ranks": ("data.max_batch=2", "train.accumulate=2"),  # of two processes
}
LONGER = (
    *SMALLER,
    NO_DITHER,
    "schedule.warmup=0",
    "train.ema=0.9",
    "train.validate_every=2",
    "train.save_every=2",
    "train.steps=4",
)


@pytest.fixture(autouse=True, scope="module")
def undrawn() -> Iterator[None]:
    """Most of the time would go into plots, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda *paths: [])
        yield


def gradient(run: Path) -> torch.Tensor:
    """Of the second step, all in one row: SGD moves the weights by it and by nothing else."""
    first, second = state(run, 1)["weights"], state(run, 2)["weights"]
    moved = [(second[n] - first[n]).flatten() for n in second if second[n].is_floating_point()]
    return torch.cat(moved).double()


def cases(folder: Path) -> list[tuple[str, Recipe, Path]]:
    """Every way of splitting for every loss: its name, the recipe, and the run."""
    found = []
    for part, sizes in PARTS.items():
        for heads in HEADS:
            for reduction in REDUCTIONS:
                changes = (*GRADIENT, f"loss.reduction={reduction}", *sizes)
                run = folder / f"{heads}-{reduction}-{part}"
                found.append((part, tiny(folder, *changes, heads=heads), run))
        for name, changes in {"frozen": (BATCH_NORM, FROZEN), "live": (BATCH_NORM,)}.items():
            recipe = tiny(folder, *GRADIENT, *changes, *sizes)
            found.append((part, recipe, folder / f"{name}-{part}"))
        for name, adapt in ADAPTED.items():
            changes = (*GRADIENT, BATCH_NORM, *sizes)
            recipe = tuned(folder, *changes, heads="[ctc, rnnt]", adapt=adapt)
            again = replace(recipe.train, gradient_checkpointing=adapt is None)
            found.append((part, replace(recipe, train=again), folder / f"{name}-{part}"))
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of `cases`, and `longer`, on two processes, beside `longer-one`."""
    folder = tmp_path_factory.mktemp("split")
    every, longer = cases(folder), tiny(folder, *LONGER, heads="[ctc, rnnt]")
    ours = [(recipe, run) for part, recipe, run in every if part == "ranks"]
    train_together([*ours, (longer, folder / "longer")])
    for part, recipe, run in every:
        if part != "ranks":
            train(recipe, run)
    train(tiny(folder, *LONGER, "train.accumulate=2", heads="[ctc, rnnt]"), folder / "longer-one")
    return folder


@pytest.mark.parametrize(
    "case", [*(f"{h}-{r}" for h in HEADS for r in REDUCTIONS), "frozen", *ADAPTED]
)
def test_gradients_are_those_of_one_batch(runs: Path, case: str) -> None:
    right = gradient(runs / f"{case}-one")
    for part in ("two", "four", "ranks"):
        assert (gradient(runs / f"{case}-{part}") - right).norm() < 1e-5 * right.norm()


@pytest.mark.parametrize("case", ADAPTED)
def test_weights_after_steps_are_those_of_one_process(runs: Path, case: str) -> None:
    one, two = (state(runs / f"{case}-{part}", 2)["weights"] for part in ("one", "ranks"))
    begun = state(runs / f"{case}-one", 1)["weights"]
    assert any(not torch.equal(one[name], begun[name]) for name in one)
    for name, right in one.items():
        assert (two[name] - right).double().norm() <= 1e-5 * right.double().norm() + 1e-9, name


def test_but_with_live_batch_norm_they_are_not(runs: Path) -> None:
    """As the documentation says; and so the test above could fail."""
    right = gradient(runs / "live-one")
    assert (gradient(runs / "live-four") - right).norm() > 0.01 * right.norm()


def assert_close(one: Path, other: Path, tolerance: float) -> None:
    """Weights, averages and the optimiser's moments, tensor by tensor."""
    for kind in ("weights", "ema"):
        ours, theirs = state(one, 4)[kind], state(other, 4)[kind]
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            far = (ours[name].double() - tensor.double()).norm()
            assert far <= tolerance * tensor.double().norm(), name
    found = zip(metrics(one, "validation"), metrics(other, "validation"), strict=False)
    for ours, theirs in found:
        assert ours == {**theirs, "loss": pytest.approx(theirs["loss"], rel=1e-4)}


def test_two_processes_end_as_one_does(runs: Path) -> None:
    assert_close(runs / "longer", runs / "longer-one", 1e-4)


def assert_same_state(one: Path, other: Path, step: int = 4) -> None:
    first, second = state(one, step), state(other, step)
    assert first.pop("facts")["position"] == second.pop("facts")["position"]
    assert differing(first, second) == []


def test_torchrun_that_is_stopped_goes_on(runs: Path, tmp_path: Path) -> None:
    recipe, run = tiny(runs, *LONGER, heads="[ctc, rnnt]"), tmp_path / "run"
    (tmp_path / "longer.yaml").write_text(to_yaml(recipe))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "auricle"]
    words += ["train", str(tmp_path / "longer.yaml"), "-o", str(run)]
    command = [sys.executable, *words, "train.steps=1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as stopped:
        while not (run / "metrics.jsonl").exists() and stopped.poll() is None:
            time.sleep(0.005)
        stopped.send_signal(signal.SIGTERM)
        said = stopped.communicate(timeout=PATIENCE)[0]
    assert saved(run), said
    end = saved(run)[-1] + 3
    recipe = replace(recipe, train=replace(recipe.train, steps=end))
    assert state(run, end - 3)["facts"]["arithmetic"][1]["threads"] == 1
    train_together([(recipe, run)], threads=(2, 3))
    train_together([(recipe, tmp_path / "whole")])
    assert_same_state(run, tmp_path / "whole", end)


def test_shards_learn_what_one_process_does_and_go_on(runs: Path, tmp_path: Path) -> None:
    whole = tiny(runs, *LONGER, "train.average=true", heads="[ctc, rnnt]")
    novograd = ("optimizer={name: novograd, lr: 0.01}", BATCH_NORM, "model.encoder.n_layers=2")
    odd = "data.max_batch=3"  # three batches of held-out speech, of which one rank has two
    others = tiny(runs, *LONGER, *novograd, odd)
    plan = []
    lora = tuned(runs, *LONGER, heads="[ctc, rnnt]", adapt=ADAPTED["lora"])
    for name, recipe in {"adamw": whole, "novograd": others, "lora": lora}.items():
        half = replace(recipe, train=replace(recipe.train, steps=2))
        plan += [(recipe, tmp_path / name)]
        plan += [(half, tmp_path / f"{name}-stopped"), (recipe, tmp_path / f"{name}-stopped")]
    train_together(plan, fsdp=True)
    for name in ("adamw", "novograd", "lora"):
        assert_same_state(tmp_path / f"{name}-stopped", tmp_path / name)
    *_, averaged = metrics(tmp_path / "adamw", "validation")
    assert averaged["averaged"] == 2
    assert_close(tmp_path / "adamw", runs / "longer-one", 1e-4)
    train(replace(lora, train=replace(lora.train, accumulate=2)), tmp_path / "lora-one")
    assert_close(tmp_path / "lora", tmp_path / "lora-one", 1e-4)


@pytest.mark.parametrize("way", ["FSDP", "DEEPSPEED"])
def test_other_ways_to_spread_are_refused(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType(way))
    monkeypatch.setattr(Accelerator, "is_fsdp2", False)
    with pytest.raises(ConfigError, match="supported: launch with"):
        ranks.accelerator_for("fp32")
