"""Sound on its way into a container."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auricle import audio
from auricle.curation.items import Item
from auricle.curation.writers.packing import StoredFormat, packed
from auricle.errors import AudioError
from tests.curation.writers.speech import EXPECTED, items
from tests.training.speech import clip


@pytest.mark.parametrize("stored", ["keep", "flac", "wav"])
def test_files_stay_as_they_are_and_stretches_are_cut(tmp_path: Path, stored: StoredFormat) -> None:
    given, job = items(tmp_path)
    for item, expected, is_stretch in zip(given, EXPECTED, (0, 1, 0, 0, 0), strict=True):
        with packed(item, job, stored) as sound:
            content = sound.file.read()
        assert len(content) == sound.size
        assert sound.seconds == len(expected) / 16_000
        found = audio.read(content)
        # A mix of two channels is rounded to 16 bits again.
        np.testing.assert_allclose(found, expected / 32768, atol=0.6 / 32768)
        suffix = {"keep": "flac" if is_stretch else "wav"}.get(stored, stored)
        assert sound.name == f"{item['item_id']}.{suffix}"
        if stored == "keep" and not is_stretch and "tar" not in item:
            assert content == (job / item["audio_filepath"]).read_bytes()
        row = sound.row(item)
        assert set(row) == (set(item) | {"duration"}) - {"offset", "tar", "tar_offset", "tar_size"}
        assert row["audio_filepath"] == sound.name and row["text"] == item["text"]


def test_names_that_others_cannot_read_become_flac(tmp_path: Path) -> None:
    clip(tmp_path, "a.wav", 0.5).rename(tmp_path / "a.bin")
    with packed({"item_id": "1", "audio_filepath": "a.bin"}, tmp_path, "keep") as sound:
        assert sound.name == "1.flac" and sound.file.read(4) == b"fLaC"


def test_a_row_may_be_off_by_what_rounding_does(tmp_path: Path) -> None:
    clip(tmp_path, "a.wav", 0.5)
    for seconds, name in ((0.49, "1.wav"), (0.51, "1.wav"), (0.47, "1.flac"), (0.6, "1.wav")):
        item: Item = {"item_id": "1", "audio_filepath": "a.wav", "duration": seconds}
        with packed(item, tmp_path, "keep") as sound:
            assert sound.name == name
            assert sound.seconds == min(seconds, 0.5 if seconds > 0.52 else seconds)


def test_sound_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(AudioError, match=r"item 1 cannot be packed: .*none\.wav"),
        packed({"item_id": "1", "audio_filepath": "none.wav"}, tmp_path, "keep"),
    ):
        pass
