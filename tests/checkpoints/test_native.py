from __future__ import annotations

import dataclasses
import filecmp
import json
from pathlib import Path

import pytest
import torch

from auricle.checkpoints import FORMATS, Checkpoint, load, save
from auricle.errors import CheckpointError, ConfigError, ModelNotFound

from .goldens import NEMO, nemo


@pytest.fixture
def checkpoint() -> Checkpoint:
    return load(nemo("hybrid_tdt_ctc"))


@pytest.mark.parametrize("path", NEMO, ids=lambda path: path.stem)
def test_saved_and_loaded_is_the_same(path: Path, tmp_path: Path) -> None:
    checkpoint = load(path)
    save(checkpoint, tmp_path / "one")
    again = load(tmp_path / "one", name=checkpoint.name)
    assert again.config == checkpoint.config
    assert again.origin == checkpoint.origin
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces
    assert again.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(again.tensors[k], v) for k, v in checkpoint.tensors.items())
    save(again, tmp_path / "two")
    names = [file.name for file in (tmp_path / "one").iterdir()]
    _, different, _ = filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", names, shallow=False)
    assert not different
    assert len(list((tmp_path / "two").iterdir())) == len(names)


def test_a_nemo_written_by_way_of_our_format_loses_nothing(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save(checkpoint, tmp_path / "direct.nemo")
    save(checkpoint, tmp_path / "ours")
    save(load(tmp_path / "ours"), tmp_path / "around.nemo")
    assert (tmp_path / "direct.nemo").read_bytes() == (tmp_path / "around.nemo").read_bytes()


def test_a_folder_is_replaced_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save(checkpoint, tmp_path / "model")
    (tmp_path / "model" / "stale.txt").write_text("old")
    save(checkpoint, tmp_path / "model")
    assert not (tmp_path / "model" / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_whoever_may_read_the_folder_may_read_its_files(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save(checkpoint, tmp_path / "saved")
    (tmp_path / "any").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "saved").iterdir()}
    assert modes == {(tmp_path / "any").stat().st_mode}


def test_other_folders_are_never_replaced(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        save(checkpoint, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_a_failed_save_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = dataclasses.replace(checkpoint, origin={"nemo": {1, 2}})  # no JSON
    with pytest.raises(TypeError):
        save(broken, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_does_not_fit_is_not_written(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    tensors = dict(checkpoint.tensors)
    tensors.pop("ctc.bias")
    for format in FORMATS:
        with pytest.raises(CheckpointError, match=r"ctc\.bias"):
            save(dataclasses.replace(checkpoint, tensors=tensors), tmp_path / "x", format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"{", "no JSON"),
        ("config.json", b"[]", "no JSON object"),
        ("model.safetensors", b"", "truncated or damaged"),
        ("model.safetensors", b"\xff" * 64, "truncated or damaged"),
        ("model.safetensors", None, "is missing"),
        ("tokenizer.model", None, "is missing"),
        ("tokenizer.model", b"x", "cannot be read"),
        ("origin.json", b"x", "no JSON"),
    ],
)
def test_damage_is_named(
    checkpoint: Checkpoint, tmp_path: Path, file: str, content: bytes | None, said: str
) -> None:
    save(checkpoint, tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    if content is not None:
        (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_version_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save(checkpoint, tmp_path / "model")
    edit(tmp_path / "model", version=99)
    with pytest.raises(CheckpointError, match="version 99"):
        load(tmp_path / "model")


def test_an_unknown_key_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save(checkpoint, tmp_path / "model")
    edit(tmp_path / "model", model=checkpoint.config.to_dict() | {"vocab_sise": 3})
    with pytest.raises(CheckpointError, match="vocab_sise; nearest is vocab_size"):
        load(tmp_path / "model")


@pytest.mark.parametrize("key", ["model", "tokenizer"])
def test_a_missing_part_is_named(checkpoint: Checkpoint, tmp_path: Path, key: str) -> None:
    save(checkpoint, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    values = json.loads(path.read_text())
    del values[key]
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=key):
        load(tmp_path / "model")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_tokenizer_files_lie_in_the_folder(
    checkpoint: Checkpoint, tmp_path: Path, name: str
) -> None:
    save(checkpoint, tmp_path / "model")
    edit(tmp_path / "model", tokenizer={"kind": "sentencepiece", "files": [name]})
    with pytest.raises(CheckpointError, match="points elsewhere"):
        load(tmp_path / "model")


def test_what_is_nowhere_or_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="does not exist"):
        load(tmp_path / "nowhere.nemo")
    with pytest.raises(CheckpointError, match="neither"):
        load(tmp_path)
    for name in ("a.nemo", "b.nemo"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"2 \.nemo files"):
        load(tmp_path)


def test_an_unknown_format_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'onyx'"):
        save(checkpoint, tmp_path / "x", format="onyx")
