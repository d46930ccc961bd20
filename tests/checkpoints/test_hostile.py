"""What a checkpoint may be wrong in, whatever its form: each is refused in one short line.

Counts are compared with the tensors that are there before anything is built.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import auricle
from auricle import tokenizers
from auricle.checkpoints import checkpoint, load, save
from auricle.checkpoints.nemo_archive import CONFIG, WEIGHTS, open_archive
from auricle.checkpoints.whisper import check_ctranslate2, folder_kind, to_ctranslate2
from auricle.errors import CheckpointError, ConfigError
from auricle.hub.cache import cached
from auricle.training.saving import read_state, write_state
from tests.checkpoints.archives import members_of, pickled, rewritten, state_of, tar_of
from tests.checkpoints.goldens import GOLDEN, nemo
from tests.tiny_whisper import write_tiny_whisper

HUGE = 10**9


def refusal(path: Path) -> str:
    """How `load` refuses it: one line of less than 2 kB."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.isprintable() and len(message.encode()) < 2000
    return message


@pytest.fixture
def huggingface(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "huggingface" / "parakeet_tdt_hf", tmp_path / "hf"))


@pytest.fixture
def native(tmp_path: Path) -> Path:
    path = tmp_path / "native"
    save(load(nemo("fastconformer_rnnt")), path)
    return path


def put(file: Path, place: str, value: Any) -> None:
    """Change one value of a JSON file."""
    values = json.loads(file.read_text())
    node, *_ = [values]
    *keys, last = place.split(".")
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    file.write_text(json.dumps(values))


def nemo_with(name: str, place: str, value: Any, target: Path) -> Path:
    """An archive with one value of its configuration changed."""
    values = yaml.safe_load(members_of(nemo(name))[CONFIG])
    node = values
    *keys, last = place.split(".")
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    return rewritten(nemo(name), target, config=yaml.safe_dump(values, sort_keys=False).encode())


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("networks were built")

    monkeypatch.setattr(checkpoint, "ASR", never)


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("count", [HUGE, 10**30, 500])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("fastconformer_ctc", "encoder.n_layers"),
        ("conformer_rnnt", "decoder.prednet.pred_rnn_layers"),
        ("stateless_rnnt", "decoder.context_size"),
        ("quartznet_char", "encoder.jasper.1.repeat"),
    ],
)
def test_counts_are_bounded_by_the_tensors_before_building(
    name: str, place: str, count: int, tmp_path: Path
) -> None:
    assert refusal(nemo_with(name, place, count, tmp_path / "m.nemo"))


@pytest.mark.parametrize("count", [HUGE, 300])
def test_counts_of_other_formats_are_bounded_too(
    count: int, huggingface: Path, native: Path, nothing_is_built: None
) -> None:
    for path, place in (
        (huggingface, "encoder_config.num_hidden_layers"),
        (native, "model.encoder.n_layers"),
    ):
        put(path / "config.json", place, count)
        assert "layers" in refusal(path)


@pytest.mark.parametrize("value", [2**40, HUGE, -1, 0, 1.5, "512", None, [512], float("inf")])
@pytest.mark.parametrize("key", ["n_fft", "n_mels", "hop_length", "pad_to", "frame_splicing"])
def test_the_front_end_is_bounded(key: str, value: Any, native: Path) -> None:
    if (key, value) == ("pad_to", 0):
        return
    put(native / "config.json", f"model.features.{key}", value)
    assert "features" in refusal(native)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("preprocessor.n_fft", HUGE),
        ("preprocessor.window_size", float("inf")),
        ("preprocessor.window_size", "wide"),
        ("preprocessor.normalize", {"fixed_mean": 1}),
        ("preprocessor.log_zero_guard_value", "huge"),
        ("encoder.dropout", 7),
        ("encoder.d_model", HUGE),
        ("encoder.d_model", -24),
        ("encoder.n_heads", 0),
        ("encoder.subsampling_factor", 2**30),
        ("encoder.ff_expansion_factor", 0.5),
        ("encoder.att_context_size", "all"),
        ("encoder.att_context_size", [2**40, 1]),
        ("encoder.conv_kernel_size", [31]),
        ("encoder", [1, 2]),
        ("decoder", None),
        ("decoder.prednet", 3),
        ("decoder.prednet.pred_hidden", "x" * 100_000),
        ("joint.jointnet.activation", {}),
        ("joint.num_extra_outputs", float("nan")),
        ("decoding", ["greedy"]),
        ("decoding.greedy.max_symbols", 10**12),
        ("loss", 3),
        ("labels", 7),
        ("tokenizer", "bpe"),
        ("tokenizer.type", {"bpe": 1}),
        ("a\nb\x1b[31m", 1),
        ("x" * 100_000, 1),
    ],
)
def test_values_of_the_wrong_kind_are_named(place: str, value: Any, tmp_path: Path) -> None:
    refusal(nemo_with("fastconformer_rnnt", place, value, tmp_path / "m.nemo"))


def test_networks_that_do_not_fit_each_other_are_refused(native: Path) -> None:
    put(native / "config.json", "model.transducer.joint.n_outputs", 7)
    assert "joint.n_outputs is 7" in refusal(native)


def test_durations_and_prompts_are_bounded(tmp_path: Path) -> None:
    for name, place, value in (
        ("parakeet_tdt", "model.transducer.durations", [-1, 0, 1, 2, 3]),
        ("prompt_rnnt", "model.prompt.languages", {"en": 10**6}),
        ("prompt_rnnt", "model.prompt.languages", {"en": "one"}),
    ):
        path = tmp_path / name
        save(load(nemo(name)), path)
        put(path / "config.json", place, value)
        refusal(path)


# What a pickle can hold that is no plain tensor, and what any form can hold that is no weight.
def _quantised(value: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


ODD: dict[str, Callable[[torch.Tensor], Any]] = {
    "sparse": torch.Tensor.to_sparse,
    "meta": lambda value: value.to("meta"),
    "quantised": _quantised,
    "expanded": lambda value: torch.ones(1).expand(value.shape),
    "an object": lambda value: [1, 2],
    "complex": lambda value: value.to(torch.complex64),
}
WRONG: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "int8": lambda value: value.to(torch.int8),
    "bool": lambda value: value > 0,
    "int64": lambda value: value.to(torch.int64),
    "float8": lambda value: value.to(torch.float8_e4m3fn),
    "NaN": lambda value: torch.where(value == value.max(), torch.nan, value),
    "infinite": lambda value: torch.where(value == value.min(), -torch.inf, value),
    "half NaN": lambda value: torch.where(value == value.max(), torch.nan, value).bfloat16(),
    "scalar": lambda value: value.sum(),
    "empty": lambda value: value[:0],
}


@pytest.mark.parametrize("kind", [*ODD, *WRONG])
def test_tensors_that_are_no_weights_are_refused(
    kind: str, tmp_path: Path, huggingface: Path
) -> None:
    change = {**ODD, **WRONG}[kind]
    state: dict[str, Any] = state_of(nemo("fastconformer_ctc"))
    key = "encoder.layers.0.norm_out.weight"
    state[key] = change(state[key])
    archive = rewritten(nemo("fastconformer_ctc"), tmp_path / "m.nemo", weights=pickled(state))
    # PyTorch itself refuses to load quantised ones without their numbers.
    assert key in refusal(archive) or kind in ("an object", "quantised")

    weights = load_file(huggingface / "model.safetensors")
    weights = {name: value.clone() for name, value in weights.items()}
    changed = {**weights, key: change(weights[key])}
    if kind in WRONG:
        save_file(changed, huggingface / "model.safetensors")
        assert key in refusal(huggingface)
    (huggingface / "model.safetensors").unlink()
    torch.save(changed, huggingface / "pytorch_model.bin")
    assert key in refusal(huggingface) or kind == "an object"


def compressed(content: bytes) -> bytes:
    """A zip of the same records, deflated: what swells while it is read."""
    out = io.BytesIO()
    deflated = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(content)) as before, deflated as after:
        for name in before.namelist():
            after.writestr(name, before.read(name))
    return out.getvalue()


def test_every_pickle_that_would_swell_is_refused(huggingface: Path, tmp_path: Path) -> None:
    weights = load_file(huggingface / "model.safetensors")
    weights = {name: value.clone() for name, value in weights.items()}
    (huggingface / "model.safetensors").unlink()
    (huggingface / "pytorch_model.bin").write_bytes(pickled(weights))
    load(huggingface)
    (huggingface / "pytorch_model.bin").write_bytes(compressed(pickled(weights)))
    assert "records are compressed" in refusal(huggingface)

    parts: Any = {"weights": weights, "optimizer": {"a": 1}, "ema": None, "facts": {}}
    state = write_state(tmp_path, 3, parts)
    content = compressed((state / "optimizer.pt").read_bytes())
    (state / "optimizer.pt").write_bytes(content)
    put(state / "state.json", "files", {})
    with pytest.raises(CheckpointError, match="records are compressed"):
        read_state(state)


@pytest.mark.parametrize(
    "places",
    [None, 3, [], "x", {"a": 3}, {"a": ["b"]}, {"a": "../b"}, {"a": None}],
    ids=str,
)
def test_a_map_of_weights_that_is_none(
    places: Any, huggingface: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (huggingface / "model.safetensors").unlink()
    index = huggingface / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    refusal(huggingface)
    # The hub's cache looks at such maps too.
    commit = "0" * 40
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / commit
    shutil.copytree(huggingface, snapshot)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    if places != {"a": "../b"}:
        assert cached("a/b", revision=commit) is None


def test_deep_json_is_refused(huggingface: Path, native: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    for path in (huggingface, native):
        (path / "config.json").write_text(f'{{"model_type": {deep}}}')
        refusal(path)
    assert folder_kind(huggingface) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("way", ["pipe", "folder"])
def test_what_is_no_file_is_never_waited_for(way: str, huggingface: Path, native: Path) -> None:
    for path, names in (
        (huggingface, ("config.json", "tokenizer.json", "model.safetensors")),
        (native, ("config.json", "tokenizer.model", "model.safetensors")),
    ):
        for name in names:
            kept = (path / name).read_bytes()
            (path / name).unlink()
            os.mkfifo(path / name) if way == "pipe" else (path / name).mkdir()
            refusal(path)
            (path / name).unlink() if way == "pipe" else (path / name).rmdir()
            (path / name).write_bytes(kept)
        load(path)


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs pipes with names")
    os.mkfifo(tmp_path / "m.nemo")
    assert "is a pipe" in refusal(tmp_path / "m.nemo")


class PanicException(BaseException):
    """As pyo3's: no Exception, so that nobody catches it by accident."""


def test_a_panic_of_the_tokenizers_library_is_an_error(
    huggingface: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers as library

    class Panicking:
        @staticmethod
        def from_str(text: str) -> object:
            raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(library, "Tokenizer", Panicking)
    assert "tokenizer.json cannot be read" in refusal(huggingface)
    with pytest.raises(KeyboardInterrupt), tokenizers.panics_refused("x"):
        raise KeyboardInterrupt
    with pytest.raises(ConfigError), tokenizers.panics_refused("x"):
        raise ConfigError("ours stays ours")


@pytest.mark.parametrize("spec", [None, [], {}, {"kind": []}, {"kind": "huggingface", "size": "x"}])
def test_a_tokenizer_that_is_none_is_named(spec: Any, native: Path) -> None:
    put(native / "config.json", "tokenizer", spec)
    refusal(native)
    files = sorted(["tokenizer.model"])
    put(native / "config.json", "tokenizer", {**(spec or {}), "files": files} if spec else files)
    refusal(native)


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save(load(nemo("quartznet_char")), path)
    labels = json.loads((path / "labels.json").read_text())
    (path / "labels.json").write_text(json.dumps(labels[:-1]))
    assert f"the tokenizer has {len(labels) - 1} pieces" in refusal(path)
    (path / "labels.json").write_text(json.dumps([[1], 2]))
    refusal(path)


def test_an_unpacked_folder_of_any_number_of_files_loads(tmp_path: Path) -> None:
    path = tmp_path / "unpacked"
    path.mkdir()
    for name, content in members_of(nemo("conformer_ctc")).items():
        (path / name).write_bytes(content)
    for number in range(4100):  # of names that sort before the others
        (path / f"0{number}").touch()
    with open_archive(path) as archive:
        assert len(archive.names) > 4100
    assert load(path).tensors.keys() == load(nemo("conformer_ctc")).tensors.keys()


@pytest.mark.parametrize("top", ["model/", "./a/b/"])
def test_a_top_folder_of_the_archive_is_no_matter(top: str, tmp_path: Path) -> None:
    members = members_of(nemo("hybrid_rnnt_ctc"))
    path = tmp_path / "repacked.nemo"
    path.write_bytes(tar_of({**members, "._model_config.yaml": b"\0"}, prefix=top))
    assert load(path).config == load(nemo("hybrid_rnnt_ctc")).config
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    assert load(tmp_path / "outer").config == load(nemo("hybrid_rnnt_ctc")).config


@pytest.mark.parametrize("size", [-1, -512, -(10**9), 2**60])
def test_sizes_that_cannot_be_are_refused(size: int, tmp_path: Path) -> None:
    import tarfile

    members = members_of(nemo("conformer_ctc"))
    whole = tar_of(members)
    item = tarfile.TarInfo("./extra")
    item.size = size
    path = tmp_path / "m.nemo"
    path.write_bytes(item.tobuf(tarfile.GNU_FORMAT) + whole)
    refusal(path)


def _saved(value: object, *, legacy: bool = False) -> bytes:
    return pickled(value, legacy=legacy)


LIGHTNING = {"pytorch-lightning_version": "2.4.0", "state_dict": {"a": torch.ones(2)}}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("last.ckpt", _saved(LIGHTNING), "PyTorch Lightning.*save_to"),
        ("last.ckpt", _saved(LIGHTNING, legacy=True), "PyTorch Lightning.*save_to"),
        ("best.pt", _saved(LIGHTNING), "PyTorch Lightning"),
        ("m.pt", _saved({"a": torch.ones(2)}), "a file of PyTorch's.*config"),
        ("m.pth", _saved({"a": torch.ones(2)}, legacy=True), "a file of PyTorch's.*config"),
        ("m.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX export.*nemo"),
        ("m.safetensors", b"\x10" + bytes(7) + b'{"a":1}         ', "safetensors.*folder"),
        ("m.gguf", b"GGUF" + bytes(600), "another program"),
    ],
)
def test_what_people_take_for_a_model_is_named(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    import re

    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert re.search(said, message), message


def test_a_zip_of_a_model_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.nemo", "w") as archive:
        for name, content in members_of(nemo("conformer_ctc")).items():
            archive.writestr(f"m/{name}", content)
    assert "is a zip" in refusal(tmp_path / "m.nemo")


def test_an_adapter_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "nvidia/x"}')
    for path in (folder, tmp_path / "run"):
        message = refusal(path)
        assert "is an adapter" in message and "load nvidia/x" in message
        assert "with_adapter" in message and "--merge" in message


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("adapters", {"__global__": {}, "mine": {"dim": 8}}, r"NeMo's adapters \(mine\)"),
        ("decoder.multisoftmax", True, "AI4Bharat.*decoder.multisoftmax"),
        ("joint.multilingual", True, "AI4Bharat"),
    ],
)
def test_variants_of_known_families_are_named(
    place: str, value: Any, said: str, tmp_path: Path
) -> None:
    import re

    message = refusal(nemo_with("conformer_rnnt", place, value, tmp_path / "m.nemo"))
    assert re.search(said, message), message


@pytest.fixture
def whispers(tmp_path: Path) -> tuple[Path, Path]:
    theirs = write_tiny_whisper(tmp_path / "hf")
    to_ctranslate2(theirs, tmp_path / "ct2")
    return theirs, tmp_path / "ct2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder_layers", HUGE),
        ("decoder_layers", 1e-30),
        ("vocab_size", "many"),
        ("d_model", 17),
        ("activation_function", {}),
        ("encoder_attention_heads", 0),
    ],
)
def test_numbers_of_a_whisper_are_bounded(
    key: str, value: Any, whispers: tuple[Path, Path], tmp_path: Path
) -> None:
    put(whispers[0] / "config.json", key, value)
    with pytest.raises(CheckpointError) as caught:
        to_ctranslate2(whispers[0], tmp_path / "out")
    assert key in str(caught.value) or "d_model" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", WRONG)
def test_tensors_of_a_whisper_are_checked(
    kind: str, whispers: tuple[Path, Path], tmp_path: Path
) -> None:
    tensors = load_file(whispers[0] / "model.safetensors")
    key = "model.encoder.layers.0.fc1.weight"
    save_file({**tensors, key: WRONG[kind](tensors[key])}, whispers[0] / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"fc1\.weight"):
        to_ctranslate2(whispers[0], tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alignment_heads", [[99, 0]]),
        ("alignment_heads", "all"),
        ("suppress_ids", [10**9]),
        ("suppress_ids_begin", [-7]),
        ("lang_ids", ["en"]),
    ],
)
def test_a_ctranslate2_folder_is_looked_at_before_that_library_does(
    key: str, value: Any, whispers: tuple[Path, Path]
) -> None:
    check_ctranslate2(whispers[1])
    put(whispers[1] / "config.json", key, value)
    with pytest.raises(CheckpointError, match=key):
        check_ctranslate2(whispers[1])


def test_nothing_of_a_hostile_file_is_heard(native: Path) -> None:
    """The same by the front door, and the whole path stays open for what is right."""
    samples = np.zeros(8000, np.float32)
    assert auricle.load(native).transcribe(samples, sample_rate=16000).text is not None
    put(native / "config.json", "model.encoder.dropout", "x")
    with pytest.raises(CheckpointError, match="dropout is 'x'; it must be a number of 0 to 1"):
        auricle.load(native)


def test_weights_of_another_name_are_listed_in_one_line(tmp_path: Path) -> None:
    state = state_of(nemo("conformer_ctc"))
    state["a\nb" + "x" * 60_000] = state.pop("encoder.layers.0.norm_out.weight")
    members = {**members_of(nemo("conformer_ctc")), WEIGHTS: pickled(state)}
    (tmp_path / "m.nemo").write_bytes(tar_of(members))
    assert "1 missing" in refusal(tmp_path / "m.nemo")
