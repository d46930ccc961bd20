"""The language that is spoken, by a tiny random Whisper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_whisper import LANGUAGES, write_tiny_whisper

from auricle import audio
from auricle.curation.items import Quarantined
from auricle.curation.step import Place
from auricle.curation.steps.audio_language import AudioLanguage
from auricle.engines.whisper import WhisperEngine
from auricle.errors import CheckpointError, ConfigError
from tests.conftest import GOLDEN
from tests.curation.steps.hearing import check_examples, work

pytest.importorskip("faster_whisper", reason="needs the extra whisper")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


def _long(folder: Path) -> str:
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 75).astype(np.float32)
    path = folder / "long.wav"
    with path.open("wb") as file:
        audio.write(file, [samples], 16_000, "wav")
    return str(path)


def test_the_likeliest_language(whisper: Path, tmp_path: Path) -> None:
    names = [str(GOLDEN / "wav" / "talk.wav"), _long(tmp_path), str(tmp_path / "missing.wav")]
    items = [{"item_id": str(i), "audio_filepath": name} for i, name in enumerate(names)]
    step = AudioLanguage(str(whisper), precision="fp32")
    found = work(step, items, tmp_path)
    engine = WhisperEngine(whisper, "cpu", "fp32")
    for item, one in zip(items[:2], found[:2], strict=True):
        likely = engine.languages_of(audio.read(item["audio_filepath"]))
        best = max(likely, key=lambda code: likely[code])
        expected = {"audio_lang": best, "audio_lang_probability": round(likely[best], 4)}
        assert one == {**item, **expected}
    assert isinstance(found[2], Quarantined)
    assert found[2].reason == "no such file"
    assert found == work(step, items, tmp_path)


def test_the_mean_of_windows(whisper: Path, tmp_path: Path) -> None:
    path = _long(tmp_path)
    step = AudioLanguage(str(whisper), into="lang", windows=3, precision="fp32")
    (found,) = work(step, [{"item_id": "0", "audio_filepath": path}], tmp_path)
    clip = audio.read(path)
    engine = WhisperEngine(whisper, "cpu", "fp32")
    windows = [clip[start : start + 480_000] for start in (0, 360_000, 720_000)]
    each = [engine.languages_of(window) for window in windows]
    means = {code: sum(one[code] for one in each) / 3 for code in LANGUAGES}
    assert isinstance(found, dict)
    assert found["lang"] == max(means, key=lambda code: means[code])
    assert found["lang_probability"] == pytest.approx(max(means.values()), abs=1e-4)


def test_examples(whisper: Path, tmp_path: Path) -> None:
    assert check_examples(AudioLanguage(str(whisper)), tmp_path) == 2


def test_models_that_cannot_tell(tmp_path: Path) -> None:
    english = write_tiny_whisper(tmp_path / "english", multilingual=False)
    with pytest.raises(ConfigError, match="understands English only"):
        AudioLanguage(str(english)).open(Place(tmp_path))
    with pytest.raises(CheckpointError, match="holds no Whisper"):
        AudioLanguage(str(GOLDEN / "nemo" / "citrinet.nemo")).open(Place(tmp_path))
    with pytest.raises(ConfigError, match="windows is 0"):
        AudioLanguage("tiny", windows=0)
