"""The sound of items: wherever their rows say it is; and the files that are made of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.curation.sound import heard, keep_sound, read_sound, refused, with_file
from auricle.curation.step import Place
from auricle.errors import AudioError
from tests.audio.media import chirp, encode
from tests.curation.steps.sounding import sound_file


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "job")


def reason_of(item: dict[str, Any], place: Place) -> str:
    with pytest.raises(AudioError) as caught:
        read_sound(item, place)
    return caught.value.reason


def test_a_file_and_a_stretch_of_it(tmp_path: Path, place: Place) -> None:
    name = sound_file(tmp_path / "a.wav", chirp(4.0, 16_000))
    whole = read_sound({"audio_filepath": name}, place)
    assert len(whole) == 4 * 16_000
    stretch = read_sound({"audio_filepath": name, "offset": 1.5, "duration": 2.0}, place)
    np.testing.assert_array_equal(stretch, whole[24_000:56_000])
    unmeasured = read_sound({"audio_filepath": name, "duration": 0, "offset": None}, place)
    np.testing.assert_array_equal(unmeasured, whole)


def test_the_jobs_own_files_are_found_by_their_relative_names(place: Place) -> None:
    samples = (np.rint(chirp(1.0, 16_000) * 32768) / 32768).astype(np.float32)
    name = keep_sound(samples, 16_000, "abcd", place)
    assert name.startswith("audio/ab/abcd-") and name.endswith(".flac")
    np.testing.assert_array_equal(read_sound({"audio_filepath": name}, place), samples)


def test_a_member_of_a_tar_without_unpacking_it(tmp_path: Path, place: Place) -> None:
    for name in ("a", "b"):
        content = encode(chirp(2.0 if name == "a" else 3.0), "flac", "flac")
        (tmp_path / f"{name}.flac").write_bytes(content)
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for name in ("a.flac", "b.flac"):
            tar.add(tmp_path / name, arcname=name)
    with tarfile.open(shard) as tar:
        member = tar.getmember("b.flac")
    item = {
        "audio_filepath": "b.flac",
        "tar": str(shard),
        "tar_offset": member.offset_data,
        "tar_size": member.size,
    }
    expected = audio.read(tmp_path / "b.flac")
    np.testing.assert_array_equal(read_sound(item, place), expected)
    stretch = read_sound({**item, "offset": 1.0, "duration": 0.5}, place)
    np.testing.assert_array_equal(stretch, expected[16_000:24_000])
    shard.write_bytes(shard.read_bytes()[: member.offset_data + 100])
    assert reason_of(item, place) == "truncated"
    assert reason_of({**item, "tar": str(tmp_path / "gone.tar")}, place) == "no such file"


def test_a_row_may_choose_a_channel(tmp_path: Path, place: Place) -> None:
    left, right = chirp(1.0), np.zeros(44_100, np.float32)
    path = tmp_path / "two.flac"
    path.write_bytes(encode(np.stack([left, right]), "flac", "flac"))
    item = {"audio_filepath": str(path)}
    assert np.abs(read_sound({**item, "channel": 1}, place)).max() == 0
    assert np.abs(read_sound({**item, "channel": 0}, place)).max() > 0.2
    assert reason_of({**item, "channel": 2}, place) == "no such channel"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"audio_filepath": None}, "no such file"),
        ({"audio_filepath": 7}, "no such file"),
        ({"audio_filepath": "gone.wav"}, "no such file"),
        ({"offset": "soon"}, "no such offset"),
        ({"offset": -1.0}, "no such offset"),
        ({"duration": float("nan")}, "no such duration"),
        ({"offset": 9.0}, "beyond the end"),
        ({"duration": 9.0}, "truncated"),
        ({"offset": 3.0, "duration": 3.0}, "truncated"),
    ],
)
def test_what_cannot_be_read_has_a_short_reason(
    tmp_path: Path, place: Place, changes: dict[str, Any], reason: str
) -> None:
    name = sound_file(tmp_path / "a.wav", chirp(4.0, 16_000))
    assert reason_of({"audio_filepath": name, **changes}, place) == reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, place: Place) -> None:
    os.mkfifo(tmp_path / "a.wav")
    assert reason_of({"audio_filepath": str(tmp_path / "a.wav")}, place) == "not a file"


def test_a_duration_that_was_rounded_up_is_no_cut(tmp_path: Path, place: Place) -> None:
    name = sound_file(tmp_path / "a.wav", chirp(4.0, 16_000))
    assert len(read_sound({"audio_filepath": name, "duration": 4.4}, place)) == 64_000


def test_where_the_job_lies_is_no_part_of_a_row(place: Place) -> None:
    item = {"item_id": "a", "audio_filepath": "audio/ab/gone.flac"}
    with pytest.raises(AudioError) as caught:
        read_sound(item, place)
    found = refused(item, caught.value, place)
    assert found.reason == "no such file"
    assert found.detail.startswith("audio/ab/gone.flac: no such file")


def test_files_are_the_same_whoever_makes_them(tmp_path: Path) -> None:
    """Names end with a digest of the content, so equal names are equal bytes."""
    program = (
        "import sys; from pathlib import Path; from auricle.curation.sound import keep_sound;"
        "from auricle.curation.step import Place; from tests.audio.media import chirp;"
        "print(keep_sound(chirp(2.0, 16000), 16000, 'abcd', Place(Path(sys.argv[1]))))"
    )
    names = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / folder)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for folder in ("one", "two")
    ]
    name = keep_sound(
        np.array_split(chirp(2.0, 16_000), 5), 16_000, "abcd", Place(tmp_path / "one")
    )
    assert names == [name, name]
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert files == [tmp_path / "one" / name]


def test_sound_made_twice_of_one_item_does_not_collide(place: Place) -> None:
    first = keep_sound(chirp(2.0, 16_000), 16_000, "abcd", place)
    second = keep_sound(chirp(1.0, 16_000), 16_000, "abcd", place)
    third = keep_sound(chirp(1.0, 16_000), 16_000, "abcd", place, format="wav")
    assert len({first, second, third}) == 3
    assert len(read_sound({"audio_filepath": first}, place)) == 32_000


def test_no_sound_is_no_file(place: Place) -> None:
    with pytest.raises(AudioError, match="no sound to write"):
        keep_sound(np.zeros(0, np.float32), 16_000, "abcd", place)
    assert [path for path in place.folder.rglob("*") if path.is_file()] == []


def test_the_first_source_stays(place: Place) -> None:
    item = {"item_id": "a", "audio_filepath": "/in/a.wav", "offset": 10.0, "duration": 5.0, "x": 1}
    once = with_file(item, "audio/a.flac", 10.0, 5.0)
    assert once == {
        "item_id": "a",
        "audio_filepath": "audio/a.flac",
        "duration": 5.0,
        "source_filepath": "/in/a.wav",
        "source_offset": 10.0,
        "x": 1,
    }
    twice = with_file({**once, "offset": 1.5}, "audio/b.flac", 1.5, 2.0)
    assert (twice["source_filepath"], twice["source_offset"]) == ("/in/a.wav", 11.5)
    assert twice["duration"] == 2.0 and "offset" not in twice
    member = with_file({**item, "tar": "/in/s.tar", "tar_offset": 1, "tar_size": 2}, "b", 0.0, 1.0)
    assert member["source_tar"] == "/in/s.tar" and "source_offset" not in member
    assert not {"tar", "tar_offset", "tar_size"} & set(member)


def test_long_sound_is_held_a_block_at_a_time(tmp_path: Path, place: Place) -> None:
    name = sound_file(tmp_path / "long.wav", np.zeros(16_000 * 95))
    with heard({"audio_filepath": name}, place) as sound:
        assert [len(block) / 16_000 for block in sound.blocks] == [30, 30, 30, 5]
