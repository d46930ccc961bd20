"""`auricle transcribe --adapter` and `auricle convert --merge`, which say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle import checkpoints
from auricle.checkpoints.adapters import CONFIG, save_adapter
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


def test_whisper_is_refused(run: Run, adapter: Path, tmp_path: Path) -> None:
    folder = write_tiny_whisper(tmp_path / "whisper")
    code, _, err = run("convert", folder, tmp_path / "x", "--merge", adapter)
    assert code == 2 and "is a Whisper model: merge the adapter with PEFT, then convert" in err
