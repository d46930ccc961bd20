"""How a training ends, what it leaves, and what it does with input that it cannot learn from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from auricle import checkpoints
from auricle.errors import AudioError, ConfigError, NonFiniteLoss
from auricle.metrics import Errors
from auricle.training import loop, plots
from auricle.training.averaging import average
from auricle.training.items import Batch, PlannedBatch
from auricle.training.loading import Loading
from auricle.training.loop import train
from auricle.training.objective import Objective
from auricle.training.recipe import ModelRecipe
from auricle.training.validating import Validation
from tests.training.tiny import SMALLER, Hearing, differing, metrics, saved, state, tiny

BATCH_NORM = "model.encoder.conv_norm_type=batch_norm"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time would go into plots, which have tests of their own."""
    monkeypatch.setattr(plots, "draw", lambda *paths: [])


def nan_features(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The batch of that number has sound that makes no numbers."""
    load, calls = Loading.load, []

    def broken(self: Loading, planned: PlannedBatch) -> Batch:
        calls.append(1)
        batch = load(self, planned)
        if len(calls) == at:
            batch.features[-1] = torch.nan
        return batch

    monkeypatch.setattr(Loading, "load", broken)


def nan_gradient(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The loss is a number, but its gradient is none."""
    forward, calls = Objective.forward, []

    def broken(self: Objective, *tensors: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        losses = forward(self, *tensors)
        nothing = sum((p * 0).sum() for p in self.parameters())
        extra = nothing.sqrt() * 0 if len(calls) == at else nothing
        return {**losses, "loss": losses["loss"] + extra}

    monkeypatch.setattr(Objective, "forward", broken)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_no_number_is_named_saved_and_not_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    recipe = tiny(tmp_path, *SMALLER, "train.steps=6", "train.save_every=1", "data.validation=[]")
    train(recipe, tmp_path / "whole")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        {"loss": nan_features, "gradient": nan_gradient}[kind](patch, at=3)
        with pytest.raises(NonFiniteLoss, match=f"the {kind} of step 3 is no number") as error:
            train(recipe, run)
    (place,) = (run / "nan" / "step-00000003").iterdir()
    rows = json.loads((place / "items.json").read_text())["items"]
    assert rows
    assert all(row["name"] in str(error.value) for row in rows[:3])
    assert saved(run) == [1, 2]
    assert [row["step"] for row in metrics(run, "train")] == [1, 2]
    train(recipe, run, resume=True)  # with the recording mended
    assert differing(state(run, 6)["weights"], state(tmp_path / "whole", 6)["weights"]) == []


class Removing(Hearing):
    """Removes recordings while the training runs."""

    def __init__(self, sounds: Path) -> None:
        super().__init__()
        self.sounds = sounds

    def step(self, step: int, loss: float, **facts: Any) -> None:
        super().step(step, loss, **facts)
        for path in self.sounds.glob("*.wav"):
            path.unlink()


def test_sound_that_vanishes_is_said_and_left_out(tmp_path: Path) -> None:
    changes = (*SMALLER, "data.validation=[]", "train.epochs=1", "train.save_every=100")
    hearing = Removing(tmp_path / "data")
    result = train(tiny(tmp_path, *changes), tmp_path / "run", progress=hearing)
    assert result.ending == "finished"
    rows = metrics(tmp_path / "run", "train")
    assert sum(row["lost"] for row in rows) == len(hearing.lines) > 0
    assert all(".wav" in line for line in hearing.lines)
    assert rows[-1]["audio_seconds"] == 0  # a step with nothing in it does no harm
    weights = state(tmp_path / "run", result.step)["weights"]
    assert all(t.isfinite().all() for t in weights.values())


def test_or_refused(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, *SMALLER, "data.validation=[]", "data.invalid=refuse")
    with pytest.raises(AudioError, match=r"\.wav"):
        train(recipe, tmp_path / "run", progress=Removing(tmp_path / "data"))


@pytest.mark.parametrize(
    ("ending", "step", "changes"),
    [
        ("early", 4, ("train.patience=1", "train.validate_every=2", "optimizer.lr=1.0e-30")),
        ("minutes", 1, ("train.minutes=0.00001",)),
        ("finished", 5, ("train.steps=5",)),
    ],
)
def test_every_ending_validates_and_saves(
    tmp_path: Path, ending: str, step: int, changes: tuple[str, ...]
) -> None:
    hearing, run = Hearing(), tmp_path / "run"
    result = train(tiny(tmp_path, *SMALLER, *changes), run, progress=hearing)
    assert (result.ending, result.step, hearing.endings) == (ending, step, [ending])
    assert saved(run) == [step]
    assert metrics(run, "validation")[-1]["step"] == step
    assert result.wer == min(row["wer"] for row in metrics(run, "validation"))
    again = train(tiny(tmp_path, *SMALLER, *changes), run, resume=True)
    assert again == result  # there is nothing more to do


def test_epochs_end_when_all_was_heard(tmp_path: Path) -> None:
    changes = (*SMALLER, "data.validation=[]", "train.epochs=2", "train.save_every=100")
    result = train(tiny(tmp_path, *changes), tmp_path / "run")
    rows = metrics(tmp_path / "run", "train")
    manifest = (tmp_path / "data" / "rows.jsonl").read_text().splitlines()
    heard = 2 * sum(json.loads(row)["duration"] for row in manifest)
    assert sum(row["audio_seconds"] for row in rows) == pytest.approx(heard)
    assert result.ending == "finished"
    assert rows[-1]["epoch"] == 2


def test_without_validation_the_model_is_the_last_one(tmp_path: Path) -> None:
    changes = (*SMALLER, "data.validation=[]", "train.steps=3", "train.ema=0.5")
    result = train(tiny(tmp_path, *changes), tmp_path / "run")
    assert result.wer is None
    model, ema = checkpoints.load(tmp_path / "run").tensors, state(tmp_path / "run", 3)["ema"]
    assert differing({name: model[name] for name in ema}, ema) == []


@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume"])
def test_the_loss_of_held_out_speech_is_that_of_a_step_on_it(
    tmp_path: Path, reduction: str
) -> None:
    """Per utterance or per token, however either is split into batches."""
    still = ("optimizer={name: sgd, lr: 1.0e-12}", "train.steps=1", "train.validate_every=1")
    quiet = ("model.features.dither=0.0", f"loss.reduction={reduction}", "schedule.warmup=0")
    split = ("data.max_batch=4", "train.accumulate=2", "data.buckets=1", "data.batch_seconds=99")
    run = tmp_path / "run"
    train(tiny(tmp_path, *SMALLER, *still, *quiet, *split), run)
    learnt, held_out = metrics(run, "train")[0], metrics(run, "validation")[0]
    assert held_out["loss"] == pytest.approx(learnt["loss"], rel=1e-4)


@pytest.mark.parametrize("wrong", [2, 3])
def test_the_mean_of_the_best_is_the_model_unless_it_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    wrongs = iter([4, 3, 2, wrong])

    def judged(*given: Any) -> Validation:
        return Validation(1.0, {"ctc": Errors(words=10, substitutions=next(wrongs))}, 8)

    monkeypatch.setattr(loop, "validate", judged)
    short = ("train.steps=3", "train.validate_every=1", "train.average=true")
    result = train(tiny(tmp_path, *SMALLER, *short), tmp_path / "run")
    assert result.wer == 0.2
    last = metrics(tmp_path / "run", "validation")[-1]
    assert (last["averaged"], last["wer"]) == (3, wrong / 10)
    model, best = checkpoints.load(tmp_path / "run").tensors, tmp_path / "run" / "best"
    newest = state(tmp_path / "run", 3)["weights"]  # from which a resume goes on
    mean = average(sorted(best.iterdir(), reverse=True))
    assert differing(mean, newest) != []
    assert differing(model, mean if wrong == 2 else newest) == []


def test_a_training_can_begin_from_another(tmp_path: Path) -> None:
    first = tiny(tmp_path, *SMALLER, "train.steps=3", "data.validation=[]")
    train(first, tmp_path / "first")
    second = replace(
        tiny(tmp_path, "train.steps=1", "data.validation=[]", "optimizer.lr=1.0e-30"),
        init_from=str(tmp_path / "first"),
        model=ModelRecipe(),
        tokenizer=None,
    )
    train(second, tmp_path / "second")
    begun, done = (checkpoints.load(tmp_path / name) for name in ("first", "second"))
    assert differing(begun.tensors, done.tensors) == []
    assert begun.config == done.config
    assert begun.tokenizer.pieces == done.tokenizer.pieces


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_keeps_its_statistics(tmp_path: Path, frozen: bool) -> None:
    changes = (*SMALLER, BATCH_NORM, f"train.freeze_batch_norm={str(frozen).lower()}")
    # A validation between the steps changes the mode of all modules.
    train(tiny(tmp_path, *changes, "train.steps=3", "train.validate_every=1"), tmp_path / "run")
    weights = state(tmp_path / "run", 3)["weights"]
    means = [t for name, t in weights.items() if name.endswith("running_mean")]
    assert means
    assert all(bool((mean == 0).all()) == frozen for mean in means)


def test_styles_of_training_and_validation_are_not_mixed(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, *SMALLER)
    rows = (tmp_path / "data" / "rows.jsonl").read_text().splitlines()
    loud = [{**row, "text": row["text"].upper()} for row in map(json.loads, rows)]
    (tmp_path / "data" / "loud.jsonl").write_text("".join(json.dumps(r) + "\n" for r in loud))
    held_out = replace(recipe.data.validation[0], manifest=(str(tmp_path / "data" / "loud.jsonl"),))
    mixed = replace(recipe, data=replace(recipe.data, validation=(held_out,)))
    with pytest.raises(ConfigError, match=r"loud\.jsonl is upper"):
        train(mixed, tmp_path / "run")
