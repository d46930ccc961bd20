"""Which model `load` takes, and what a `Recognizer` promises, with tiny committed checkpoints."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import auricle
from auricle import hub, recognizer
from auricle.checkpoints import embedded

GOLDEN = Path(__file__).parent / "golden"
SPEECH = Path(__file__).parents[1] / "examples" / "speech" / "shell.flac"
CLIPS = sorted((GOLDEN / "wav").glob("*.wav"))


@pytest.fixture(autouse=True)
def _fresh_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AURICLE_MODEL", raising=False)
    recognizer._say_once.cache_clear()


def test_a_nemo_file_is_loaded_by_path_and_transcribes() -> None:
    asr = auricle.load(GOLDEN / "nemo" / "parakeet_tdt.nemo")
    assert asr.heads == ("tdt",)
    transcript = asr.transcribe(SPEECH)
    assert transcript.tokens and transcript.words and transcript.segments
    assert transcript.duration == pytest.approx(14.5, abs=0.1)
    assert transcript.model and transcript.model.endswith("parakeet_tdt.nemo")
    starts = [word.start for word in transcript.words]
    assert starts == sorted(starts)
    assert all(0 <= w.start <= w.end <= transcript.duration for w in transcript.words)
    assert all(0 <= w.confidence <= 1 for w in transcript.words)


def test_either_head_of_a_hybrid_by_name() -> None:
    path = GOLDEN / "nemo" / "hybrid_tdt_ctc.nemo"
    default, tdt, ctc = (auricle.load(path, head=head) for head in (None, "tdt", "ctc"))
    assert set(default.heads) == {"tdt", "ctc"}
    texts = [asr.transcribe(SPEECH).text for asr in (default, tdt, ctc)]
    assert texts[0] == texts[1] != texts[2]
    with pytest.raises(auricle.ConfigError, match="no head 'rnnt'; it has"):
        auricle.load(path, head="rnnt")


def test_a_prompt_model_takes_a_language() -> None:
    asr = auricle.load(GOLDEN / "nemo" / "prompt_rnnt.nemo")
    assert "es-ES" in asr.languages
    assert asr.transcribe(SPEECH, language="es-ES").text is not None
    with pytest.raises(
        auricle.ConfigError, match=r"does not know the language 'es-SE'; try .*es-ES"
    ):
        asr.transcribe(SPEECH, language="es-SE")
    plain = auricle.load(GOLDEN / "nemo" / "fastconformer_ctc.nemo")
    with pytest.raises(auricle.ConfigError, match="no choice of language"):
        plain.transcribe(SPEECH, language="en")


@pytest.mark.parametrize(
    "name", ["parakeet_tdt", "fastconformer_ctc", "citrinet", "hybrid_rnnt_ctc"]
)
def test_a_clip_does_not_depend_on_its_batch(name: str) -> None:
    asr = auricle.load(GOLDEN / "nemo" / f"{name}.nemo")
    alone = [asr.transcribe(clip) for clip in CLIPS]
    together = asr.transcribe([*CLIPS, SPEECH])
    for one, other in zip(alone, together, strict=False):
        assert [(t.id, t.start, t.end) for t in one.tokens] == [
            (t.id, t.start, t.end) for t in other.tokens
        ]
        assert one.text == other.text


def test_one_recognizer_serves_eight_threads() -> None:
    asr = auricle.load(GOLDEN / "nemo" / "hybrid_tdt_ctc.nemo")
    rng = np.random.default_rng(0)
    clips = [
        rng.normal(0, 0.1, size=rng.integers(8000, 64000)).astype("float32") for _ in range(32)
    ]
    in_turn = [asr.transcribe(clip, sample_rate=16000) for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda clip: asr.transcribe(clip, sample_rate=16000), clips))
    assert [t.text for t in at_once] == [t.text for t in in_turn]
    assert any(t.text for t in in_turn)


def test_a_short_array_and_a_short_file_are_the_same(tmp_path: Path) -> None:
    asr = auricle.load(GOLDEN / "nemo" / "fastconformer_ctc.nemo")
    short = next(clip for clip in CLIPS if "syllable" in clip.name)
    from auricle import audio

    samples = audio.read(short)
    assert len(samples) < 16000
    from_file, from_array = asr.transcribe(short), asr.transcribe(samples, sample_rate=16000)
    assert from_file.tokens == from_array.tokens
    assert all(0 <= t.start <= t.end <= from_file.duration for t in from_file.tokens)


def test_without_timestamps_there_is_text_alone() -> None:
    asr = auricle.load(GOLDEN / "nemo" / "fastconformer_ctc.nemo")
    full, bare = asr.transcribe(SPEECH), asr.transcribe(SPEECH, timestamps=False)
    assert bare.text == full.text and bare.duration == full.duration
    assert bare.words == bare.tokens == bare.segments == ()


def test_wrong_options_name_the_right_ones() -> None:
    path = GOLDEN / "nemo" / "fastconformer_ctc.nemo"
    for options, message in (
        ({"precision": "int3"}, "unknown precision 'int3'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"engine": "whisper"}, "does not run on the engine 'whisper'"),
    ):
        with pytest.raises(auricle.ConfigError, match=message):
            auricle.load(path, **options)
    with pytest.raises(auricle.ModelNotFound):
        auricle.load(GOLDEN / "nemo" / "absent.nemo")


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_runs(precision: str) -> None:
    asr = auricle.load(GOLDEN / "nemo" / "hybrid_rnnt_ctc.nemo", precision=precision)
    assert asr.transcribe(SPEECH).tokens


def test_the_default_model_and_why_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="auricle")
    monkeypatch.setattr(hub, "is_cached", lambda name: True)
    assert recognizer._default() == recognizer.DEFAULT_MODEL
    assert "found in the local cache" in caplog.text
    monkeypatch.setattr(hub, "is_cached", lambda name: False)
    monkeypatch.setattr(embedded, "installed", lambda: True)
    assert recognizer._default() == recognizer.EMBEDDED
    monkeypatch.setattr(embedded, "installed", lambda: False)
    assert recognizer._default() == recognizer.DEFAULT_MODEL
    assert "from the hub" in caplog.text
    caplog.clear()
    assert recognizer._default() == recognizer.DEFAULT_MODEL
    assert caplog.text == ""
    monkeypatch.setenv("AURICLE_MODEL", str(GOLDEN / "nemo" / "citrinet.nemo"))
    assert auricle.load().model.endswith("citrinet.nemo")
    assert "$AURICLE_MODEL" in caplog.text


@pytest.mark.parametrize("wrong", [{"timestamps": "word"}, {"task": "summarise"}])
def test_an_option_of_no_known_value_is_refused(wrong: dict[str, str]) -> None:
    asr = auricle.load(GOLDEN / "nemo" / "citrinet.nemo")
    with pytest.raises(auricle.ConfigError, match=f"unknown .* '{next(iter(wrong.values()))}'"):
        asr.transcribe(CLIPS[0], **wrong)
