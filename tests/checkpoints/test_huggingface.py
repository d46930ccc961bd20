from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from auricle.checkpoints import Checkpoint, load, save
from auricle.checkpoints.huggingface import save_huggingface
from auricle.errors import CheckpointError, ConfigError

from .goldens import GOLDEN, HUGGINGFACE, encoding_error, nemo

CTC = GOLDEN / "huggingface" / "parakeet_ctc_hf"
TDT = GOLDEN / "huggingface" / "parakeet_tdt_hf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CTC, tmp_path / "model"))


def edit(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("path", HUGGINGFACE, ids=lambda path: path.name)
def test_goldens_encode_as_transformers_did(path: Path) -> None:
    assert encoding_error(load(path), path) < 1e-4


@pytest.mark.parametrize("path", HUGGINGFACE, ids=lambda path: path.name)
def test_written_and_read_again_is_the_same(path: Path, tmp_path: Path) -> None:
    checkpoint = load(path)
    save(checkpoint, tmp_path / "one", format="huggingface")
    again = load(tmp_path / "one")
    assert again.config.encoder == checkpoint.config.encoder
    assert again.config.transducer == checkpoint.config.transducer
    assert again.config.prompt == checkpoint.config.prompt
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces
    assert all(torch.equal(again.tensors[k], v) for k, v in checkpoint.tensors.items())
    theirs = load_file(path / "model.safetensors")
    ours = load_file(tmp_path / "one" / "model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


@pytest.mark.parametrize("path", HUGGINGFACE, ids=lambda path: path.name)
def test_a_nemo_archive_made_of_it_gives_the_same(path: Path, tmp_path: Path) -> None:
    checkpoint = load(path)
    save(checkpoint, tmp_path / "model.nemo")
    again = load(tmp_path / "model.nemo")
    assert again.config == checkpoint.config
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces
    assert encoding_error(again, path) < 1e-4
    text = "the fox and the tea"
    assert again.tokenizer.encode(text) == checkpoint.tokenizer.encode(text)


@pytest.mark.parametrize(
    ("name", "head"),
    [("hybrid_tdt_ctc", "tdt"), ("hybrid_tdt_ctc", "ctc"), ("parakeet_tdt", "tdt")],
)
def test_nemo_models_are_written_head_by_head(name: str, head: str, tmp_path: Path) -> None:
    checkpoint = _narrowed(name)
    save_huggingface(checkpoint, tmp_path / "one", head=head)
    again = load(tmp_path / "one")
    assert again.config.heads == (head,)
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces
    assert encoding_error(again, nemo(name)) < 1e-4
    kept = {k: v for k, v in again.tensors.items() if not k.startswith("features.")}
    assert all(torch.equal(checkpoint.tensors[key], value) for key, value in kept.items())
    text = "the fox, and 'tea'"
    assert again.tokenizer.encode(text) == checkpoint.tokenizer.encode(text)


def _narrowed(name: str) -> Checkpoint:
    """The joint cut to the predictor's width: transformers knows one width for both."""
    checkpoint = load(nemo(name))
    transducer = checkpoint.config.transducer
    assert transducer is not None
    width = transducer.predictor.hidden
    joint = dataclasses.replace(transducer.joint, hidden=width)
    config = dataclasses.replace(
        checkpoint.config, transducer=dataclasses.replace(transducer, joint=joint)
    )
    tensors = dict(checkpoint.tensors)
    for side in ("enc", "pred"):
        for leaf in ("weight", "bias"):
            tensors[f"joint.{side}.{leaf}"] = tensors[f"joint.{side}.{leaf}"][:width]
    tensors["joint.out.weight"] = tensors["joint.out.weight"][:, :width]
    return dataclasses.replace(checkpoint, config=config, tensors=tensors)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("citrinet", "Citrinet"),
        ("conformer_ctc", "abs_pos"),
        ("fastconformer_ctc", "untie_biases off"),
        ("local_global_ctc", "rel_pos_local_attn"),
        ("stateless_rnnt", "a stateless predictor"),
        ("conformer_rnnt", "this front end"),
    ],
)
def test_what_transformers_lacks_is_named(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        save(load(nemo(name)), tmp_path / "x", format="huggingface")
    assert list(tmp_path.iterdir()) == []


def test_save_passes_the_head_on(tmp_path: Path) -> None:
    save(_narrowed("hybrid_tdt_ctc"), tmp_path / "x", format="huggingface", head="ctc")
    assert load(tmp_path / "x").config.heads == ("ctc",)
    with pytest.raises(ConfigError, match="only for huggingface"):
        save(load(CTC), tmp_path / "y", head="ctc")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_is_named(dtype: torch.dtype, tmp_path: Path) -> None:
    checkpoint = load(TDT)
    tensors = {
        k: v if k.startswith("features.") else v.to(dtype) for k, v in checkpoint.tensors.items()
    }
    save_huggingface(dataclasses.replace(checkpoint, tensors=tensors), tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["dtype"] == str(dtype).removeprefix("torch.")


def test_a_head_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ctc' is not one of tdt"):
        save_huggingface(load(TDT), tmp_path / "x", head="ctc")


def test_shards(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(state)
    parts = {"model-1.safetensors": keys[::2], "model-2.safetensors": keys[1::2]}
    for file, names in parts.items():
        save_file({name: state[name] for name in names}, folder / file)
    index = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert encoding_error(load(folder), CTC) < 1e-4
    index[keys[0]] = "../model-1.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(CheckpointError, match="points elsewhere"):
        load(folder)


def test_pickled_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert encoding_error(load(folder), CTC) < 1e-4


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_a_malicious_pickle_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil(tmp_path / "pwned")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        load(folder)
    assert not (tmp_path / "pwned").exists()


def test_a_preprocessor_config_serves_as_well(folder: Path) -> None:
    values = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    extractor = values["feature_extractor"] | {"preemphasis": 0.5}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    assert load(folder).config.features.preemphasis == 0.5


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("whisper", "Whisper model"),
        ("canary", "Canary"),
        ("nemotron3_diarization", "diarisation"),
        ("llama", "'llama' is not run"),
        ("", "without model_type"),
    ],
)
def test_other_families_are_refused_by_name(folder: Path, model_type: str, said: str) -> None:
    edit(folder, model_type=model_type)
    with pytest.raises(CheckpointError, match=said):
        load(folder)


def test_speech_language_models_are_refused_by_name(folder: Path) -> None:
    edit(folder, model_type="", pretrained_llm="x/y")
    with pytest.raises(CheckpointError, match="SALM"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hiden_size": 3}, "encoder_config.hiden_size; the nearest known key is hidden_size"),
        ({"hidden_act": "gelu"}, "only silu is run"),
        ({"intermediate_size": 7}, "no multiple"),
        ({"num_mel_bins": 64}, "64 mel bins"),
        ({"num_hidden_layers": 9}, "missing"),
        ({"num_attention_heads": 5}, "not valid"),
    ],
)
def test_an_encoder_that_cannot_be_is_named(folder: Path, change: Any, said: str) -> None:
    values = json.loads((folder / "config.json").read_text())
    edit(folder, encoder_config=values["encoder_config"] | change)
    with pytest.raises(CheckpointError, match=said):
        load(folder)


def test_an_unknown_key_is_named(folder: Path) -> None:
    edit(folder, vocab_sise=3)
    with pytest.raises(CheckpointError, match="vocab_sise; the nearest known key is vocab_size"):
        load(folder)


@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load(folder)


def test_options_that_the_front_end_lacks_are_named(tmp_path: Path) -> None:
    checkpoint = load(CTC)
    features = dataclasses.replace(checkpoint.config.features, normalize="all_features")
    config = dataclasses.replace(checkpoint.config, features=features)
    with pytest.raises(CheckpointError, match="this front end"):
        save_huggingface(dataclasses.replace(checkpoint, config=config), tmp_path / "x")
