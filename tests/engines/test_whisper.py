"""The Whisper engine: a tiny random model for behaviour, the embedded model for real speech."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_whisper import write_tiny_whisper

from auricle import audio
from auricle.checkpoints import embedded
from auricle.checkpoints.whisper import to_ctranslate2, to_huggingface
from auricle.engines import EngineOptions, whisper_ctranslate2, whisper_transformers
from auricle.engines.whisper import WhisperEngine
from auricle.engines.whisper_ctranslate2 import CTranslate2Whisper, _owners, _Window
from auricle.engines.whisper_facts import LANGUAGES, language_code
from auricle.errors import CheckpointError, ConfigError, MissingExtra

BECKETT = "Ever tried, ever failed. No matter, try again. Fail again. Fail better."


def _noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`multi` and `english` in Hugging Face form, with `-ct2` in CTranslate2 form."""
    pytest.importorskip("faster_whisper", reason="needs the extra whisper")
    root = tmp_path_factory.mktemp("whisper")
    for name, multilingual in (("multi", True), ("english", False)):
        write_tiny_whisper(root / name, multilingual=multilingual)
        to_ctranslate2(root / name, root / f"{name}-ct2")
    return root


@pytest.fixture(scope="module")
def multi(folders: Path) -> WhisperEngine:
    return WhisperEngine(folders / "multi-ct2", precision="fp32", name="multi")


@pytest.fixture(scope="module")
def english(folders: Path) -> WhisperEngine:
    return WhisperEngine(folders / "english-ct2", precision="fp32", name="english")


@pytest.fixture(scope="module")
def tiny_en() -> WhisperEngine:
    pytest.importorskip("faster_whisper", reason="needs the extra whisper")
    try:
        return WhisperEngine(embedded.folder(), name=embedded.NAME)
    except MissingExtra as error:
        pytest.skip(str(error))


def test_real_speech(tiny_en: WhisperEngine, shared: Callable[[str], Path]) -> None:
    clip = audio.read(shared("golden/wav/beckett.wav"))
    (transcript,) = tiny_en.transcribe([clip], EngineOptions())
    assert transcript.text == BECKETT
    assert (transcript.language, transcript.model) == ("en", "whisper-tiny.en")
    assert transcript.duration == pytest.approx(len(clip) / 16000)
    assert [word.text for word in transcript.words] == BECKETT.split()
    assert " ".join(segment.text for segment in transcript.segments) == BECKETT
    # faster-whisper's word times, from the same weights
    starts = {word.text: word.start for word in transcript.words}
    assert starts["No"] == pytest.approx(3.6, abs=0.1)
    assert starts["better."] == pytest.approx(8.5, abs=0.1)
    assert all(0.2 < (word.confidence or 0) <= 1 for word in transcript.words)
    assert "".join(token.text for token in transcript.tokens).replace("Ġ", " ").strip() == BECKETT


def test_long_speech(tiny_en: WhisperEngine, shared: Callable[[str], Path]) -> None:
    """Over 30 s: the times of the second window count from the start of the audio."""
    clip = audio.read(shared("golden/wav/two_cities.wav"))
    (transcript,) = tiny_en.transcribe([clip], EngineOptions())
    assert transcript.text.startswith("It was the best of times, it was the worst of times.")
    assert transcript.text.endswith("superlative degree of comparison only.")
    assert transcript.words[-1].end == pytest.approx(41.9, abs=0.3)


def test_languages_and_tasks(multi: WhisperEngine) -> None:
    clip = _noise(3)
    (found,) = multi.transcribe([clip], EngineOptions())
    assert found.language in multi.languages == ("en", "zh", "de", "fr", "ja", "haw")
    german, named, translated = (
        multi.transcribe([clip], EngineOptions(**options))[0]
        for options in (
            {"language": "de-DE"},
            {"language": "German"},
            {"language": "de", "task": "translate"},
        )
    )
    assert german == named
    assert german.language == translated.language == "de"
    assert german.text != translated.text  # the task changes the prompt


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "germn"}, r"multi does not know language 'germn'; did you mean 'de'"),
        ({"language": "qqqq"}, "use one of de, en, fr, haw, ja, zh"),
        ({"language": "es"}, "multi does not know language 'es'"),
        ({"task": "summarise"}, "unknown task 'summarise'"),
        ({"decode": object()}, r"Greedy\(\)"),
    ],
)
def test_wrong_options(multi: WhisperEngine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        multi.transcribe([_noise(1)], EngineOptions(**options))


def test_english_only(english: WhisperEngine) -> None:
    for language in (None, "en", "en-GB", "English"):
        (transcript,) = english.transcribe([_noise(1)], EngineOptions(language=language))
        assert transcript.language == "en"
    with pytest.raises(ConfigError, match="english understands English only, not language 'de'"):
        english.transcribe([_noise(1)], EngineOptions(language="de"))
    with pytest.raises(ConfigError, match="cannot translate"):
        english.transcribe([_noise(1)], EngineOptions(task="translate"))


def test_how_likely_each_language_is(multi: WhisperEngine, english: WhisperEngine) -> None:
    clip = _noise(35)
    found = multi.languages_of(clip)
    assert set(found) == set(multi.languages)
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)
    assert found == multi.languages_of(clip[: 30 * 16000])
    (transcript,) = multi.transcribe([clip], EngineOptions(timestamps=False))
    assert transcript.language == max(found, key=lambda code: found[code])
    with pytest.raises(ConfigError, match="english understands English only"):
        english.languages_of(clip)


def test_every_language_has_one_code() -> None:
    assert len(LANGUAGES) == 100
    for code, name in LANGUAGES.items():
        assert language_code(name.upper(), LANGUAGES, "any") == code
        assert language_code(f"{code}_XX", LANGUAGES, "any") == code
    assert language_code("deu", LANGUAGES, "any") == "de"
    with pytest.raises(ConfigError, match="did you mean 'de'"):
        language_code("germn", LANGUAGES, "any")


def test_threads_batches_and_single_clips_agree(multi: WhisperEngine) -> None:
    clips = [_noise(1 + i % 3, seed=i) for i in range(6)]
    alone = [multi.transcribe([clip], EngineOptions())[0] for clip in clips]
    assert len({transcript.text for transcript in alone}) > 3
    assert multi.transcribe(clips, EngineOptions()) == alone
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(multi.transcribe, clips, EngineOptions()) for _ in range(8)]
        assert all(job.result() == alone for job in jobs)


def test_word_times_do_not_change_the_text(multi: WhisperEngine) -> None:
    for clip in (_noise(5), _noise(70, seed=1)):
        (timed,) = multi.transcribe([clip], EngineOptions())
        (plain,) = multi.transcribe([clip], EngineOptions(timestamps=False))
        assert timed.text == plain.text
        assert [t.id for t in timed.tokens] == [t.id for t in plain.tokens]
        assert plain.words == ()
        assert {(t.start, t.end) for t in plain.tokens} == {
            (s.start, s.end) for s in plain.segments
        }
        for item in (*timed.words, *timed.tokens, *timed.segments, *plain.segments):
            assert 0 <= item.start <= item.end <= timed.duration


def test_a_segment_is_as_sure_as_the_mean_of_its_words_and_tokens_are_text(
    multi: WhisperEngine,
) -> None:
    runner = multi._runner
    assert isinstance(runner, whisper_ctranslate2.CTranslate2Whisper)
    ids = runner._tokenizer.encode(" größe ja", add_special_tokens=False).ids
    words = [
        SimpleNamespace(word=w, start=0.0, end=1.0, probability=p)
        for w, p in ((" größe", 0.5), (" ja", 1.0))
    ]
    raw = SimpleNamespace(text=" größe ja", start=0.0, end=1.0, words=words, tokens=ids)
    segment, tokens = runner._segment(raw, 1.0)
    assert segment.confidence == 0.75
    assert [token.id for token in tokens] == ids
    spelled = "".join(token.text for token in tokens)
    assert "Ġ" not in spelled and spelled.startswith(" gr") and spelled.endswith(" ja")


def test_clips_without_sound(english: WhisperEngine, multi: WhisperEngine) -> None:
    for engine in (english, multi):
        empty, _ = engine.transcribe([np.zeros(0, np.float32), _noise(0.001)], EngineOptions())
        assert (empty.text, empty.words, empty.duration) == ("", (), 0.0)


def test_tokens_belong_to_the_word_they_begin_in() -> None:
    """The bytes of "größe" are split inside the ö; the comma joins the word before it."""
    pieces = ["Ġgr", "Ã", "¶ÃŁe", ",", "Ġja"]
    assert _owners(pieces, [" größe,", " ja"]) == [0, 0, 0, 0, 1]
    assert _owners(pieces, []) == [0] * 5


def _segment(text: str, compression: float, logprob: float) -> SimpleNamespace:
    return SimpleNamespace(
        text=text,
        start=0.0,
        end=1.0,
        words=None,
        compression_ratio=compression,
        avg_logprob=logprob,
    )


@pytest.mark.parametrize(
    ("again", "kept"),
    [([("better", 1.0, -0.9)], ["better"]), ([("no no no", 3.0, -0.5)], ["so so so"]), ([], [])],
)
def test_a_loop_is_decoded_again(again: list[tuple[str, float, float]], kept: list[str]) -> None:
    model = CTranslate2Whisper.__new__(CTranslate2Whisper)
    seen: list[int] = []

    def decode(clip: Any, options: dict[str, Any], words: bool) -> Any:
        seen.append(len(clip))
        return [_Window(0, [_segment(*item) for item in again], None)], "en"

    model._decode = decode  # type: ignore[method-assign]
    loop = _Window(200, [_segment("so so so", 4.0, -0.2)], None, stop=500)
    assert loop.loops
    found = model._rescued(np.zeros(160000, np.float32), loop, {}, words=False)
    assert [segment.text for segment in found] == kept
    assert seen == [300 * 160]
    assert all(segment.start == 2.0 for segment in found if segment.text == "better")


def test_hugging_face_folders_run_by_way_of_the_cache(
    folders: Path, multi: WhisperEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path))
    engine = WhisperEngine(folders / "multi", precision="float32", name="multi")
    assert [path.parent.name for path in tmp_path.rglob("model.bin")]
    clips = [_noise(2)]
    assert engine.transcribe(clips, EngineOptions()) == multi.transcribe(clips, EngineOptions())


def test_silent_and_offline(
    folders: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    engine = WhisperEngine(folders / "multi-ct2")
    engine.transcribe([_noise(1), _noise(2)], EngineOptions())
    assert capfd.readouterr() == ("", "")


def test_missing_extra(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper_ctranslate2, "installed", lambda: False)
    monkeypatch.setattr(whisper_transformers, "installed", lambda: False)
    for name in ("multi", "multi-ct2"):
        with pytest.raises(MissingExtra, match=r"pip install auricle\[whisper\]"):
            WhisperEngine(folders / name)


def test_folders_and_devices_that_cannot_be_used(folders: Path, tmp_path: Path) -> None:
    good = folders / "multi-ct2"
    with pytest.raises(CheckpointError, match="holds no Whisper"):
        WhisperEngine(tmp_path)
    (tmp_path / "config.json").write_bytes((good / "config.json").read_bytes())
    (tmp_path / "model.bin").write_bytes((good / "model.bin").read_bytes()[:10000])
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        WhisperEngine(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((good / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match="not a readable Whisper model"):
        WhisperEngine(tmp_path)
    with pytest.raises(ConfigError, match="'mps'"):
        WhisperEngine(good, device="mps")
    with pytest.raises(ConfigError, match="unknown precision 'int3'"):
        WhisperEngine(good, precision="int3")


@pytest.mark.parity
@pytest.mark.parametrize("name", ["multi", "english"])
def test_transformers_gives_the_same_shape(
    folders: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="needs the extra whisper-hf")
    monkeypatch.setattr(whisper_ctranslate2, "installed", lambda: False)
    to_huggingface(folders / f"{name}-ct2", tmp_path / name)
    engine = WhisperEngine(tmp_path / name)
    clips = [_noise(2), _noise(35, seed=1)]
    first = engine.transcribe(clips, EngineOptions(language="en"))
    assert [t.language for t in first] == ["en", "en"]
    for transcript in first:
        for item in (*transcript.words, *transcript.tokens, *transcript.segments):
            assert 0 <= item.start <= item.end <= transcript.duration
            assert 0 <= (item.confidence or 0) <= 1
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(engine.transcribe, clips, EngineOptions(language="en")) for _ in "ab"]
        assert all(job.result() == first for job in jobs)


@pytest.mark.parity
def test_transformers_finds_languages_as_likely(
    multi: WhisperEngine, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="needs the extra whisper-hf")
    to_huggingface(folders / "multi-ct2", tmp_path / "hf")
    monkeypatch.setattr(whisper_ctranslate2, "installed", lambda: False)
    engine = WhisperEngine(tmp_path / "hf", precision="fp32")
    for clip in (_noise(3), _noise(35, seed=1)):
        assert engine.languages_of(clip) == pytest.approx(multi.languages_of(clip), abs=1e-3)


@pytest.mark.parity
def test_transformers_hears_the_same(
    tiny_en: WhisperEngine,
    shared: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("transformers", reason="needs the extra whisper-hf")
    to_huggingface(embedded.folder(), tmp_path / "hf")
    monkeypatch.setattr(whisper_ctranslate2, "installed", lambda: False)
    engine = WhisperEngine(tmp_path / "hf")
    clips = [audio.read(shared(f"golden/wav/{name}.wav")) for name in ("beckett", "two_cities")]
    ours = tiny_en.transcribe(clips, EngineOptions())
    for transcript, expected in zip(engine.transcribe(clips, EngineOptions()), ours, strict=True):
        assert transcript.text == expected.text
        pairs = list(zip(transcript.words, expected.words, strict=True))
        near = [abs(word.start - other.start) < 0.3 for word, other in pairs]
        assert sum(near) > 0.9 * len(near)
