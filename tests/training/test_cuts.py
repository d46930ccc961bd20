"""Lhotse's cuts: plain ones as stretches of files, others by Lhotse."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle.errors import AudioError, ManifestError
from auricle.training.cuts import CutSound
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sounds import FileSound
from auricle.training.sources import Source, open_sources
from tests.training.speech import RATE, clip, tone, wav

lhotse = pytest.importorskip("lhotse")


def opened(folder: Path, cuts: list[Any], **data: Any) -> Source:
    lhotse.CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    source = SourceRecipe(cuts="cuts.jsonl.gz", language="en")
    (found,) = open_sources([source], DataRecipe(**data), folder=folder)
    return found


def a_cut(folder: Path, name: str = "a.wav", seconds: float = 3.0) -> Any:
    path = clip(folder, name, seconds)
    cut = lhotse.Recording.from_file(path).to_cut()
    said = lhotse.SupervisionSegment(
        id="s", recording_id=cut.recording_id, start=0, duration=seconds, text="hello", speaker="x"
    )
    cut.supervisions = [said]
    return cut


def test_a_plain_cut_is_a_stretch_of_a_file(tmp_path: Path) -> None:
    cut = a_cut(tmp_path)
    source = opened(tmp_path, [cut.truncate(offset=1.0, duration=0.5)])
    (item,) = source.items()
    assert item.sound == FileSound(str(tmp_path / "a.wav"), 1.0, 0.5)
    assert (item.text, item.duration, item.language) == ("hello", 0.5, "en")
    assert item.data == {"speaker": "x"}
    expected = cut.load_audio()[0, RATE : RATE * 3 // 2]
    np.testing.assert_allclose(item.sound.read(RATE), expected, atol=1e-6)


def test_one_channel_of_several_is_taken(tmp_path: Path) -> None:
    both = np.stack([tone(1.0, 300), tone(1.0, 700)], axis=1)
    (tmp_path / "two.wav").write_bytes(wav(both))
    cuts = lhotse.Recording.from_file(tmp_path / "two.wav").to_cut()
    one = lhotse.MonoCut("c", 0.0, 1.0, 1, recording=cuts.recording)
    first, whole = opened(tmp_path, [one, cuts]).items()
    np.testing.assert_allclose(first.sound.read(RATE), both[:, 1] / 32768, atol=1e-4)
    assert isinstance(whole.sound, CutSound)  # of both channels
    np.testing.assert_allclose(whole.sound.read(RATE), both.mean(axis=1) / 32768, atol=1e-4)


def test_a_mixed_cut_is_loaded_by_lhotse(tmp_path: Path) -> None:
    cuts = [
        a_cut(tmp_path).append(a_cut(tmp_path, "b.wav", 1.0)),
        a_cut(tmp_path).perturb_speed(2.0),
    ]
    appended, faster = opened(tmp_path, cuts).items()
    assert isinstance(appended.sound, CutSound)
    assert (appended.duration, appended.text) == (4.0, "hello hello")
    sent = pickle.loads(pickle.dumps(appended.sound))
    np.testing.assert_allclose(sent.read(RATE), cuts[0].load_audio()[0], atol=1e-6)
    assert len(faster.sound.read(RATE)) == pytest.approx(1.5 * RATE, abs=2)
    (tmp_path / "b.wav").unlink()
    with pytest.raises(AudioError, match=r"cuts\.jsonl\.gz: .*Lhotse cannot load it"):
        sent.read(RATE)


def test_paths_may_stand_relative_to_the_file(tmp_path: Path) -> None:
    cut = a_cut(tmp_path)
    cut.recording.sources[0].source = "a.wav"
    (item,) = opened(tmp_path, [cut]).items()
    assert len(item.sound.read(RATE)) == 3 * RATE


def test_no_command_is_run(tmp_path: Path) -> None:
    bad = a_cut(tmp_path)
    bad.recording.sources[0].type = "command"
    bad.recording.sources[0].source = f"touch {tmp_path / 'ran'}"
    good = a_cut(tmp_path, "b.wav")
    several = [bad, good.append(bad), good.reverb_rir(bad.recording)]
    source = opened(tmp_path, [*several, good])
    assert (source.size, source.dropped) == (1, {"sound that is not there": 3})
    for cut in several:
        with pytest.raises(ManifestError, match="is the output of a command, which is not run"):
            opened(tmp_path, [cut], invalid="refuse")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_file_of_cuts_is_refused(tmp_path: Path) -> None:
    for name, content, said in [
        ("none.jsonl", None, "no such file of cuts"),
        ("bad.jsonl", "{not json\n", "cannot be read as Lhotse's cuts"),
    ]:
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(ManifestError, match=said):
            open_sources([SourceRecipe(cuts=name)], DataRecipe(), folder=tmp_path)
