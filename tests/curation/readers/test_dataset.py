"""Hugging Face data sets as items: sound that they hold becomes files, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auricle import audio
from auricle.curation.readers import BadRow, Dataset
from auricle.curation.sound import read_sound
from auricle.curation.step import Place
from auricle.errors import ConfigError
from tests.training.speech import clip, tone, wav

datasets = pytest.importorskip("datasets")

STORED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and a cache of this test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Three rows with sound, of which two are equal, one without, and one whose file is there."""
    sounds = [wav(tone(0.3, 300)), wav(tone(0.4, 400)), wav(tone(0.3, 300))]
    stored = [{"bytes": one, "path": f"{i}.wav"} for i, one in enumerate(sounds)]
    here = clip(tmp_path, "here.wav", 0.5)
    stored += [{"bytes": None, "path": None}, {"bytes": None, "path": str(here)}]
    data = {
        "audio": stored,
        "text": [f"say {i}" for i in range(5)],
        "sex": [0, 1, 0, 1, 0],
        "words": [[{"word": "say"}]] * 5,
    }
    features = {
        "audio": STORED,
        "text": datasets.Value("string"),
        "sex": datasets.ClassLabel(names=["f", "m"]),
        "words": [{"word": datasets.Value("string")}],
    }
    made = datasets.Dataset.from_dict(data, features=datasets.Features(features))
    path = tmp_path / "set/data/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    made.cast_column("audio", datasets.Audio()).to_parquet(path)
    return tmp_path / "set"


@pytest.mark.parametrize("streaming", [False, True])
def test_sound_is_written_once_by_its_content(parquet: Path, streaming: bool) -> None:
    out = parquet.parent / "out"
    rows = list(Dataset(str(parquet), streaming=streaming).items(out))
    assert [isinstance(row, BadRow) for row in rows] == [False, False, False, True, False]
    items = [row for row in rows if not isinstance(row, BadRow)]
    assert [(item["text"], item["sex"]) for item in items] == [
        ("say 0", "f"),
        ("say 1", "m"),
        ("say 2", "f"),
        ("say 4", "f"),
    ]
    names = [item["audio_filepath"] for item in items]
    assert names[0] == names[2] != names[1]
    assert names[3] == str(parquet.parent / "here.wav")  # which stays where it lies
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert written == sorted({*names[:2]})
    assert all(name.startswith("audio/") and name.endswith(".wav") for name in written)
    assert np.array_equal(read_sound(items[1], Place(out)), audio.read(wav(tone(0.4, 400))))
    before = [(out / name).stat().st_mtime_ns for name in written]
    assert list(Dataset(str(parquet), streaming=streaming).items(out)) == rows
    assert [(out / name).stat().st_mtime_ns for name in written] == before


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_are_chosen(parquet: Path, streaming: bool) -> None:
    out = parquet.parent / "out"
    reader = Dataset(str(parquet), streaming=streaming, columns=("words",))
    item = next(reader.items(out))
    assert not isinstance(item, BadRow)
    assert set(item) == {"audio_filepath", "text", "words"}
    assert item["words"] == [{"word": "say"}]
    untold = next(Dataset(str(parquet), streaming=streaming, text_column="").items(out))
    assert not isinstance(untold, BadRow)
    assert untold["text"] == "say 0"  # a column like any other
    with pytest.raises(ConfigError, match="has no column 'word'; set columns to one of"):
        list(Dataset(str(parquet), streaming=streaming, columns=("word",)).items(out))


def test_a_folder_with_metadata_is_read_where_it_lies(tmp_path: Path) -> None:
    path = clip(tmp_path, "set/a.wav", 0.3)
    (tmp_path / "set/metadata.csv").write_text("file_name,speaker\na.wav,x\n")
    (item,) = Dataset(str(tmp_path / "set"), text_column="").items(tmp_path / "out")
    assert item == {"audio_filepath": str(path), "file_name": "a.wav", "speaker": "x"}
