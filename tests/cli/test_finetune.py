"""`auricle finetune`: from a recipe to a report and a model that transcribes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from auricle.training import plots
from auricle.training.reading import to_yaml
from tests.cli.conftest import Run
from tests.training.test_automodel import theirs
from tests.training.tiny import SMALLER, tuned


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a model of random weights, on tones."""
    monkeypatch.setattr(plots, "draw", lambda *paths: [])
    monkeypatch.chdir(tmp_path)
    tuning = tuned(tmp_path, *SMALLER, "train.validate_every=2", "train.steps=2")
    path = tmp_path / "mine.yaml"
    path.write_text(to_yaml(replace(tuning, name="mine")))
    return path


def test_from_a_recipe_to_text(run: Run, recipe: Path) -> None:
    code, out, err = run("finetune", recipe, "adapt.lora.rank=2", "adapt.lora.targets=[self_attn]")
    assert (code, out) == (0, "runs/mine\n"), err
    lines = err.splitlines()
    for said in ("LoRA of rank 2 on 5 layers", "memory, an estimate by short clips"):
        assert any(line.startswith(said) for line in lines), err
    assert "step 0: validation WER" in err
    assert "before, " in err and "on the same 8 held-out clips" in err
    assert "heard: " in err
    page = Path("runs/mine/report.md").read_text()
    assert "| before | " in page and "| after | " in page
    assert page.count("| data/0") + page.count("/data/0") == 8
    assert Path("runs/mine/adapter/adapter_config.json").exists()
    assert Path("runs/mine/model/config.json").exists()
    code, out, err = run("transcribe", "data/000.wav", "-m", "runs/mine", "-f", "json")
    assert code == 0, err


def test_in_half_precision(run: Run, recipe: Path) -> None:
    """Whose `forward` accelerate wraps; with layers computed twice, and without."""
    for number, twice in enumerate(("false", "true")):
        changes = ("train.precision=bf16", f"train.gradient_checkpointing={twice}")
        code, _, err = run("finetune", recipe, *changes, "-o", f"runs/{number}")
        assert code == 0, err
        assert "memory, an estimate by short clips" in err


def test_a_model_to_begin_from_is_needed(run: Run, recipe: Path) -> None:
    code, _, err = run("finetune", "citrinet_256_tiny")
    assert code == 2
    assert "names no model to begin from; add init_from=MODEL" in err
    assert run("finetune")[0] == 2
    assert "give a recipe" in run("finetune", "--optimizer.lr=1")[2]


def test_automodels_way(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--config X.yaml --a.b=v`, in its keys; ours stand beside them."""
    monkeypatch.chdir(tmp_path)
    Path("theirs.yaml").write_text(json.dumps(theirs("parakeet_ctc_0.6b_lora")))
    words = ("--optimizer.lr", "0.5", "--step_scheduler.max_steps=7", "train.keep_best=5")
    for given in (("--config", "theirs.yaml"), ("theirs.yaml",), ("-c", "theirs.yaml")):
        code, out, err = run("finetune", *given, *words, "--show")
        assert code == 0, err
        shown = yaml.safe_load(out)
        assert shown["init_from"] == "nvidia/parakeet-ctc-0.6b"
        assert shown["optimizer"]["lr"] == 0.5
        assert (shown["train"]["steps"], shown["train"]["keep_best"]) == (7, 5)
        assert shown["adapt"]["lora"]["rank"] == 16
        assert shown["tokenizer"] is None
        assert "model.torch_dtype: weights kept in bf16" in err
    code, _, err = run("finetune", "-c", "theirs.yaml", "--optimizer.lrr", "0.5")
    assert code == 2
    assert "optimizer.lrr" in err


def test_dashes_for_a_recipe_of_ours(run: Run, recipe: Path) -> None:
    code, out, _ = run("finetune", recipe, "--train.steps=9", "--optimizer.lr", "0.5", "--show")
    shown = yaml.safe_load(out)
    assert (code, shown["train"]["steps"], shown["optimizer"]["lr"]) == (0, 9, 0.5)
