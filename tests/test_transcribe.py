"""Inputs, batches, order, long recordings and channels, with an engine that only listens."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from auricle import transcribe
from auricle.engines import EngineOptions
from auricle.errors import AudioError, ConfigError
from auricle.recognizer import Recognizer
from auricle.transcribe import Failure
from auricle.types import Segment, Transcript, Word

RATE = 16000


class LoudnessEngine:
    """Says how long and how loud a clip is; remembers the shape of every batch."""

    name, heads, languages, sample_rate = "loudness", ("ctc",), (), RATE
    batch_seconds, any_length = 60.0, False

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def transcribe(self, clips, options: EngineOptions) -> list[Transcript]:
        if options.task != "transcribe":
            raise ConfigError("loudness cannot translate")
        self.batches.append([len(clip) for clip in clips])
        return [self._hear(clip) for clip in clips]

    def _hear(self, clip: np.ndarray) -> Transcript:
        seconds = len(clip) / RATE
        text = f"{seconds:.1f}s at {np.abs(clip).max(initial=0):.1f}."
        word = Word(text, 0.0, seconds, 0.5)
        return Transcript(text, (Segment(text, 0.0, seconds, (word,)),), (word,), (), None, seconds)


def tone(seconds: float, loudness: float = 0.5) -> np.ndarray:
    return np.full(int(seconds * RATE), loudness, dtype=np.float32)


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """16-bit PCM WAV, [S] or [S, C]; written by hand so that this test needs no codec."""
    import wave

    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return path


def test_one_in_one_out_many_in_list_out(tmp_path: Path) -> None:
    asr = Recognizer(LoudnessEngine())
    path = write_wav(tmp_path / "a.wav", tone(1.5))
    assert asr.transcribe(path).text == "1.5s at 0.5."
    assert asr.transcribe(str(path)).duration == 1.5
    assert asr.transcribe(tone(2.0, 0.25), sample_rate=RATE).text == "2.0s at 0.2."
    assert asr.transcribe(path.read_bytes()).text == "1.5s at 0.5."
    with path.open("rb") as file:
        assert asr.transcribe(file).text == "1.5s at 0.5."
    assert [t.text for t in asr.transcribe([path])] == ["1.5s at 0.5."]
    assert asr.transcribe([]) == []


def test_output_order_is_input_order_and_batches_keep_the_budget() -> None:
    engine = LoudnessEngine()
    rng = np.random.default_rng(0)
    seconds = rng.uniform(0.5, 20.0, size=50).round(1)
    clips = [tone(s) for s in seconds]
    transcripts = Recognizer(engine).transcribe(clips, sample_rate=RATE, batch_seconds=40)
    assert [t.text for t in transcripts] == [f"{s:.1f}s at 0.5." for s in seconds]
    assert sum(len(batch) for batch in engine.batches) == 50
    for batch in engine.batches:
        assert len(batch) * max(batch) <= 40 * RATE
        assert batch == sorted(batch, reverse=True)
    assert len(engine.batches) < 30


def test_a_clip_over_the_budget_is_a_batch_of_its_own() -> None:
    assert list(transcribe.batches([50, 10, 30, 10], 20)) == [[0], [2], [1, 3]]


def test_folder_glob_and_manifest_are_listed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, seconds in (("b.wav", 1.0), ("a.wav", 2.0), ("deep/c.wav", 3.0)):
        write_wav(tmp_path / name, tone(seconds))
    (tmp_path / "notes.txt").write_text("not audio")
    rows = [
        {"audio_filepath": "a.wav", "duration": 0.5, "offset": 1.0, "text": "x", "extra": [1]},
        {"audio_filepath": "deep/c.wav", "duration": 3.0, "text": "y"},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asr = Recognizer(LoudnessEngine())
    assert [s.name for s in transcribe.sources(tmp_path)] == ["a.wav", "b.wav", "deep/c.wav"]
    assert [t.duration for t in asr.transcribe(str(tmp_path / "*.wav"))] == [2.0, 1.0]
    assert [t.duration for t in asr.transcribe(manifest)] == [0.5, 3.0]
    assert next(transcribe.sources(manifest)).row["extra"] == [1]
    with pytest.raises(AudioError, match="no file matches"):
        asr.transcribe(str(tmp_path / "*.opus"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AudioError, match="holds no audio"):
        asr.transcribe(empty)


def test_one_bad_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    good = write_wav(tmp_path / "good.wav", tone(1.0))
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"this is not audio at all" * 10)
    asr = Recognizer(LoudnessEngine())
    results = asr.transcribe([bad, good, tmp_path / "missing.wav"], on_error="return")
    assert [type(r) for r in results] == [Failure, Transcript, Failure]
    assert isinstance(results[0].error, AudioError) and "bad.wav" in str(results[0].error)
    assert "missing.wav" in str(results[2].error)
    with pytest.raises(AudioError, match=r"bad\.wav"):
        asr.transcribe([bad, good])


def test_long_audio_is_cut_at_silence_and_said(caplog: pytest.LogCaptureFixture) -> None:
    engine = LoudnessEngine()
    samples = np.concatenate([np.r_[tone(28.0), tone(2.0, 0.0)] for _ in range(18)])
    with caplog.at_level(logging.WARNING, logger="auricle"):
        transcript = Recognizer(engine).transcribe(samples, sample_rate=RATE)
    assert "9:00" in caplog.text and "cut at silence" in caplog.text
    assert transcript.duration == 540.0
    assert max(max(batch) for batch in engine.batches) <= 60 * RATE
    assert sum(sum(batch) for batch in engine.batches) == len(samples)
    for before, after in zip(transcript.segments, transcript.segments[1:], strict=False):
        assert before.end == pytest.approx(after.start)
        at = int(after.start * RATE)
        assert np.abs(samples[at - 160 : at + 160]).max() == 0.0, "a cut outside of silence"


def test_audio_up_to_eight_minutes_is_one_piece() -> None:
    engine = LoudnessEngine()
    Recognizer(engine).transcribe(tone(480.0), sample_rate=RATE)
    assert engine.batches == [[480 * RATE]]


def test_every_channel_is_its_own_speaker(tmp_path: Path) -> None:
    stereo = np.stack([tone(2.0, 0.2), tone(2.0, 0.8)], axis=1)
    asr = Recognizer(LoudnessEngine())
    for x in (write_wav(tmp_path / "call.wav", stereo), stereo):
        transcript = asr.transcribe(x, channel="all", sample_rate=RATE)
        assert [s.speaker for s in transcript.segments] == ["channel 0", "channel 1"]
        assert [s.text for s in transcript.segments] == ["2.0s at 0.2.", "2.0s at 0.8."]
        assert {w.speaker for w in transcript.words} == {"channel 0", "channel 1"}
        assert transcript.duration == 2.0
        assert asr.transcribe(x, channel=1, sample_rate=RATE).text == "2.0s at 0.8."
        assert asr.transcribe(x, sample_rate=RATE).text == "2.0s at 0.5."


def test_results_are_lazy() -> None:
    read: list[int] = []

    def clips():
        for index in range(10_000):
            read.append(index)
            yield tone(0.5)

    results = Recognizer(LoudnessEngine()).transcribe_iter(clips(), sample_rate=RATE)
    next(results)
    assert len(read) < 2_000
    results.close()


def test_an_option_the_engine_refuses_is_raised_whatever_on_error_says() -> None:
    asr = Recognizer(LoudnessEngine())
    with pytest.raises(ConfigError, match="translate"):
        asr.transcribe([tone(1.0)], sample_rate=RATE, task="translate", on_error="return")
    with pytest.raises(ConfigError, match="batch_seconds"):
        asr.transcribe(tone(1.0), sample_rate=RATE, batch_seconds=0)
    with pytest.raises(AudioError, match="sample_rate"):
        asr.transcribe(tone(1.0))


def test_what_datasets_and_torch_give_is_a_recording() -> None:
    torch = pytest.importorskip("torch")
    asr = Recognizer(LoudnessEngine())
    clip = {"array": tone(1.5), "sampling_rate": RATE, "path": "some/where.wav"}
    assert asr.transcribe(clip).text == "1.5s at 0.5."
    assert asr.transcribe({**clip, "sampling_rate": RATE // 2}).duration == 3.0
    assert asr.transcribe({**clip, "array": tone(1.5).tolist()}).duration == 1.5
    assert [t.duration for t in asr.transcribe([clip, clip])] == [1.5, 1.5]
    tensor = torch.from_numpy(tone(2.0))
    for one in (tensor, tensor[None], tensor.requires_grad_(), tensor[:, None].repeat(1, 2)):
        assert asr.transcribe(one, sample_rate=RATE).text == "2.0s at 0.5."
    assert [t.duration for t in asr.transcribe([tensor, clip], sample_rate=RATE)] == [2.0, 1.5]
    for bad in ({"array": tone(1.0)}, {"samples": tone(1.0)}, {}, None, 3, tensor.bfloat16()):
        with pytest.raises(AudioError):
            asr.transcribe(bad, sample_rate=RATE if isinstance(bad, torch.Tensor) else None)


def test_bytes_paths_and_decoders_of_datasets_are_recordings(tmp_path: Path) -> None:
    asr = Recognizer(LoudnessEngine())
    path = write_wav(tmp_path / "a.wav", tone(1.5))
    assert asr.transcribe({"bytes": path.read_bytes(), "path": None}).duration == 1.5
    assert asr.transcribe({"bytes": None, "path": str(path)}).duration == 1.5

    class Decoder:
        def get_all_samples(self):
            return SimpleNamespace(data=tone(1.0)[None], sample_rate=RATE)

    assert asr.transcribe(Decoder()).duration == 1.0


def test_every_channel_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_wav(tmp_path / "a.wav", np.stack([tone(1.0), tone(1.0, 0.25)], axis=1))
    opened = []
    monkeypatch.setattr(Path, "open", counting(Path.open, opened))
    transcript = Recognizer(LoudnessEngine()).transcribe(path, channel="all")
    assert [s.text for s in transcript.segments] == ["1.0s at 0.5.", "1.0s at 0.2."]
    assert len(opened) == 1


def counting(function, calls: list):
    def counted(*args, **options):
        calls.append(args)
        return function(*args, **options)

    return counted


def test_what_is_missing_is_said_in_the_transcript_and_once_on_stderr(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_wav(tmp_path / "cut.wav", tone(4.0))
    path.write_bytes(path.read_bytes()[: 2 * RATE * 3 + 44])
    with caplog.at_level(logging.WARNING, logger="auricle"):
        transcript = Recognizer(LoudnessEngine()).transcribe(path)
    assert transcript.text == "3.0s at 0.5."
    assert transcript.warnings == ("cut short: 3.0 of 4.0 seconds are there",)
    assert [r.getMessage() for r in caplog.records] == [f"{path}: {transcript.warnings[0]}"]
    both = Recognizer(LoudnessEngine()).transcribe(path, channel="all")
    assert both.warnings == transcript.warnings


def test_a_folder_says_which_files_it_skips(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_wav(tmp_path / "a.mpga", tone(1.0))
    write_wav(tmp_path / "b.mxf", tone(1.0))
    write_wav(tmp_path / "recording", tone(1.0))
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "folder.wav").mkdir()
    with caplog.at_level(logging.WARNING, logger="auricle"):
        assert [s.name for s in transcribe.sources(tmp_path)] == ["a.mpga", "b.mxf"]
    assert "skipped 1 file without a suffix (recording)" in caplog.text


@pytest.mark.parametrize("name", ["https://example.org/a.wav?x=*", "s3://bucket/a.wav"])
def test_an_address_is_said_to_be_one_wherever_it_stands(name: str, tmp_path: Path) -> None:
    asr = Recognizer(LoudnessEngine())
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": name, "text": ""}) + "\n")
    for given in (name, [name], manifest):
        with pytest.raises(AudioError, match="only files are read: save what stands at that"):
            asr.transcribe(given)


@pytest.mark.parametrize("channel", [None, 0])
def test_without_timestamps_nothing_is_timed(channel: int | None) -> None:
    (plain,) = Recognizer(LoudnessEngine()).transcribe(
        [tone(2)], sample_rate=RATE, timestamps=False, channel=channel
    )
    assert plain.text == "2.0s at 0.5." and plain.duration == 2.0
    assert (plain.segments, plain.words, plain.tokens) == ((), (), ())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"on_error": "ignore"}, "unknown on_error 'ignore': use 'raise' or 'return'"),
        ({"channel": "left"}, "unknown channel 'left': use None, 'all' or a number from 0"),
        ({"channel": -1}, "unknown channel -1"),
        ({"batch_seconds": float("nan")}, "batch_seconds must be a number above 0, got nan"),
        ({"batch_seconds": float("inf")}, "batch_seconds must be a number above 0, got inf"),
    ],
)
def test_options_take_only_what_they_know(option: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recognizer(LoudnessEngine()).transcribe(tone(1), sample_rate=RATE, **option)


@pytest.mark.parametrize("item", [None, 3, 2.5, object()])
def test_what_is_no_recording_is_told(item: object) -> None:
    with pytest.raises(AudioError, match="is no recording: give a path"):
        Recognizer(LoudnessEngine()).transcribe(item)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="is no recording"):
        Recognizer(LoudnessEngine()).transcribe([item])  # type: ignore[list-item]
