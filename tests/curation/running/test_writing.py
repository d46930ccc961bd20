"""What writers leave in a job: nothing of the job's own is touched, nothing of before stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auricle.curation.items import Item
from auricle.curation.running.writing import WRITTEN, check_writers, write_all
from auricle.curation.writers import Manifest, Tar, Writer
from auricle.errors import ConfigError


def rows(**numbers: int) -> list[Item]:
    """So many items of each part."""
    return [
        {"item_id": f"{name}{i}", "audio_filepath": "/a.wav", "split": name}
        for name, count in numbers.items()
        for i in range(count)
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "stages")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["filtered.jsonl"], "filtered.jsonl is the job's own"),
        (["a/../manifest.jsonl"], "manifest.jsonl is the job's own"),
        (["audio/all.jsonl"], "audio/all.jsonl is the job's own"),
        (["all.jsonl", "./all.jsonl"], "in each other's way"),
        (["shards/all.jsonl", "shards"], "in each other's way"),
    ],
)
def test_paths_that_cannot_be_are_refused_before_a_job(
    tmp_path: Path, paths: list[str], message: str
) -> None:
    writers: list[Writer] = [Manifest(p) if p.endswith(".jsonl") else Tar(p) for p in paths]
    with pytest.raises(ConfigError, match=message):
        check_writers(writers, tmp_path)


def test_a_part_may_not_have_the_name_of_what_is_the_jobs_own(tmp_path: Path) -> None:
    own = tmp_path / "filtered.jsonl"
    own.write_text("mine")
    with pytest.raises(ConfigError, match="the job's own"):
        write_all([Manifest("{split}.jsonl")], rows(train=1, filtered=1), tmp_path)
    assert names(tmp_path) == ["filtered.jsonl"] and own.read_text() == "mine"


def test_nothing_stays_of_parts_and_writers_that_there_are_no_more(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("of the user")
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere.jsonl")
    writers = [Manifest("{split}.jsonl"), Manifest("deep/all.jsonl"), Manifest(str(elsewhere))]
    write_all(writers, rows(train=2, test=1), tmp_path)
    assert names(tmp_path) == ["deep", "notes.jsonl", "test.jsonl", "train.jsonl"]
    write_all(writers[:1], rows(train=2, dev=1), tmp_path)
    assert names(tmp_path) == ["deep", "dev.jsonl", "notes.jsonl", "train.jsonl"]
    assert names(tmp_path / "deep") == [] and elsewhere.exists()
    assert json.loads((tmp_path / WRITTEN).read_text()) == ["dev.jsonl", "train.jsonl"]
    write_all([], [], tmp_path)
    assert names(tmp_path) == ["deep", "notes.jsonl"]


def test_a_kill_leaves_nothing_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    write_all([Manifest("{split}.jsonl")], rows(train=1, test=1), tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Manifest, "write", killed)
        write_all([Manifest("other.jsonl")], rows(train=1), tmp_path)
    (tmp_path / "other.jsonl").touch()
    write_all([Manifest("{split}.jsonl")], rows(train=1), tmp_path)
    assert names(tmp_path) == ["train.jsonl"]


def test_a_folder_that_no_writer_made_stays(tmp_path: Path) -> None:
    write_all([Manifest("all.jsonl")], rows(train=1), tmp_path)
    (tmp_path / "all.jsonl").unlink()
    (tmp_path / "all.jsonl").mkdir()
    write_all([], [], tmp_path)
    assert names(tmp_path) == ["all.jsonl"]
