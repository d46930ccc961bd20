"""Written Hugging Face data sets: loaded by the library, and by both readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.curation import readers
from auricle.curation.items import Item
from auricle.curation.writers import HuggingFace
from auricle.errors import ConfigError
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import open_sources
from tests.curation.writers.speech import EXPECTED, Failing, content, items

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and a cache of this test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def loaded(path: Path) -> Any:
    return datasets.load_dataset(str(path))


def test_the_library_loads_it(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    HuggingFace("set").write(given, job)
    found = loaded(job / "set")
    assert set(found) == {"train", "dev"}
    assert found["dev"].features["audio"] == datasets.Audio()
    rows = {
        row["n"]: row
        for split in found.values()
        for row in split.cast_column("audio", datasets.Audio(decode=False))
    }
    for item, expected in zip(given, EXPECTED, strict=True):
        row = rows[item["n"]]
        assert row["audio"]["path"].startswith(item["item_id"])
        sound = audio.read(row["audio"]["bytes"])
        np.testing.assert_allclose(sound, expected / 32768, atol=0.6 / 32768)
        assert row["duration"] == len(expected) / 16_000
        assert (row["text"], row["split"]) == (item["text"], item["split"])
        assert row["score"] == item.get("score") and row["speaker"] == item.get("speaker")
        assert row["words"] == item.get("words")
        assert "tar" not in row and "offset" not in row


def test_both_readers_read_it(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    HuggingFace("set", format="flac").write(given, job)
    recipe = SourceRecipe(dataset=str(job / "set"), split="train")
    (source,) = open_sources([recipe], DataRecipe())
    found = list(source.items())
    assert [item.text for item in found] == ["say 0", "say 1", "say 3"]
    assert np.array_equal(found[1].sound.read(16_000), EXPECTED[1].astype(np.float32) / 32768)
    again = list(readers.Dataset(str(job / "set"), split="dev").items(tmp_path / "next"))
    assert [item["n"] for item in again if not isinstance(item, readers.BadRow)] == [2, 4]


def test_files_are_numbered_and_the_same_each_time(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    many: list[Item] = [
        {**given[0], "item_id": f"{i:032x}", "n": i, "split": "train"} for i in range(120)
    ]
    HuggingFace("set", format="wav", megabytes=2).write(many, job)
    before = content(job)
    names = sorted(name for name in before if name.endswith(".parquet"))
    assert names == [f"set/data/train-{i:05d}-of-00002.parquet" for i in range(2)]
    assert loaded(job / "set")["train"]["n"] == list(range(120))
    HuggingFace("set", format="wav", megabytes=2).write(many, job)
    assert content(job) == before


def test_values_of_several_kinds_are_told_as_json(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    mixed = [1, "one", None, {"a": 1}, 2.5]
    rows = [
        {**item, "mixed": value, "none": None, "empty": {}, "list": []}
        for item, value in zip(given, mixed, strict=True)
    ]
    del rows[2]["mixed"]
    HuggingFace("set").write(rows, job)
    found = loaded(job / "set").remove_columns("audio")
    told = {row["n"]: row for split in found.values() for row in split}
    assert [told[i]["mixed"] for i in range(5)] == ["1", '"one"', None, '{"a":1}', "2.5"]
    assert told[0]["empty"] == "{}" and told[0]["list"] == "[]" and told[0]["none"] == "null"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    before = content(tmp_path)
    for at_pass in (1, 2):
        with pytest.raises(OSError, match="No space"):
            HuggingFace("set").write(Failing(given, at_pass), job)
        assert content(tmp_path) == before
    with pytest.raises(ConfigError, match="rename the items' key"):
        HuggingFace("set").write([{**given[0], "audio": 1}], job)
    with pytest.raises(ConfigError, match="no name of a part"):
        HuggingFace("set").write([{**given[0], "split": "a-b"}], job)
    assert content(tmp_path) == before
