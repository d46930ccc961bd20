"""Tars as items: NeMo's layout and WebDataset's, read where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from auricle import audio
from auricle.curation.readers import BadRow, Tar
from auricle.curation.sound import read_sound
from auricle.curation.step import Place
from auricle.errors import ManifestError
from tests.training.speech import tone, wav
from tests.training.test_tar import nemo_shards, write_tar


@pytest.mark.parametrize("sharded", [False, True])
def test_nemos_rows_find_their_sound(tmp_path: Path, sharded: bool) -> None:
    source = nemo_shards(tmp_path, sharded=sharded)
    assert isinstance(source.tar, str) and isinstance(source.manifest, str)
    reader = Tar(str(tmp_path / source.tar), str(tmp_path / source.manifest))
    items = list(reader.items(tmp_path / "out"))
    texts = [item["text"] for item in items if not isinstance(item, BadRow)]
    assert texts == ["0 0", "0 1", "0 x", "y", "1 0", "1 1", "1 x", "y"]
    sub = items[3]
    assert not isinstance(sub, BadRow)
    assert (sub["audio_filepath"], sub["offset"]) == ("data_speaker_0_2.wav", 1.25)
    whole = audio.read(wav(tone(2.0, 302)))
    assert np.array_equal(read_sound(sub, Place(tmp_path / "out")), whole[20_000:28_000])
    assert not (tmp_path / "out").exists()


def test_rows_without_sound_and_broken_rows_are_bad_ones(tmp_path: Path) -> None:
    source = nemo_shards(tmp_path, sharded=False)
    manifest = tmp_path / str(source.manifest)
    with manifest.open("a") as file:
        file.write('{"audio_filepath": "none.wav", "shard_id": 1}\n')
        file.write('{"audio_filepath": "data_speaker_0_0.wav", "shard_id": 0, "text": 5}\n{\n')
        file.write('{"audio_filepath": "data_speaker_0_0.wav", "shard_id": [0]}\n')
    rows = list(Tar(str(tmp_path / "audio_{0..1}.tar"), str(manifest)).items(tmp_path))
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert len(rows) == 12
    assert [row.reason for row in bad] == ["broken row", "broken row", "no sound"]
    assert [row.data.get("line") for row in bad] == [10, 11, None]


def test_webdataset_is_read_and_its_bad_samples_told(tmp_path: Path) -> None:
    sound = wav(tone(0.5))
    files = {
        "a.wav": sound,
        "a.json": json.dumps({"text": "one", "speaker": "x", "duration": 0.5}).encode(),
        "b.wav": sound,
        "b.txt": b"two",
        "c.wav": sound,
        "c.json": b"{",
        "d.txt": b"no sound",
        "e.wav": sound,
        "e.json": json.dumps({"text": ["no text"]}).encode(),
    }
    path = write_tar(tmp_path / "0.tar", files)
    rows = list(Tar(str(path)).items(tmp_path))
    first, second = (row for row in rows if not isinstance(row, BadRow))
    assert (first["text"], first["speaker"], first["duration"]) == ("one", "x", 0.5)
    assert second["text"] == "two" and second["tar"] == str(path)
    content = path.read_bytes()[second["tar_offset"] :][: second["tar_size"]]
    assert content == sound
    reasons = [row.reason for row in rows if isinstance(row, BadRow)]
    assert sorted(reasons) == ["broken row", "broken row", "no sound"]


def test_a_tar_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {"a.wav": wav(tone(0.5))})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ManifestError, match="cut short"):
        list(Tar(str(path)).items(tmp_path))
