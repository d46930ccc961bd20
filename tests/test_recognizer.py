"""Which model `load` takes, and what a `Recognizer` promises, with tiny committed checkpoints."""

from __future__ import annotations

import json
import logging
import math
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import auricle
from auricle import hub, recognizer
from auricle.checkpoints import embedded

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
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


@pytest.fixture(scope="module")
def asr() -> auricle.Recognizer:
    return auricle.load(GOLDEN / "nemo" / "fastconformer_ctc.nemo")


def test_a_transcript_shows_itself_in_a_line(asr: auricle.Recognizer) -> None:
    shown = repr(asr.transcribe(SPEECH))
    assert len(shown) < 300 and "\n" not in shown
    assert re.search(r"^Transcript\(.*, 14\.\d\d s, \d+ words, model='.*'\)$", shown)
    long = auricle.Transcript("word " * 1000, duration=2.0)
    assert repr(long) == f"Transcript({'word ' * 11 + 'wo...'!r}, 2.00 s, 0 words)"
    segment = auricle.Segment("a b", 0.0, 1.0, (auricle.Word("a", 0.0, 0.5),) * 50)
    assert "Word" not in repr(segment) and "'a b'" in repr(segment)
    assert len(repr(asr)) < 300


def test_a_notebook_shows_a_transcript_as_a_table_and_runs_nothing_of_it() -> None:
    said = "<script>alert(1)</script> & more"
    segment = auricle.Segment(said, 0.0, 61.5, speaker="<b>")
    shown = auricle.Transcript(said, (segment,))._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in shown and "&lt;b&gt;: " in shown
    assert "<script" not in shown and "<b>" not in shown and "00:01:01.500" in shown
    assert auricle.Transcript("a < b")._repr_html_() == "<p>a &lt; b</p>"
    many = auricle.Transcript("x", (segment,) * 1000)._repr_html_()
    assert many.count("<tr>") == 102 and "and 900 more" in many


def test_subtitles_take_the_options_of_the_command_line(tmp_path: Path) -> None:
    words = tuple(auricle.Word(f"word{i}", i * 0.5, i * 0.5 + 0.4) for i in range(12))
    text = " ".join(word.text for word in words)
    transcript = auricle.Transcript(text, (auricle.Segment(text, 0.0, 6.0, words),), words)
    narrow = auricle.SubtitleOptions(max_line_width=12, max_line_count=1)
    for suffix, render in (("srt", transcript.to_srt), ("vtt", transcript.to_vtt)):
        path = tmp_path / f"talk.{suffix}"
        assert transcript.save(path, subtitles=narrow) == path
        assert path.read_text(encoding="utf-8") == render(narrow) != render()
        assert max(map(len, render(narrow).splitlines())) <= len("00:00:00,000 --> 00:00:00,000")
        assert "word0 word1 word2 word3" in render().replace("\n", " ")
    assert transcript.save(tmp_path / "a.ctm", name="one").read_text().startswith("one 1 0.000 ")
    assert "<u>word3</u>" in transcript.to_vtt(auricle.SubtitleOptions(highlight_words=True))


def test_progress_counts_recordings_and_changes_nothing(
    asr: auricle.Recognizer, capfd: pytest.CaptureFixture[str]
) -> None:
    quiet = asr.transcribe(CLIPS[:3])
    assert capfd.readouterr().err == ""
    assert asr.transcribe(CLIPS[:3], progress=True) == quiet
    shown = capfd.readouterr()
    assert "3/3" in shown.err and "s of audio, RTFx" in shown.err and shown.out == ""
    assert list(asr.transcribe_iter(iter(CLIPS[:3]), progress=True)) == quiet
    assert "3 recordings" in capfd.readouterr().err
    assert asr.transcribe(CLIPS[0], progress=True) == asr.transcribe(CLIPS[0])
    assert "1/1" in capfd.readouterr().err


def test_a_failure_is_plain_values_too(asr: auricle.Recognizer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    (failure,) = asr.transcribe([broken], on_error="return")
    assert isinstance(failure, auricle.Failure)
    plain = json.loads(json.dumps(failure.to_dict()))
    assert (plain["source"], plain["error"]) == ("broken.wav", "AudioError")
    assert plain["message"] == str(failure.error)


def test_the_types_of_the_public_calls_are_checked_with_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "tests/public_types.py" in settings["tool"]["mypy"]["files"]


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, -math.inf])
def test_a_batch_has_a_length(asr: auricle.Recognizer, seconds: float) -> None:
    with pytest.raises(auricle.ConfigError, match="batch_seconds must be a number above 0"):
        asr.transcribe(CLIPS[0], batch_seconds=seconds)
