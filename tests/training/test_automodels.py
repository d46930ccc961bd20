"""The classes by the field's names: networks that can be trained, with the head that is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.errors import CheckpointError, ConfigError
from auricle.models.asr import ASR
from tests.conftest import ROOT
from tests.tiny_whisper import write_tiny_whisper

GOLDEN = ROOT / "tests" / "golden"
CASES = [
    (auricle.AutoModelForCTC, "huggingface/parakeet_ctc_hf", "ctc"),
    (auricle.AutoModelForRNNT, "huggingface/parakeet_rnnt_hf", "rnnt"),
    (auricle.AutoModelForTDT, "huggingface/parakeet_tdt_hf", "tdt"),
    (auricle.AutoModelForCTC, "nemo/fastconformer_ctc.nemo", "ctc"),
    (auricle.AutoModelForCTC, "nemo/hybrid_rnnt_ctc.nemo", "ctc"),
    (auricle.AutoModelForRNNT, "nemo/hybrid_rnnt_ctc.nemo", "rnnt"),
]


def assert_trains(model: ASR, head: str) -> None:
    """One head, everything moves, nothing of it is a mapped file."""
    assert model.training and model.heads == (head,) and model.config.default_head == head
    assert all(parameter.requires_grad for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.data.add_(1)


@pytest.mark.parametrize(("kind", "name", "head"), CASES)
def test_from_pretrained(kind: Any, name: str, head: str) -> None:
    path = GOLDEN / name
    model = kind.from_pretrained(path)
    again = dict(kind.from_pretrained(str(path)).named_parameters())
    assert all(torch.equal(p, again[n]) for n, p in model.named_parameters())
    assert_trains(model, head)
    assert all(torch.equal(p, again[n]) for n, p in kind.from_pretrained(path).named_parameters())


@pytest.mark.parametrize(("kind", "name", "head"), CASES[:3])
def test_from_config(kind: Any, name: str, head: str) -> None:
    folder = GOLDEN / name
    values = json.loads((folder / "config.json").read_text())
    shapes = {n: p.shape for n, p in kind.from_pretrained(folder).named_parameters()}
    for given in (values, folder, str(folder / "config.json"), kind.from_config(folder).config):
        model = kind.from_config(given)
        assert {n: p.shape for n, p in model.named_parameters()} == shapes
    assert_trains(model, head)


def test_a_model_of_another_head_names_its_class(tmp_path: Path) -> None:
    ctc = GOLDEN / "huggingface" / "parakeet_ctc_hf"
    with pytest.raises(ConfigError, match="has no tdt head: take AutoModelForCTC"):
        auricle.AutoModelForTDT.from_pretrained(ctc)
    with pytest.raises(ConfigError, match="has no whisper head: take AutoModelForCTC"):
        auricle.AutoModelForSpeechSeq2Seq.from_pretrained(ctc)
    with pytest.raises(ConfigError, match="makes Whisper models only"):
        auricle.AutoModelForSpeechSeq2Seq.from_config(ctc)
    whisper = write_tiny_whisper(tmp_path / "whisper")
    for make in (auricle.AutoModelForCTC.from_pretrained, auricle.AutoModelForCTC.from_config):
        with pytest.raises(ConfigError, match="has no ctc head: take AutoModelForSpeechSeq2Seq"):
            make(whisper)
    with pytest.raises(CheckpointError, match="no readable config"):
        auricle.AutoModelForCTC.from_config(tmp_path)


def test_whisper(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_tiny_whisper(tmp_path / "whisper", dtype=torch.float16)
    model = auricle.AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    assert isinstance(model, transformers.WhisperForConditionalGeneration) and model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["model.encoder.embed_positions.weight"]
    made = auricle.AutoModelForSpeechSeq2Seq.from_config(folder / "config.json")
    assert [p.shape for p in made.parameters()] == [p.shape for p in model.parameters()]
    other = auricle.AutoModelForSpeechSeq2Seq.from_config(model.config)
    assert other.config.d_model == model.config.d_model


@pytest.mark.parametrize("asked", [{"torch_dtype": torch.bfloat16}, {"dtype": "bfloat16"}])
def test_weights_come_in_the_precision_that_is_asked_for(asked: dict[str, Any]) -> None:
    path = GOLDEN / "nemo/fastconformer_ctc.nemo"
    model = auricle.AutoModelForCTC.from_pretrained(path, **asked)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.features.filterbank.dtype == torch.float32
    stored = auricle.AutoModelForCTC.from_pretrained(path, torch_dtype="auto")
    assert {p.dtype for p in stored.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dtype": "int8"}, "dtype is 'int8'; it must be float32"),
        ({"dtype": "load"}, "dtype is 'load'"),
        ({"dtype": 16}, "dtype is 16"),
        ({"dtype": "auto", "torch_dtype": "float16"}, "are one option"),
    ],
)
def test_other_precisions_are_refused(asked: dict[str, Any], said: str) -> None:
    path = GOLDEN / "nemo/fastconformer_ctc.nemo"
    with pytest.raises(ConfigError, match=said):
        auricle.AutoModelForCTC.from_pretrained(path, **asked)
