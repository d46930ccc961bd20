"""`auricle transcribe --adapter` and `auricle convert --merge`, which say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from auricle import checkpoints
from auricle.checkpoints.adapters import CONFIG, Adapter, save_adapter, write_adapter
from auricle.models.adapted import LoraTensors
from tests.checkpoints.random_adapters import random_adapter
from tests.cli.conftest import Run
from tests.conftest import GOLDEN
from tests.tiny_whisper import write_tiny_whisper

MODEL = GOLDEN / "huggingface" / "parakeet_ctc_hf"
CLIP = GOLDEN / "wav" / "talk.wav"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    checkpoint = checkpoints.load(MODEL)
    save_adapter(random_adapter(checkpoint), tmp_path / "adapter", checkpoint.config)
    return tmp_path / "adapter"


def test_beside_and_merged_in_every_format(run: Run, adapter: Path, tmp_path: Path) -> None:
    def text(*words: str | Path) -> str:
        code, out, err = run("transcribe", CLIP, "-q", "-m", *words)
        assert (code, err) == (0, "")
        return out

    beside = text(MODEL, "--adapter", adapter)
    assert beside != text(MODEL)
    for name, to in (("a", "auricle"), ("b.nemo", "nemo"), ("c", "huggingface")):
        code, out, err = run("convert", MODEL, tmp_path / name, "--to", to, "--merge", adapter)
        assert (code, out, err) == (0, f"{tmp_path / name}\t{to}\n", "")
        assert text(tmp_path / name) == beside


def test_what_is_wrong_is_said_in_a_line(run: Run, adapter: Path, tmp_path: Path) -> None:
    (adapter / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 9, "lora_alpha": 9}))
    for words in (
        ("transcribe", CLIP, "-m", MODEL, "--adapter", adapter),
        ("convert", MODEL, tmp_path / "x", "--merge", adapter),
    ):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "not [9, " in err and "use the model that the adapter was made for" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_a_whisper_of_either_form_is_merged(run: Run, tmp_path: Path, dora: bool) -> None:
    base = write_tiny_whisper(tmp_path / "base")
    before = load_file(base / "model.safetensors")
    layer = "model.decoder.layers.0.encoder_attn.q_proj"
    rows, columns = before[f"{layer}.weight"].shape
    lora = LoraTensors(
        torch.randn(2, columns), torch.randn(rows, 2), torch.rand(rows) if dora else None
    )
    write_adapter(Adapter("a", 2, 4.0, dora, {layer: lora}), tmp_path / "a")
    assert run("convert", base, tmp_path / "ct2", "--to", "ctranslate2")[0] == 0
    for source, to in ((base, ()), (tmp_path / "ct2", ("--to", "huggingface"))):
        target = tmp_path / f"merged {source.name}"
        code, out, err = run("convert", source, target, "--merge", tmp_path / "a", *to)
        assert (code, out, err) == (0, f"{target}\thuggingface\n", "")
        after = load_file(target / "model.safetensors")
        wanted = lora.merged(before[f"{layer}.weight"], 2.0)
        torch.testing.assert_close(after.pop(f"{layer}.weight"), wanted)
        assert all(torch.equal(value, before[key]) for key, value in after.items())
    one, other = tmp_path / "one", tmp_path / "other"
    words = ("--merge", tmp_path / "a", "--to", "ctranslate2")
    assert run("convert", base, one, *words)[0] == 0
    assert run("convert", tmp_path / "merged base", other, "--to", "ctranslate2")[0] == 0
    assert (one / "model.bin").read_bytes() == (other / "model.bin").read_bytes()


def test_a_whisper_is_not_written_as_another_family(run: Run, tmp_path: Path) -> None:
    base = write_tiny_whisper(tmp_path / "base")
    for words, message in (
        (("--to", "nemo"), "is a Whisper model: --to huggingface or ctranslate2"),
        (("--quantization", "int8"), "--quantization is for --to ctranslate2"),
        (("--to", "ctranslate2"), "gone does not exist; give the folder of an adapter"),
    ):
        code, _, err = run("convert", base, tmp_path / "x", "--merge", tmp_path / "gone", *words)
        assert code == 2 and message in err
        assert not (tmp_path / "x").exists()
