"""Adapters that PEFT trained read by us, and ours read by PEFT, on transformers' own models.

Needs peft and transformers; `make parity` runs it.
"""

# ruff: noqa: E402 (what the imports need is asked for first)
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

peft = pytest.importorskip("peft", reason="needs peft")
pytest.importorskip("transformers.models.parakeet", reason="needs a newer transformers")

import test_huggingface_roundtrip as roundtrip
import torch

from auricle.checkpoints import Checkpoint, build, load
from auricle.checkpoints.adapters import load_adapter, merged, save_adapter
from auricle.models.adapted import adapted
from auricle.models.asr import optimise
from tests.checkpoints.random_adapters import random_adapter

pytestmark = pytest.mark.parity

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj", "relative_k_proj"]
TARGETS = [*ATTENTION, "linear1", "linear2", "subsampling.linear"]
HEADS = {
    "ctc": ["ctc_head"],
    "ctc with the blank first": ["ctc_head"],
    "rnnt": ["encoder_projector", "decoder_projector", "joint.head"],
    "tdt": ["encoder_projector", "decoder_projector", "joint.head"],
    "streaming": ["encoder_projector", "decoder_projector", "joint.head"],
    "prompted": ["linear_1", "linear_2", "joint.head"],
}


def blank(checkpoint: Checkpoint) -> int:
    return int(checkpoint.tokenizer.spec["blank"])


def trained(name: str, path: Path, folder: Path, **options: Any) -> None:
    """An adapter as PEFT saves it, all of its numbers random."""
    model, _ = roundtrip.theirs(path)
    config = peft.LoraConfig(r=4, target_modules=[*TARGETS, *HEADS[name]], **options)
    model = peft.get_peft_model(model, config)
    torch.manual_seed(1)
    for key, parameter in model.named_parameters():
        if "lora_magnitude" in key:
            parameter.data *= 0.5 + torch.rand_like(parameter)
        elif "lora_" in key:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)


def with_peft(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What transformers' model gives with the adapter that PEFT loads beside it."""
    theirs = roundtrip.theirs

    def adapted(path: Path) -> tuple[Any, Any]:
        model, extractor = theirs(path)
        wrapped = peft.PeftModel.from_pretrained(model, folder)  # changes `model` itself
        if wrapped.peft_config["default"].use_dora and hasattr(model, "ctc_head"):
            wrapped.merge_and_unload()  # PEFT's DoRA of a convolution cannot run this head
        else:
            assert any("lora_A" in key for key, _ in model.named_parameters())
        return model.eval(), extractor

    monkeypatch.setattr(roundtrip, "theirs", adapted)
    outputs = roundtrip.their_outputs(path)
    monkeypatch.undo()
    return outputs


def our_outputs(checkpoint: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What our model gives with the adapter beside its weights."""
    adapter = load_adapter(folder, checkpoint.config, blank=blank(checkpoint))
    monkeypatch.setattr(
        roundtrip,
        "build",
        lambda c: adapted(optimise(build(c)), adapter.tensors, adapter.scale),
    )
    outputs = roundtrip.our_outputs(checkpoint)
    monkeypatch.undo()
    return outputs


def their_order(name: str, outputs: Any) -> Any:
    if "blank first" in name:
        outputs["logits"] = outputs["logits"][..., [*range(1, roundtrip.V + 1), 0]]
    return outputs


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dora": True}, {"use_rslora": True, "lora_alpha": 3}],
    ids=["lora", "dora", "rslora"],
)
@pytest.mark.parametrize("name", HEADS)
def test_what_peft_saved_gives_the_same_here(
    name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = roundtrip.folder_of(name, tmp_path / "model"), tmp_path / "adapter"
    trained(name, path, folder, **options)
    reference = their_order(name, with_peft(path, folder, monkeypatch))
    checkpoint = load(path)
    ours = our_outputs(checkpoint, folder, monkeypatch)
    roundtrip.assert_close(ours, reference)
    plain = roundtrip.our_outputs(checkpoint)["encodings"]
    assert (plain - ours["encodings"]).abs().max() > 0.1  # the adapter does something
    adapter = load_adapter(folder, checkpoint.config, blank=blank(checkpoint))
    roundtrip.assert_close(roundtrip.our_outputs(merged(checkpoint, adapter)), reference)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("name", HEADS)
def test_what_we_saved_gives_the_same_with_peft(
    name: str, dora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = roundtrip.folder_of(name, tmp_path / "model"), tmp_path / "adapter"
    checkpoint = load(path)
    adapter = random_adapter(checkpoint, dora=dora)
    save_adapter(adapter, folder, checkpoint.config, blank=blank(checkpoint))
    assert json.loads((folder / "adapter_config.json").read_text())["task_type"] is None
    config = peft.PeftConfig.from_pretrained(folder)
    assert (config.r, config.lora_alpha, config.use_dora) == (4, 8, dora)
    model, _ = roundtrip.theirs(path)
    wrapped = peft.PeftModel.from_pretrained(model, folder)
    injected = {
        key.rpartition(".lora_A")[0] for key, _ in wrapped.named_parameters() if "_A" in key
    }
    assert len(injected) == len(adapter.tensors)
    reference = their_order(name, with_peft(path, folder, monkeypatch))
    roundtrip.assert_close(our_outputs(checkpoint, folder, monkeypatch), reference)
    assert (
        roundtrip.our_outputs(checkpoint)["encodings"] - reference["encodings"]
    ).abs().max() > 0.1
