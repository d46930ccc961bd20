"""Duplicates by sound, in any container, and by words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle import audio
from auricle.curation.items import Filtered, Item, Outcome, Quarantined
from auricle.curation.step import Place
from auricle.curation.steps.duplicates import KEY, Duplicates, Fingerprint, Firsts
from auricle.errors import ConfigError
from tests.training.speech import tone, wav
from tests.training.test_tar import write_tar


def hashes(folder: Path, items: list[Item]) -> list[Outcome]:
    return list(Fingerprint().open(Place(folder))(items))


def hash_of(folder: Path, item: Item) -> str:
    (one,) = hashes(folder, [item])
    assert isinstance(one, dict)
    assert one == {**item, KEY: one[KEY]}
    return str(one[KEY])


def decided(items: list[Item], **options: Any) -> list[Outcome]:
    return list(Firsts(**options).decide(items))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_same_samples_are_found_in_another_container(tmp_path: Path, rate: int) -> None:
    samples = np.random.default_rng(1).integers(-9000, 9000, 3 * rate).astype(np.int16)
    for name in ("a.wav", "a.flac"):
        with (tmp_path / name).open("w+b") as file:
            suffix: Any = Path(name).suffix[1:]
            audio.write(file, [samples.astype(np.float32) / 32768], rate, suffix)
    content = (tmp_path / "a.wav").read_bytes()
    write_tar(tmp_path / "a.tar", {"x.wav": content})
    member = {"audio_filepath": "x.wav", "tar": "a.tar", "tar_offset": 512}
    items: list[Item] = [
        {"audio_filepath": "a.wav"},
        {"audio_filepath": str(tmp_path / "a.flac")},
        {**member, "tar_size": len(content)},
        {"audio_filepath": "a.wav", "offset": 0.0, "duration": 3.0},
    ]
    assert len({hash_of(tmp_path, item) for item in items}) == 1
    stretch = hash_of(tmp_path, {"audio_filepath": "a.wav", "offset": 1.0, "duration": 1.0})
    assert stretch == hash_of(tmp_path, {**items[1], "offset": 1.0, "duration": 1.0})
    assert stretch != hash_of(tmp_path, items[0])
    louder = samples.copy()
    louder[-1] += 1  # the least that can be
    with (tmp_path / "b.wav").open("w+b") as file:
        audio.write(file, [louder.astype(np.float32) / 32768], rate, "wav")
    assert hash_of(tmp_path, {"audio_filepath": "b.wav"}) != hash_of(tmp_path, items[0])


def test_damaged_sound_is_quarantined_alone(tmp_path: Path) -> None:
    (tmp_path / "good.wav").write_bytes(wav(tone(0.5)))
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    bad, good, none = hashes(
        tmp_path, [{"audio_filepath": name} for name in ("bad.wav", "good.wav", "none.wav")]
    )
    assert isinstance(bad, Quarantined) and bad.reason and "bad.wav" in bad.detail
    assert isinstance(good, dict)
    assert isinstance(none, Quarantined)


def test_the_first_stays_and_is_named() -> None:
    one, other = "1" * 32, "2" * 32
    items = [{"item_id": str(i), KEY: h} for i, h in enumerate([one, other, one, one, "3" * 32])]
    found = decided(items, by=("audio",))
    assert found == [
        items[0],
        items[1],
        Filtered(items[2], "duplicate audio", "of item 0"),
        Filtered(items[3], "duplicate audio", "of item 0"),
        items[4],
    ]


def test_words_are_compared_as_they_are_spoken() -> None:
    texts = ["Well, yes!", "well yes", "", None, "", "well-yes", "no"]
    items: list[Item] = [{"item_id": str(i), "said": t} for i, t in enumerate(texts)]
    items.append({"item_id": "7"})
    found = decided(items, by=("text",), text="said")
    kept = [one["item_id"] for one in found if isinstance(one, dict)]
    assert kept == ["0", "2", "3", "4", "6", "7"]
    assert [one.detail for one in found if isinstance(one, Filtered)] == ["of item 0", "of item 0"]


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", "c", ""]))))
def test_every_item_dropped_is_like_one_that_stays(pairs: list[tuple[int, str]]) -> None:
    items: list[Item] = [
        {"item_id": str(i), KEY: f"{h:032x}", "text": text} for i, (h, text) in enumerate(pairs, 1)
    ]
    found = decided(items, by=("audio", "text"))
    kept = {one["item_id"]: one for one in found if isinstance(one, dict)}
    seen: list[Item] = []
    for item, one in zip(items, found, strict=True):
        like = [
            other
            for other in seen
            if other[KEY] == item[KEY] or (item["text"] and other["text"] == item["text"])
        ]
        assert isinstance(one, dict) == (not like)
        if isinstance(one, Filtered):
            holder = kept[one.detail.rpartition("item ")[2]]
            key = KEY if one.reason == "duplicate audio" else "text"
            assert holder[key] == item[key]
        else:
            seen.append(item)


def test_sound_is_only_read_where_it_is_compared() -> None:
    assert Duplicates().nodes() == [Fingerprint(), Firsts(("audio",))]
    assert Duplicates(by="text").nodes() == [Firsts(("text",))]
    assert Duplicates(by=("text", "audio")).nodes() == [Fingerprint(), Firsts(("text", "audio"))]
    for by in ((), ("sound",)):
        with pytest.raises(ConfigError, match="by is audio, text or both"):
            Duplicates(by=by).nodes()  # type: ignore[arg-type]


def test_the_examples_hold(tmp_path: Path) -> None:
    (example,) = Fingerprint().examples
    assert example.sound is not None
    with (tmp_path / "a.wav").open("w+b") as file:
        audio.write(file, [example.sound()], example.sample_rate, "wav")
    assert hash_of(tmp_path, {"audio_filepath": "a.wav"}) == example.gives[0][KEY]  # type: ignore[index]
    (whole,) = Firsts(("text",)).examples
    items = [{**item, "item_id": str(i)} for i, item in enumerate(whole.items)]
    found = [
        one.reason if isinstance(one, Filtered) else {} for one in decided(items, by=("text",))
    ]
    assert found == whole.gives
