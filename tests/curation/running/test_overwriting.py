"""What a job reads is never written over: refused before the first item, whatever its name."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from auricle.curation import Pipeline, check, readers, run, writers
from auricle.curation.progress import Silent
from auricle.curation.running import runner
from auricle.curation.steps.split import Split
from auricle.errors import ConfigError
from tests.curation.fakes import Rows
from tests.curation.inline import InlineEngine
from tests.curation.synthetic import tone


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "engine_of", lambda name, job, slots: InlineEngine(job, slots))
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four rows, two of them in a part that they name."""
    data = tmp_path / "data"
    data.mkdir()
    sound = tone(data / "tone.wav")
    rows: list[dict[str, Any]] = [
        {"audio_filepath": sound.name, "text": f"row {i}", "speaker": f"s{i}"} for i in range(4)
    ]
    rows[0]["split"] = rows[1]["split"] = "own"
    for name in ("rows.jsonl", "train.jsonl", "own.jsonl"):
        (data / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "link.jsonl").symlink_to("rows.jsonl")
    return data


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("read", "write", "split"),
    [
        ("rows.jsonl", "rows.jsonl", False),
        ("link.jsonl", "rows.jsonl", False),
        ("rows.jsonl", "link.jsonl", False),
        ("train.jsonl", "{split}.jsonl", True),
        ("own.jsonl", "{split}.jsonl", False),  # a part that only the rows name
    ],
)
def test_a_manifest_that_is_read_is_not_replaced(
    tmp_path: Path, data: Path, read: str, write: str, split: bool
) -> None:
    steps = [Split(parts={"train": 0.5, "dev": 0.5})] if split else []
    pipeline = Pipeline(
        "p", [readers.Manifest(str(data / read))], steps, [writers.Manifest(str(data / write))]
    )
    before = files(data)
    with pytest.raises(ConfigError, match=r"would overwrite .*jsonl, which is read: choose"):
        run(pipeline, tmp_path / "job")
    assert files(data) == before
    assert not (tmp_path / "job" / "manifest.jsonl").exists()
    if split or "{" not in write:
        with pytest.raises(ConfigError, match="would overwrite"):
            check(pipeline, tmp_path / "job")


def test_a_jobs_own_manifest_is_nothing_to_read_for_it(tmp_path: Path, data: Path) -> None:
    run(Pipeline("p", [readers.Manifest(str(data / "rows.jsonl"))], []), tmp_path / "job")
    own = tmp_path / "job" / "manifest.jsonl"
    before = own.read_bytes()
    again = Pipeline("p", [readers.Manifest(str(own))], [])
    for doing in (run, check):
        with pytest.raises(ConfigError, match=r"manifest\.jsonl, which is read"):
            doing(again, tmp_path / "job")
    assert own.read_bytes() == before
    assert run(again, tmp_path / "other").kept == 4  # in another folder it is


def test_recordings_in_a_folder_that_would_be_replaced_are_kept(tmp_path: Path, data: Path) -> None:
    tars = writers.Tar(str(tmp_path / "tars"))
    run(Pipeline("p", [readers.Manifest(str(data / "rows.jsonl"))], [], [tars]), tmp_path / "a")
    made = tmp_path / "tars"
    before = files(made)
    rows = made / "tarred_audio_manifest.json"
    for reader in (
        readers.Tar(str(made / "audio_0.tar"), str(rows)),
        readers.Manifest(str(tmp_path / "within.jsonl")),
    ):
        with tarfile.open(made / "audio_0.tar") as tar:
            member = tar.getmembers()[0]
        place = {"tar": str(made / "audio_0.tar"), "tar_offset": 512, "tar_size": member.size}
        row = {"audio_filepath": member.name, **place}
        (tmp_path / "within.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(ConfigError, match="would overwrite"):
            run(Pipeline("p", [reader], [], [tars]), tmp_path / "b")
        assert files(made) == before


def test_a_job_goes_on_where_nothing_of_the_kind_is_read(tmp_path: Path, data: Path) -> None:
    out = writers.Manifest(str(data / "new.jsonl"))
    pipeline = Pipeline("p", [readers.Manifest(str(data / "rows.jsonl"))], [], [out])
    assert [run(pipeline, tmp_path / "job").kept for _ in range(2)] == [4, 4]
    assert run(Pipeline("p", [Rows(3)], [], [out]), tmp_path / "c", watcher=Silent()).kept == 3


def test_a_job_inside_the_folder_that_it_reads_finds_no_more_the_second_time(data: Path) -> None:
    (data / "job" / "audio").mkdir(parents=True)
    (data / "job" / "lock").touch()
    tone(data / "job" / "audio" / "made.wav")
    pipeline = Pipeline("p", [readers.Folder(str(data))], [])
    assert [run(pipeline, data / "job").read for _ in range(2)] == [1, 1]
