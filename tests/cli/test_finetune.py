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
from tests.tiny_whisper import write_tiny_whisper
from tests.training.test_automodel import theirs
from tests.training.tiny import SMALLER, tuned
from tests.training.tones import corpus


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
    code, heard, err = run("transcribe", "data/000.wav", "-m", "runs/mine")
    assert code == 0, err
    base = next(Path().glob("base-*"))
    for words in (("runs/mine", "mine.nemo"), (base, "merged.nemo", "--merge", "runs/mine")):
        assert run("convert", *words)[0] == 0
        assert run("transcribe", "data/000.wav", "-m", words[1])[:2] == (0, heard)


def test_in_half_precision(run: Run, recipe: Path) -> None:
    """Whose `forward` accelerate wraps; with layers computed twice, and without."""
    for number, twice in enumerate(("false", "true")):
        changes = ("train.precision=bf16", f"train.gradient_checkpointing={twice}")
        code, _, err = run("finetune", recipe, *changes, "-o", f"runs/{number}")
        assert code == 0, err
        assert "memory, an estimate by short clips" in err


def test_a_check_looks_with_the_model_and_at_what_shall_move(run: Run, recipe: Path) -> None:
    code, out, err = run("finetune", recipe, "--check", "adapt.lora.rank=2")
    assert code == 0 and "8 of 8 items can be learnt from" in out, err
    assert "LoRA of rank 2 on " in err and not Path("runs").exists()
    code, out, err = run("finetune", recipe, "--check", "adapt.freeze=[encodr]")
    assert code == 2 and "near are encoder" in err
    assert err.count("\n") == 1


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


WHISPER = """
init_from: base
adapt: {lora: {targets: ["*.q_proj", "*.out_proj", "*.fc1", "*.fc2"], rank: 2}}
data:
  train: [{manifest: data/rows.jsonl, language: en}]
  validation: [{manifest: data/rows.jsonl, language: en}]
  max_seconds: 2
  max_batch: 4
  workers: 0
augment: {spec: null}
schedule: {warmup: 1}
train: {steps: 2, validate_every: 2}
log: {trackers: []}
"""


@pytest.fixture
def whisper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe for a tiny multilingual Whisper."""
    pytest.importorskip("transformers")
    monkeypatch.setattr(plots, "draw", lambda *paths: [])
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "data", 4)
    write_tiny_whisper(tmp_path / "base")
    path = tmp_path / "w.yaml"
    path.write_text(WHISPER)
    return path


def test_a_check_of_data_for_whisper(run: Run, whisper: Path) -> None:
    code, out, err = run("finetune", whisper, "--check")
    assert code == 0 and out.count("4 of 4 items can be learnt from") == 2, err
    nobody = ("data.train.0.language=null", "data.validation.0.language=null")
    code, out, err = run("finetune", whisper, "--check", *nobody)
    assert code == 1 and "languages that the model does not know" in out
    assert "set the row's lang, or the source's language" in err
    for change, said in {
        "data.max_seconds=40": "Whisper hears 30 s at once",
        "adapt.lora.targets=['*.o_proj']": "fits no name of the model; near are",
        "tokenizer={kind: char, size: 20}": "keeps its own tokenizer",
        "adapt.lora.targets=['*.conv1']": "is a convolution and can have no adapter",
    }.items():
        code, _, err = run("finetune", whisper, "--check", change)
        assert code == 2 and said in err, err
        assert err.splitlines()[-1].startswith("auricle: error: ")
    code, _, err = run("finetune", whisper, "adapt=null", "train.average=true", "--check")
    assert code == 2 and "train.average is not for Whisper: take train.ema" in err


def test_a_whisper_is_tuned_converted_and_read_by_others(run: Run, whisper: Path) -> None:
    """From the command line: the run's folder, CTranslate2's form, faster-whisper."""
    faster_whisper = pytest.importorskip("faster_whisper")
    code, out, err = run("finetune", whisper)
    assert (code, out) == (0, "runs/w\n"), err
    assert "LoRA of rank 2 on 20 layers" in err
    assert "activations of a batch of 4 windows of 2 s" in err
    assert run("convert", "runs/w", "ct2", "--to", "ctranslate2")[:2] == (0, "ct2\tctranslate2\n")
    code, out, err = run("transcribe", "data/000.wav", "-m", "runs/w", "--language", "en")
    assert code == 0, err
    again = run("transcribe", "data/000.wav", "-m", "ct2", "--language", "en")
    assert again[:2] == (0, out)
    model = faster_whisper.WhisperModel("ct2", device="cpu", compute_type="float32")
    segments, found = model.transcribe("data/000.wav", language="en", without_timestamps=True)
    assert list(segments) and found.language == "en"
    merged = run("convert", "base", "merged", "--merge", "runs/w", "--to", "ctranslate2")
    assert merged[0] == 0, merged
    assert run("transcribe", "data/000.wav", "-m", "merged", "--language", "en")[1] == out
