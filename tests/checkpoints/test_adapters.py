"""Adapters written and read again, and what is refused; PEFT itself is in tests/parity."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from auricle.checkpoints import Checkpoint, load
from auricle.checkpoints.adapters import (
    CONFIG,
    WEIGHTS,
    Adapter,
    linear_layers,
    load_adapter,
    merged,
    save_adapter,
)
from auricle.errors import CheckpointError, ModelNotFound
from tests.checkpoints.goldens import HUGGINGFACE, nemo
from tests.checkpoints.random_adapters import random_adapter

CTC = next(path for path in HUGGINGFACE if path.name == "parakeet_ctc_hf")
QUERY = "encoder.layers.0.self_attn.linear_q"
THEIR_QUERY = "base_model.model.encoder.layers.0.self_attn.q_proj"
THEIR_CONVOLUTION = "base_model.model.encoder.layers.0.conv.depthwise_conv"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load(CTC)


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_adapter(random_adapter(checkpoint, [QUERY]), tmp_path / "good", checkpoint.config)
    return tmp_path / "good"


def assert_equal(one: Adapter, other: Adapter) -> None:
    assert dataclasses.replace(one, tensors={}) == dataclasses.replace(other, tensors={})
    assert one.tensors.keys() == other.tensors.keys()
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize(
    "path", [*HUGGINGFACE, nemo("citrinet"), nemo("prompt_hybrid")], ids=lambda path: path.stem
)
def test_there_and_back(path: Path, dora: bool, tmp_path: Path) -> None:
    checkpoint = load(path)
    adapter = random_adapter(checkpoint, dora=dora, name="there")
    save_adapter(adapter, tmp_path / "there", checkpoint.config)
    assert_equal(load_adapter(tmp_path / "there", checkpoint.config), adapter)
    values = json.loads((tmp_path / "there" / CONFIG).read_text())
    assert values["task_type"] is None and values["peft_type"] == "LORA"
    assert values["r"] == 4 and values["lora_alpha"] == 8 and values["use_dora"] is dora


def test_names_are_those_of_transformers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    names = [QUERY, "encoder.pre_encode.out", "ctc"]
    save_adapter(random_adapter(checkpoint, names), tmp_path / "a", checkpoint.config)
    state = load_file(tmp_path / "a" / WEIGHTS)
    targets = json.loads((tmp_path / "a" / CONFIG).read_text())["target_modules"]
    theirs = ["ctc_head", "encoder.layers.0.self_attn.q_proj", "encoder.subsampling.linear"]
    assert targets == theirs
    assert {key.rpartition(".lora_")[0] for key in state} == {
        f"base_model.model.{name}" for name in theirs
    }
    assert state["base_model.model.ctc_head.lora_A.weight"].ndim == 3  # a convolution there


def test_names_are_ours_where_transformers_has_no_such_model(tmp_path: Path) -> None:
    checkpoint = load(nemo("conformer_ctc"))
    save_adapter(random_adapter(checkpoint, [QUERY, "ctc"]), tmp_path / "a", checkpoint.config)
    assert json.loads((tmp_path / "a" / CONFIG).read_text())["target_modules"] == ["ctc", QUERY]
    assert load_adapter(tmp_path / "a", checkpoint.config).tensors.keys() == {QUERY, "ctc"}


def test_a_blank_before_the_tokens_is_moved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    adapter = random_adapter(checkpoint, ["ctc"], dora=True)
    save_adapter(adapter, tmp_path / "random", checkpoint.config, blank=0)
    again = load_adapter(tmp_path / "random", checkpoint.config, blank=0)
    assert_equal(again, adapter)
    moved = load_adapter(tmp_path / "random", checkpoint.config).tensors["ctc"].b
    assert torch.equal(moved, adapter.tensors["ctc"].b.roll(1, 0))


def test_rank_stabilised_scale(checkpoint: Checkpoint, folder: Path) -> None:
    before = load_adapter(folder, checkpoint.config).scale
    edit(folder, use_rslora=True)
    assert load_adapter(folder, checkpoint.config).scale == pytest.approx(before * 2)


def test_the_folder_of_a_training_is_taken_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    run = tmp_path / "digits"
    save_adapter(random_adapter(checkpoint, [QUERY]), run / "adapter", checkpoint.config)
    for path in (run, str(run), run / "adapter"):
        assert load_adapter(path, checkpoint.config).name == "digits"


def test_merging_changes_the_named_weights_alone(checkpoint: Checkpoint) -> None:
    adapter = random_adapter(checkpoint, [QUERY])
    lora = adapter.tensors[QUERY]
    after = merged(checkpoint, adapter)
    assert after.name == f"{checkpoint.name}+random"
    for key, value in checkpoint.tensors.items():
        wanted = value + 2.0 * lora.b @ lora.a if key == f"{QUERY}.weight" else value
        torch.testing.assert_close(after.tensors[key], wanted)


def test_what_is_there_is_kept(checkpoint: Checkpoint, folder: Path, tmp_path: Path) -> None:
    adapter = random_adapter(checkpoint, [QUERY], rank=2)
    save_adapter(adapter, folder, checkpoint.config)  # an adapter is replaced
    assert load_adapter(folder, checkpoint.config).rank == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is there already"):
        save_adapter(adapter, tmp_path / "mine", checkpoint.config)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r is 0 and no rank"),
        ({"r": True}, "r is True"),
        ({"r": 10**30}, "r is 10000"),
        ({"r": "4\n4"}, "r is '4"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', and only LORA"),
        ({"bias": "all"}, "'bias' is set"),
        ({"modules_to_save": ["ctc_head"]}, "'modules_to_save' is set, and only LoRA and DoRA"),
        ({"rank_pattern": {"q_proj": 8}}, "'rank_pattern' is set"),
        ({"fan_in_fan_out": True}, "'fan_in_fan_out' is set"),
        ({"something\nnew": 1}, "'something.*new' is set"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' changes the base too"),
        ({"use_dora": True}, "it has A, B and not A, B, magnitude"),
        ({"r": 3}, r"linear_q: a tensor is \[4, 24\] and not \[3, 24\]"),
    ],
)
def test_settings_that_are_refused(
    changes: dict[str, Any], message: str, checkpoint: Checkpoint, folder: Path
) -> None:
    edit(folder, **changes)
    assert_refused(folder, message, checkpoint)


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.clear(), "is empty"),
        (lambda t: t.update({"x\ny": torch.ones(1)}), "'x.*y' is no part of LoRA"),
        (lambda t: t.update({f"{THEIR_QUERY}.weight": torch.ones(1)}), "is no part of LoRA"),
        (
            lambda t: t.update({f"{THEIR_QUERY}x.lora_A.weight": torch.ones(1)}),
            "q_projx' is no linear layer here .near are encoder.layers.*use the model",
        ),
        (
            lambda t: t.update({f"{THEIR_CONVOLUTION}.lora_A.weight": torch.ones(1)}),
            "depthwise_conv' is no linear layer",
        ),
        (lambda t: t.pop(f"{THEIR_QUERY}.lora_B.weight"), "it has A and not A, B"),
        (lambda t: t.update({f"{THEIR_QUERY}.lora_A.weight": torch.ones(4, 9)}), r"is \[4, 9\]"),
        (
            lambda t: t[f"{THEIR_QUERY}.lora_A.weight"].fill_(float("nan")),
            "holds what are no numbers",
        ),
        (
            lambda t: t.update({f"{THEIR_QUERY}.lora_A.weight": torch.ones(4, 24).long()}),
            "holds what are no numbers",
        ),
    ],
)
def test_tensors_that_are_refused(
    change: Callable[[Tensors], Any], message: str, checkpoint: Checkpoint, folder: Path
) -> None:
    tensors = {key: value.clone() for key, value in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    assert_refused(folder, message, checkpoint)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (CONFIG, b"{", "is no JSON"),
        (CONFIG, b"[" * 100000, "is no JSON"),
        (CONFIG, b"[]", "holds no JSON object"),
        (CONFIG, None, "is missing"),
        (WEIGHTS, None, "is missing"),
        (WEIGHTS, b"PK\x03\x04", "truncated or damaged"),
    ],
)
def test_files_that_are_refused(
    file: str, content: bytes | None, message: str, checkpoint: Checkpoint, folder: Path
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    assert_refused(folder, message, checkpoint)


def assert_refused(folder: Path, message: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_adapter(folder, checkpoint.config)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_folder_that_is_not_there(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="does not exist; give the folder of an adapter"):
        load_adapter(tmp_path / "no", checkpoint.config)


def test_what_adapters_can_change(checkpoint: Checkpoint) -> None:
    layers = linear_layers(checkpoint.config)
    assert layers["ctc"] == tuple(checkpoint.tensors["ctc.weight"].shape)
    assert not any("conv" in name or "lstm" in name or "norm" in name for name in layers)
