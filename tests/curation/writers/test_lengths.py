"""Lengths in what is written are those of the decoded sound, and what is kept others can read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from auricle import audio
from auricle.curation.items import Item
from auricle.curation.writers import Lhotse
from auricle.curation.writers.packing import packed
from tests.audio.media import chirp, encode

_RATE = 48_000
_OPUS = encode(chirp(3.0, _RATE), "ogg", "libopus", _RATE)
_WAV = encode(chirp(3.0, _RATE), "wav", "pcm_s16le", _RATE)
_SIZE = _WAV.index(b"data") + 4

_LATE = encode(chirp(3.0), "matroska", "aac", starts=(1.5,), video_seconds=4.5)

# A name, its content, how long it sounds, and whether it stays as it is.
FILES = {
    "plain.wav": (_WAV, 3.0, True),
    "plain.opus": (_OPUS, 3.0, True),
    "plain.mp3": (encode(chirp(3.0), "mp3", "libmp3lame"), 3.0, True),
    "guessed.aac": (encode(chirp(3.0), "adts", "aac"), 3.0, False),
    "chained.opus": (2 * _OPUS, 6.0, False),
    "late.mkv": (
        encode(chirp(3.0), "matroska", "aac", starts=(1.5,), video_seconds=4.5),
        4.5,
        False,
    ),
    "piped.wav": (_WAV[:_SIZE] + b"\xff" * 4 + _WAV[_SIZE + 4 :], 3.0, False),
    "sized_0.wav": (_WAV[:_SIZE] + bytes(4) + _WAV[_SIZE + 4 :], 3.0, False),
    "flac.ogg": (encode(chirp(3.0, _RATE), "ogg", "flac", _RATE), 3.0, False),
    "g722.wav": (encode(chirp(3.0, 16_000), "wav", "g722", 16_000), 3.0, False),
}


@pytest.fixture(params=FILES)
def item(request: pytest.FixtureRequest, tmp_path: Path) -> Item:
    name = request.param
    (tmp_path / name).write_bytes(FILES[name][0])
    return {"item_id": "ab1", "audio_filepath": name, "text": "said"}


def test_what_is_packed_is_as_long_as_it_sounds(item: Item, tmp_path: Path) -> None:
    content, seconds, stays = FILES[item["audio_filepath"]]
    with packed(item, tmp_path, "keep") as sound:
        written = sound.file.read()
    assert (written == content) == stays
    assert sound.name.endswith(".flac") != stays
    heard = len(audio.read(written)) / audio.SAMPLE_RATE
    assert sound.seconds == pytest.approx(heard, abs=0.001)
    assert sound.seconds == pytest.approx(seconds, abs=0.06)


def test_a_cut_is_as_long_as_its_recording_sounds(item: Item, tmp_path: Path) -> None:
    _, seconds, stays = FILES[item["audio_filepath"]]
    Lhotse("cuts").write([item], tmp_path)
    (line,) = gzip.decompress((tmp_path / "cuts/cuts.jsonl.gz").read_bytes()).splitlines()
    cut = json.loads(line)
    recording, (supervision,) = cut["recording"], cut["supervisions"]
    source = Path(recording["sources"][0]["source"])
    assert (source == tmp_path / item["audio_filepath"]) == stays
    rate = recording["sampling_rate"]
    assert recording["num_samples"] == len(audio.read(source, sample_rate=rate))
    assert cut["duration"] == supervision["duration"]
    assert cut["duration"] == pytest.approx(recording["num_samples"] / rate, abs=1e-8)
    assert cut["duration"] == pytest.approx(seconds, abs=0.06)


def test_lhotse_loads_every_sample(item: Item, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    Lhotse("cuts").write([item], tmp_path)
    (cut,) = lhotse.CutSet.from_file(tmp_path / "cuts/cuts.jsonl.gz")
    assert cut.load_audio().shape == (1, cut.num_samples)
