from __future__ import annotations

import io
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from auricle.checkpoints import nemo_archive
from auricle.checkpoints.nemo_archive import CONFIG, WEIGHTS, open_archive, write_archive
from auricle.errors import CheckpointError

from .archives import gzipped, pickled, tar_of, with_item

STATE = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "a.half": torch.arange(5).to(torch.bfloat16),
    "a.count": torch.tensor(7),
    "a.turned": torch.arange(6.0).reshape(2, 3).t(),
    "a.empty": torch.empty(0),
}
MEMBERS = {CONFIG: b"target: x\n", WEIGHTS: pickled(STATE), "vocab.txt": b"a\n"}


class Evil:
    """Unpickling this would write a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.nemo"
    path.write_bytes(content)
    return path


def assert_state(path: Path) -> None:
    with open_archive(path) as archive:
        assert archive.read(CONFIG) == MEMBERS[CONFIG]
        state = archive.weights()
    assert list(state) == list(STATE)
    for key, value in STATE.items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("prefix", ["./", ""])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_form_reads_alike(
    tmp_path: Path, prefix: str, legacy: bool, compressed: bool
) -> None:
    content = tar_of({**MEMBERS, WEIGHTS: pickled(STATE, legacy=legacy)}, prefix=prefix)
    assert_state(written(tmp_path, gzipped(content) if compressed else content))


@pytest.mark.parametrize("legacy", [False, True])
def test_an_unpacked_folder_reads_alike(tmp_path: Path, legacy: bool) -> None:
    for name, content in {**MEMBERS, WEIGHTS: pickled(STATE, legacy=legacy)}.items():
        (tmp_path / name).write_bytes(content)
    assert_state(tmp_path)


def test_tensors_of_a_plain_archive_are_views_of_the_file(tmp_path: Path) -> None:
    with open_archive(written(tmp_path, tar_of(MEMBERS))) as archive:
        state = archive.weights()
    distance = state["a.half"].data_ptr() - state["a.weight"].data_ptr()
    assert 0 < distance < len(MEMBERS[WEIGHTS])
    state["a.weight"][0, 0] = 99.0  # a private copy of the page, never the file
    assert_state(tmp_path / "model.nemo")


def test_tensors_are_read_where_torch_does_not_tell_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nemo_archive, "_load_mapped", lambda member: None)
    assert_state(written(tmp_path, tar_of(MEMBERS)))


def test_shared_storage_stays_right(tmp_path: Path) -> None:
    base = torch.arange(10.0)
    state = {"one": base[2:5], "two": base, "three": base.reshape(2, 5).t()}
    path = written(tmp_path, tar_of({**MEMBERS, WEIGHTS: pickled(state)}))
    with open_archive(path) as archive:
        read = archive.weights()
    assert all(torch.equal(read[key], value) for key, value in state.items())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_malicious_pickle_is_refused_and_not_run(
    tmp_path: Path, legacy: bool, compressed: bool
) -> None:
    mark = tmp_path / "pwned"
    content = tar_of({**MEMBERS, WEIGHTS: pickled({"a": Evil(mark)}, legacy=legacy)})
    path = written(tmp_path, gzipped(content) if compressed else content)
    refusal = "nothing of it was run.*unsupported .*system"
    with open_archive(path) as archive, pytest.raises(CheckpointError, match=refusal):
        archive.weights()
    assert not mark.exists()


def test_a_pickle_that_torch_never_wrote_is_refused_in_one_line(tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    path = written(tmp_path, tar_of({**MEMBERS, WEIGHTS: pickle.dumps(Evil(mark), protocol=4)}))
    with warnings.catch_warnings(), open_archive(path) as archive:
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match="nothing of it was run"):
            archive.weights()
    assert not mark.exists()


def test_weights_only_holds_against_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark = tmp_path / "pwned"
    path = written(tmp_path, tar_of({**MEMBERS, WEIGHTS: pickled({"a": Evil(mark)})}))
    with open_archive(path) as archive, pytest.raises(CheckpointError):
        archive.weights()
    assert not mark.exists()


@pytest.mark.parametrize("state", [[1, 2], {"a": "text"}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_weights_that_are_no_state_dict_are_refused(tmp_path: Path, state: object) -> None:
    path = written(tmp_path, tar_of({**MEMBERS, WEIGHTS: pickled(state)}))
    with open_archive(path) as archive, pytest.raises(CheckpointError, match="no dictionary"):
        archive.weights()


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(MEMBERS[WEIGHTS])) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    path = written(tmp_path, tar_of({**MEMBERS, WEIGHTS: buffer.getvalue()}))
    with open_archive(path) as archive, pytest.raises(CheckpointError, match="compressed"):
        archive.weights()


def item(name: str, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        item("../escape"),
        item("./a/../../escape"),
        item("/etc/passwd"),
        item("C:\\windows\\x"),
        item("./link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        item("./hard", type=tarfile.LNKTYPE, linkname="x"),
        item("./device", type=tarfile.CHRTYPE),
        item("./pipe", type=tarfile.FIFOTYPE),
    ],
    ids=lambda value: value.name,
)
def test_a_hostile_member_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    path = written(tmp_path, with_item(hostile))
    with pytest.raises(CheckpointError, match="hostile"), open_archive(path):
        pass


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemo_archive, "MAX_MEMBERS", 2)
    path = written(tmp_path, tar_of(MEMBERS))
    with pytest.raises(CheckpointError, match="over 2 members"), open_archive(path):
        pass


def test_an_artefact_of_absurd_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nemo_archive, "MAX_ARTEFACT", 1)
    with (
        open_archive(written(tmp_path, tar_of(MEMBERS))) as archive,
        pytest.raises(CheckpointError, match="claims"),
    ):
        archive.read("vocab.txt")


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemo_archive, "GROWTH_FLOOR", 2**20)
    content = tar_of({CONFIG: b"a", WEIGHTS: bytes(2**23)})
    path = written(tmp_path, gzipped(content))
    with pytest.raises(CheckpointError, match="unpacks to over"), open_archive(path):
        pass


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, part: float, compressed: bool) -> None:
    content = tar_of(MEMBERS)[: -20 * 512]  # without the padding behind the last member
    content = gzipped(content) if compressed else content
    path = written(tmp_path, content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=r"truncated|has no"), open_archive(path) as archive:
        archive.weights()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>" * 50, "neither tar nor"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(CheckpointError, match=said), open_archive(path):
        pass


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, tar_of({CONFIG: b"a: 1"}))
    with open_archive(path) as archive:
        with pytest.raises(CheckpointError, match="has no model_weights"):
            archive.weights()
        with pytest.raises(CheckpointError, match=r"has no vocab\.txt"):
            archive.read("vocab.txt")


def test_artefacts_are_found_by_the_rules_of_the_format(tmp_path: Path) -> None:
    hashed = "0" * 32 + "_tokenizer.model"
    path = written(tmp_path, tar_of({"vocab.txt": b"", hashed: b""}))
    with open_archive(path) as archive:
        assert archive.find(f"nemo:{hashed}") == hashed
        assert archive.find("/data/tokenizers/en/vocab.txt") == "vocab.txt"
        assert archive.find("/data/tokenizers/en/tokenizer.model") == hashed
        assert archive.find("nemo:tokenizer.vocab") is None
        assert archive.find("") is None


def test_writing_is_deterministic_and_reads_back(tmp_path: Path) -> None:
    one, two = tmp_path / "one.nemo", tmp_path / "deep" / "two.nemo"
    for path in (one, two):
        write_archive(path, MEMBERS[CONFIG], STATE, {"vocab.txt": b"a\n"})
    assert one.read_bytes() == two.read_bytes()
    assert_state(one)
    with tarfile.open(one) as tar:
        assert tar.getnames() == ["./model_config.yaml", "./vocab.txt", "./model_weights.ckpt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = written(tmp_path, b"old")
    with pytest.raises(Exception):  # noqa: B017
        write_archive(path, b"a: 1", {"a": lambda: None}, {})  # type: ignore[dict-item]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.nemo"]
