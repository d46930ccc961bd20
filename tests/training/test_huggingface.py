"""Hugging Face data sets in the hub's layouts, on disk and streamed, without torchcodec."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.errors import AudioError, ConfigError
from auricle.training.batching import Plan
from auricle.training.huggingface import dataset_rows
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sounds import BytesSound
from auricle.training.sources import Source, open_sources
from tests.training.speech import RATE, tone, wav

datasets = pytest.importorskip("datasets")

COUNT = 12
# What lies in an audio column; written as such, for writing through `Audio` needs torchcodec.
STORED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and a cache of this test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def rows() -> Any:
    """Clips as the hub's Parquet files hold them: bytes, and the name they had."""
    seconds = [round(0.3 + 0.1 * i, 3) for i in range(COUNT)]
    data = {
        "audio": [
            {"bytes": wav(tone(s, 200 + 10 * i)), "path": f"{i}.wav"} for i, s in enumerate(seconds)
        ],
        "text": [f"say {i}" for i in range(COUNT)],
        "gender": [i % 2 for i in range(COUNT)],
        "locale": ["de"] * COUNT,
        "vector": [[1.0, 2.0]] * COUNT,
    }
    features = {
        "audio": STORED,
        "text": datasets.Value("string"),
        "gender": datasets.ClassLabel(names=["female", "male"]),
        "locale": datasets.Value("string"),
        "vector": datasets.Sequence(datasets.Value("float32")),
    }
    made = datasets.Dataset.from_dict(data, features=datasets.Features(features))
    return made.cast_column("audio", datasets.Audio())


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A folder in the hub's layout."""
    for split, first in (("train", 0), ("test", 8)):
        path = tmp_path / f"set/data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows().select(range(first, 8 if split == "train" else COUNT)).to_parquet(path)
    return tmp_path / "set"


def opened(folder: Path, data: DataRecipe | None = None, **source: Any) -> Source:
    recipe = SourceRecipe(dataset=folder.name, **source)
    (found,) = open_sources([recipe], data or DataRecipe(), folder=folder.parent)
    return found


def test_parquet_is_read_and_can_be_sent(parquet: Path) -> None:
    source = opened(parquet)
    items = list(source.items())
    assert [item.text for item in items] == [f"say {i}" for i in range(8)]
    assert [item.duration for item in items] == pytest.approx([0.3 + 0.1 * i for i in range(8)])
    assert items[1].language == "de"
    assert items[1].data == {"gender": "male", "locale": "de"}
    assert items[1].name == "set train row 1 (1.wav)"
    sent = pickle.dumps(items)
    assert len(sent) < 30_000  # an address, and no sound
    for i, item in enumerate(pickle.loads(sent)):
        expected = audio.read(wav(tone(round(0.3 + 0.1 * i, 3), 200 + 10 * i)))
        assert np.array_equal(item.sound.read(RATE), expected)


def test_splits_may_be_sliced_and_filtered(parquet: Path) -> None:
    sliced = list(opened(parquet, split="train[2:4]+test").items())
    assert [item.text for item in sliced] == [f"say {i}" for i in (2, 3, 8, 9, 10, 11)]
    assert len(sliced[-1].sound.read(RATE)) / RATE == pytest.approx(1.4)
    women = opened(parquet, where={"gender": ("female",)})
    assert (women.size, women.dropped) == (4, {"where gender": 4})


def test_a_saved_folder_is_read(tmp_path: Path) -> None:
    rows().save_to_disk(tmp_path / "plain")
    assert opened(tmp_path / "plain").size == COUNT
    parts = datasets.DatasetDict({"train": rows(), "dev": rows().select(range(3))})
    parts.save_to_disk(tmp_path / "parts")
    items = list(opened(tmp_path / "parts", split="dev").items())
    assert [len(item.sound.read(RATE)) for item in items] == [4800, 6400, 8000]
    with pytest.raises(ConfigError, match="has no split 'test'; it has train, dev"):
        opened(tmp_path / "parts", split="test")


def test_a_stream_gives_the_same_in_another_order(parquet: Path) -> None:
    source = opened(parquet, streaming=True)
    assert source.size is None
    items = list(source.items())
    assert items[3].data == {"gender": "male", "locale": "de"}
    assert isinstance(items[3].sound, BytesSound)
    expected = list(opened(parquet).items())
    for item, other in zip(items, expected, strict=True):
        assert (item.text, item.duration, item.data) == (other.text, other.duration, other.data)
        assert np.array_equal(item.sound.read(RATE), other.sound.read(RATE))
    orders = [
        [item.text for item in source.order(np.random.default_rng(seed))] for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert Counter(orders[0]) == Counter(item.text for item in items)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_limit_takes_the_first_rows(parquet: Path, streaming: bool) -> None:
    first = [item.text for item in opened(parquet, streaming=streaming).items()][:3]
    source = opened(parquet, streaming=streaming, limit=3)
    assert [item.text for item in source.items()] == first
    drawn = source.order(np.random.default_rng(0))
    assert sorted(item.text for item in drawn) == sorted(first)


def test_a_stream_is_taken_up_in_the_middle(parquet: Path) -> None:
    data = DataRecipe(batch_seconds=2.0, buckets=2)
    plans = [Plan([opened(parquet, data, streaming=True)], data, seed=3) for _ in range(2)]
    whole, rest = plans[0].batches(), plans[1]
    done = [next(whole) for _ in range(3)]
    again = rest.batches(done[-1].after)
    assert [next(again) for _ in range(5)] == [next(whole) for _ in range(5)]


def test_columns_that_are_not_there_are_named(parquet: Path) -> None:
    for streaming in (False, True):
        with pytest.raises(ConfigError, match=r"no column 'sentence'; set text_column .*audio, te"):
            opened(parquet, text_column="sentence", streaming=streaming)
        with pytest.raises(ConfigError, match="no column 'sound'; set audio_column"):
            opened(parquet, audio_column="sound", streaming=streaming)


def test_what_is_not_there_is_one_line(parquet: Path) -> None:
    with pytest.raises(ConfigError, match=r"set: cannot be read as a data set: .*validation"):
        opened(parquet, split="validation")
    with pytest.raises(ConfigError, match="nobody/nothing: cannot be read as a data set") as caught:
        open_sources([SourceRecipe(dataset="nobody/nothing")], DataRecipe())
    assert "\n" not in str(caught.value)


def test_a_row_without_sound_is_named(tmp_path: Path) -> None:
    data = {"audio": [{"bytes": None, "path": None}, {"bytes": b"no sound", "path": "x.wav"}]}
    features = datasets.Features({"audio": STORED, "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({**data, "text": ["a", "b"]}, features=features)
    made.add_column("duration", [1.0, 1.0]).save_to_disk(tmp_path / "set")
    items = list(opened(tmp_path / "set").items())
    with pytest.raises(AudioError, match="set train row 0: the data set holds no sound"):
        items[0].sound.read(RATE)
    with pytest.raises(AudioError, match=r"set train row 1 \(x\.wav\): not an audio"):
        items[1].sound.read(RATE)


@pytest.mark.parametrize("count", [1, 1000, 1001, 2100])
@pytest.mark.parametrize("other", [None, "lists", "text"])
def test_rows_of_any_number_and_columns_are_all_read(
    tmp_path: Path, count: int, other: str | None
) -> None:
    """A block of rows at a time, whatever columns there are besides the sound."""
    content = {"bytes": wav(tone(0.1)), "path": None}
    columns: dict[str, list[Any]] = {"audio": [content] * count}
    kinds = {"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    if other is not None:
        columns[other] = [[1] if other == "lists" else f"{i}" for i in range(count)]
        kinds[other] = [datasets.Value("int64")] if other == "lists" else datasets.Value("string")
    features = datasets.Features(kinds)
    datasets.Dataset.from_dict(columns, features).save_to_disk(str(tmp_path / "set"))
    source = SourceRecipe(dataset="set", text_column="text" if other == "text" else "")
    rows = list(dataset_rows(source, tmp_path))
    assert [row.text for row in rows] == [f"{i}" * (other == "text") for i in range(count)]
    assert len({row.name for row in rows}) == count


def test_joining_needs_what_is_on_disk(parquet: Path) -> None:
    from auricle.training.recipe import JoinRecipe

    joined = opened(parquet, join=JoinRecipe(by="gender"))
    assert {item.data["gender"] for item in joined.items()} == {"female", "male"}
    with pytest.raises(ConfigError, match="streaming does not go with join"):
        opened(parquet, join=JoinRecipe(by="gender"), streaming=True)
