"""Live comparison with NeMo: every golden checkpoint, and models drawn at random."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit, see `make parity`")

from goldens import inputs, nemo_models, nemo_record
from live import ASRModel, Pair, compare
from random_models import draw

import auricle
from auricle import audio
from auricle.text import split_language_tags

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("AURICLE_SHARED", ROOT.parent / "shared"))
OURS = sorted((ROOT / "tests/golden/nemo").glob("*.nemo"))
THEIRS = sorted((*(SHARED / "golden/nemo").glob("*.nemo"), *(SHARED / "cases").glob("*.nemo")))
RANDOM = range(30)
SPEECH = (ROOT / "examples/speech/shell.flac",)

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def bert_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NeMo asks the hub for `bert-base-cased` whatever the vocabulary; a local folder answers."""
    monkeypatch.chdir(tmp_path)
    inputs.wordpiece_folder(tmp_path / "wordpiece")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [audio.read(ROOT / f"tests/golden/wav/{name}.wav") for name in inputs.CLIPS]


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Real speech of several lengths, cut from the shipped recording."""
    whole = audio.read(SPEECH[0])
    return [whole[: 16000 * 9 + 77], whole[30000 : 30000 + 16000 * 3], whole[-16000 * 5 - 1 :]]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        "bpe": inputs.sentencepiece_folder(folder / "bpe", inputs.ENGLISH, 64),
        "unigram": inputs.sentencepiece_folder(folder / "uni", inputs.ENGLISH, 72, kind="unigram"),
        "english": inputs.sentencepiece_folder(folder / "english", inputs.ENGLISH, 60),
        "spanish": inputs.sentencepiece_folder(folder / "spanish", inputs.SPANISH, 56),
    }


@pytest.mark.parametrize("path", [*OURS, *THEIRS], ids=lambda path: path.stem)
def test_golden(path: Path, clips: list[np.ndarray], speech: list[np.ndarray]) -> None:
    pair = Pair(path)
    compare(pair, clips)
    compare(pair, speech)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_transcribe_gives_the_same_text(path: Path) -> None:
    files = sorted((ROOT / "tests/golden/wav").glob("*.wav")) + list(SPEECH)
    files += sorted((SHARED / "golden/wav").glob("*.wav"))[:2]
    theirs = ASRModel.restore_from(str(path), map_location="cpu").eval()
    asr = auricle.load(path)
    language = next(iter(asr.languages), None)
    expected = [nemo_record.transcribed(theirs, [str(f)], language)[0]["text"] for f in files]
    # NeMo pads arrays, and not files, that are shorter than a second; so do we with both
    lengths = [len(audio.read(file)) for file in files]
    found = asr.transcribe(files, language=language)
    for file, length, mine, text in zip(files, lengths, found, expected, strict=True):
        if length >= 16000:
            assert mine.text == split_language_tags(text)[0], file.name
    batch = asr.transcribe(files, language=language, batch_seconds=200.0)
    assert [t.text for t in batch] == [t.text for t in found]


@pytest.mark.parametrize("seed", RANDOM)
def test_random_model(
    seed: int,
    tmp_path: Path,
    clips: list[np.ndarray],
    speech: list[np.ndarray],
    tokenizers: dict[str, Path],
) -> None:
    sounds = [*clips, speech[1]]
    path = tmp_path / "random.nemo"
    steady(draw(seed, tokenizers), sounds).save_to(str(path))
    assert compare(Pair(path), sounds) > 0, "nothing was emitted, nothing compared"


def steady(config: nemo_models.Config, sounds: list[np.ndarray]) -> Any:
    """A model whose tokens do not hang on the last digits of its encodings."""
    for seed in range(20):
        model = nemo_models.build(config, seed)
        nemo_models.enliven(model, sounds)
        if hasattr(model, "joint"):
            nemo_models.calibrate(model, sounds)
        if nemo_record.is_steady(model, sounds, error=1e-5):
            return model
    raise AssertionError(f"no seed in 0..19 gives a steady model for {config['encoder']}")
