"""Written manifests: read back by both readers, one for each part, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auricle.audio import SAMPLE_RATE
from auricle.curation import readers
from auricle.curation.writers import Manifest
from auricle.errors import ConfigError
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import open_sources
from tests.curation.writers.speech import EXPECTED, Failing, content, items


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "deep/er/all.json"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    given, job = items(tmp_path)
    Manifest(name).write(given, job)
    found = list(readers.Manifest(str(job / name)).items(job))
    own = {**given[3], "audio_filepath": str(job / "audio/aa/own.wav")}
    assert found == [*given[:3], own, given[4]]
    before = content(job)
    Manifest(name).write(given, job)
    assert content(job) == before


def test_a_part_is_what_training_reads(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Manifest("sets/{split}.jsonl").write(given, job)
    assert sorted(p.name for p in (job / "sets").iterdir()) == ["dev.jsonl", "train.jsonl"]
    (source,) = open_sources([SourceRecipe(manifest=str(job / "sets/train.jsonl"))], DataRecipe())
    found = list(source.items())
    assert [item.text for item in found] == ["say 0", "say 1", "say 3"]
    for item, expected in zip(found, (EXPECTED[0], EXPECTED[1], EXPECTED[3]), strict=True):
        assert np.array_equal(item.sound.read(SAMPLE_RATE), expected.astype(np.float32) / 32768)


def test_own_files_are_named_from_the_manifest_or_the_root(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    outside = tmp_path / "elsewhere/all.jsonl"
    for writer, path, name in (
        (Manifest("all.jsonl"), job / "all.jsonl", "audio/aa/own.wav"),
        (Manifest("a/all.jsonl"), job / "a/all.jsonl", "../audio/aa/own.wav"),
        (Manifest("b.jsonl", absolute=True), job / "b.jsonl", str(job / "audio/aa/own.wav")),
        (Manifest(str(outside)), outside, str(job / "audio/aa/own.wav")),
    ):
        writer.write([given[3]], job)
        assert f'"audio_filepath": "{name}"' in path.read_text()


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Manifest("{split}.jsonl").write(given, job)
    before = content(job)
    changed = [{**item, "text": "new"} for item in given]
    for at_pass in (1, 2, 3):
        with pytest.raises(OSError, match="No space"):
            Manifest("{split}.jsonl").write(Failing(changed, at_pass), job)
        assert content(job) == before


@pytest.mark.parametrize("split", [None, "", "../up", "a/b", 5])
def test_a_part_must_have_a_name(tmp_path: Path, split: object) -> None:
    given, job = items(tmp_path)
    bad = {**given[0], "split": split}
    with pytest.raises(ConfigError, match="split"):
        Manifest("{split}.jsonl").write([given[0], bad], job)
    with pytest.raises(ConfigError, match=r"should end with \.jsonl"):
        Manifest("rows.txt")
