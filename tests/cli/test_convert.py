"""`auricle convert`: formats there and back, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auricle import checkpoints
from tests.cli.conftest import Run
from tests.conftest import GOLDEN

SOURCE = GOLDEN / "nemo" / "fastconformer_rnnt.nemo"


def test_there_and_back(run: Run, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs.nemo"
    assert run("convert", SOURCE, ours) == (0, f"{ours}\tauricle\n", "")
    assert (ours / "model.safetensors").is_file()
    assert run("convert", ours, theirs) == (0, f"{theirs}\tnemo\n", "")
    before, after = checkpoints.load(SOURCE), checkpoints.load(theirs)
    assert before.config == after.config
    assert before.tensors.keys() == after.tensors.keys()
    for key, value in before.tensors.items():
        assert torch.equal(value, after.tensors[key]), key


def test_to_hugging_face(run: Run, tmp_path: Path) -> None:
    source, target = GOLDEN / "huggingface" / "parakeet_ctc_hf", tmp_path / "hf"
    code, out, err = run("convert", source, target, "--to", "huggingface")
    assert (code, out, err) == (0, f"{target}\thuggingface\n", "")
    assert {p.name for p in target.iterdir()} >= {"config.json", "model.safetensors"}
    assert checkpoints.load(target).config == checkpoints.load(source).config
    quartznet = GOLDEN / "nemo" / "quartznet_char.nemo"
    code, _, err = run("convert", quartznet, tmp_path / "no", "--to", "huggingface")
    assert code == 2 and "transformers has no Citrinet, QuartzNet or Jasper" in err
    assert not (tmp_path / "no").exists()


def test_what_is_there_is_kept(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "m.nemo"
    target.write_text("mine")
    code, _, err = run("convert", SOURCE, target)
    assert code == 2 and "m.nemo exists already: --overwrite replaces it" in err
    assert target.read_text() == "mine"
    assert run("convert", SOURCE, target, "--overwrite")[0] == 0
    assert target.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "ctranslate2"], "is no Whisper model: ctranslate2 holds Whisper only"),
        (["--to", "nemo", "--quantization", "int8"], "--quantization is for --to ctranslate2"),
        (["--quantization", "int8"], "is no Whisper model"),
        (["--head", "ctc"], "--head is for --to huggingface"),
        (["--to", "huggingface", "--head", "ctc"], "head 'ctc' is not"),
        (["--to", "onnx"], "'onnx' is not one of"),
    ],
)
def test_refusals(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    code, out, err = run("convert", SOURCE, tmp_path / "out", *words)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_onto_itself(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "m.nemo"
    copy.write_bytes(SOURCE.read_bytes())
    code, _, err = run("convert", copy, copy, "--overwrite")
    assert code == 2 and "is the source itself" in err


def test_the_embedded_model_by_its_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auricle.checkpoints.embedded.folder", lambda: SOURCE)
    target = tmp_path / "ours"
    assert run("convert", "embedded", target) == (0, f"{target}\tauricle\n", "")
    code, out, _ = run("models", "show", "embedded")
    assert code == 0 and str(SOURCE) in out


def test_a_full_disk_names_the_folder_and_the_cure(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("auricle.checkpoints.native.write_safetensors", full)
    code, _, err = run("convert", SOURCE, tmp_path / "ours")
    cure = "make room, then run it again"
    assert code == 1
    assert err == f"auricle: error: {tmp_path / 'ours'}: No space left on device; {cure}\n"
    assert list(tmp_path.iterdir()) == []
