"""Lhotse's cuts as items."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from auricle.curation.readers import BadRow, Cuts
from auricle.curation.sound import read_sound
from auricle.curation.step import Place
from tests.training.speech import RATE, clip, tone, wav
from tests.training.test_cuts import a_cut

lhotse = pytest.importorskip("lhotse")


def test_plain_cuts_are_stretches_and_others_become_files(tmp_path: Path) -> None:
    cut = a_cut(tmp_path)
    both = np.stack([tone(1.0, 300), tone(1.0, 700)], axis=1)
    (tmp_path / "two.wav").write_bytes(wav(both))
    two = lhotse.Recording.from_file(tmp_path / "two.wav")
    noise = lhotse.Recording.from_file(clip(tmp_path, "noise.wav", 3.0, 900)).to_cut()
    cuts = [
        cut.truncate(offset=1.0, duration=0.5),
        lhotse.MonoCut("c", 0.0, 1.0, 1, recording=two),
        cut.mix(noise, snr=10),
    ]
    path = tmp_path / "cuts.jsonl"
    lhotse.CutSet.from_cuts(cuts).to_file(path)
    out = tmp_path / "out"
    first, channel, mixed = Cuts(str(path)).items(out)
    assert not isinstance(first, BadRow) and not isinstance(channel, BadRow)
    assert not isinstance(mixed, BadRow)
    assert first == {
        "audio_filepath": str(tmp_path / "a.wav"),
        "offset": 1.0,
        "duration": 0.5,
        "text": "hello",
        "speaker": "x",
    }
    assert channel["channel"] == 1
    heard = read_sound(channel, Place(out))
    np.testing.assert_allclose(heard, both[:, 1] / 32768, atol=1e-4)
    assert (mixed["text"], mixed["duration"]) == ("hello", 3.0)
    expected = np.clip(cuts[2].load_audio()[0], -1, 1)
    np.testing.assert_allclose(read_sound(mixed, Place(out)), expected, atol=1e-4)
    assert len(expected) == 3 * RATE
    content = (out / mixed["audio_filepath"]).read_bytes()
    assert list(Cuts(str(path)).items(out))[2] == mixed
    assert (out / mixed["audio_filepath"]).read_bytes() == content


def test_lines_that_are_no_cuts_are_bad_rows(tmp_path: Path) -> None:
    good = a_cut(tmp_path)
    path = tmp_path / "cuts.jsonl.gz"
    lhotse.CutSet.from_cuts([good]).to_file(path)
    line = gzip.decompress(path.read_bytes())
    lost = line.replace(b'"a.wav"', b'"b.wav"')
    path.write_bytes(gzip.compress(b'{"id": 1}\n' + lost + b"{\n"))
    rows = list(Cuts(str(path)).items(tmp_path / "out"))
    assert [isinstance(row, BadRow) for row in rows] == [True, False, True]
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [row.data["line"] for row in bad] == [1, 3]
    assert bad[0].data["row"] == '{"id": 1}'
