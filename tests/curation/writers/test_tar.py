"""Written tars: NeMo's layout, read back by both readers; the same bytes, whole or not at all."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from auricle.audio import SAMPLE_RATE
from auricle.curation import readers
from auricle.curation.items import Item
from auricle.curation.sound import read_sound
from auricle.curation.step import Place
from auricle.curation.writers import Tar
from auricle.errors import AudioError, ConfigError
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import open_sources
from tests.curation.writers.speech import EXPECTED, Failing, content, items

LAYOUT = [
    ".auricle",
    "audio_0.tar",
    "audio_1.tar",
    "audio_2.tar",
    "sharded_manifests/manifest_0.json",
    "sharded_manifests/manifest_1.json",
    "sharded_manifests/manifest_2.json",
    "tarred_audio_manifest.json",
]


@pytest.mark.parametrize("manifest", ["tarred_audio_manifest", "sharded_manifests/manifest_{0..2}"])
def test_training_reads_what_is_written(tmp_path: Path, manifest: str) -> None:
    given, job = items(tmp_path)
    Tar("out", items=2).write(given, job)
    assert sorted(content(job / "out")) == LAYOUT
    recipe = SourceRecipe(
        manifest=str(job / f"out/{manifest}.json"), tar=str(job / "out/audio__OP_0..2_CL_.tar")
    )
    (source,) = open_sources([recipe], DataRecipe())
    found = list(source.items())
    assert [item.text for item in found] == [f"say {i}" for i in range(5)]
    for item, expected in zip(found, EXPECTED, strict=True):
        assert item.duration == len(expected) / SAMPLE_RATE
        sound = item.sound.read(SAMPLE_RATE)
        np.testing.assert_allclose(sound, expected / 32768, atol=0.6 / 32768)
        assert "tar" not in item.data


def test_curation_reads_it_again(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Tar("out", items=2, format="flac").write(given, job)
    reader = readers.Tar(
        str(job / "out/audio_{0..2}.tar"), str(job / "out/sharded_manifests/manifest_{0..2}.json")
    )
    for before, item, expected in zip(given, reader.items(job), EXPECTED, strict=True):
        assert not isinstance(item, readers.BadRow)
        assert item["n"] == before["n"] and item["audio_filepath"].endswith(".flac")
        sound = read_sound(item, Place(job))
        np.testing.assert_allclose(sound, expected / 32768, atol=0.6 / 32768)


def test_rows_say_what_nemo_wants_to_know(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Tar("out", items=None, hours=1.5 / 3600).write(given, job)
    shards = []
    for number in range(2):
        path = job / f"out/sharded_manifests/manifest_{number}.json"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        with tarfile.open(job / f"out/audio_{number}.tar") as tar:
            members = tar.getmembers()
        assert [m.name for m in members] == [row["audio_filepath"] for row in rows]
        assert all((m.mtime, m.uid, m.uname, m.mode) == (0, 0, "", 0o644) for m in members)
        assert all(row["shard_id"] == number and "offset" not in row for row in rows)
        shards.append([row["text"] for row in rows])
    assert shards == [["say 0", "say 1"], ["say 2", "say 3", "say 4"]]
    together = (job / "out/tarred_audio_manifest.json").read_text()
    assert [json.loads(line)["text"] for line in together.splitlines()] == [
        *shards[0],
        *shards[1],
    ]


def test_each_part_has_a_folder(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Tar("sets/{split}").write(given, job)
    assert sorted(p.name for p in (job / "sets").iterdir()) == ["dev", "train"]
    text = (job / "sets/dev/tarred_audio_manifest.json").read_text()
    assert [json.loads(line)["n"] for line in text.splitlines()] == [2, 4]
    Tar("none").write([], job)
    assert sorted(content(job / "none")) == [".auricle", "tarred_audio_manifest.json"]


def test_done_again_it_is_the_same_and_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    writer = Tar("out", items=2)
    writer.write(given, job)
    before = content(job)
    # What a kill has left.
    (job / ".out.partial").mkdir()
    (job / ".out.partial/audio_9.tar").touch()
    writer.write(given, job)
    assert content(job) == before
    (job / "out").rename(job / ".out.old")
    with pytest.raises(OSError, match="No space"):
        writer.write(Failing(given, 1), job)
    assert content(job) == before
    lost: Item = {**given[1], "audio_filepath": "lost.wav"}
    with pytest.raises(AudioError, match=r"lost\.wav"):
        writer.write([given[0], lost], job)
    assert content(job) == before


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    before = content(job)
    resource = pytest.importorskip("resource")  # Windows has none
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            Tar("out").write(given, job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(job) == before
    assert sorted(path.name for path in job.iterdir()) == ["audio"]


def test_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    (job / "mine").mkdir()
    writer = Tar("mine")
    writer.check(job)  # it is empty
    (job / "mine/thesis.txt").touch()
    for attempt in (lambda: writer.check(job), lambda: writer.write(given, job)):
        with pytest.raises(ConfigError, match="mine is there already"):
            attempt()
    assert list(content(job / "mine")) == ["thesis.txt"]
    for bad in ({"items": 0}, {"hours": -1.0}):
        with pytest.raises(ConfigError, match="must be more than 0"):
            Tar(**bad)  # type: ignore[arg-type]
