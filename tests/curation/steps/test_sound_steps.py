"""probe, convert, segment and cut: their examples, real files, and damaged ones among good."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.curation.items import Filtered, Quarantined
from auricle.curation.step import Step
from auricle.curation.steps.convert import Convert
from auricle.curation.steps.cut import Cut
from auricle.curation.steps.probe import Probe
from auricle.curation.steps.segment import Segment
from auricle.errors import ConfigError
from tests.audio.media import chirp, encode
from tests.curation.steps.sounding import examples_hold, kept, made, reason, sound_file

Find = Callable[[str], Path]

STEPS = [
    Probe(),
    Convert(),
    Convert(sample_rate=8_000, format="wav"),
    Cut(),
    Segment(vad="energy"),
    Segment(vad="energy", write=True),
]


@pytest.fixture
def speech(shared: Find) -> dict[str, Any]:
    """A row of real speech."""
    line = shared("data/librispeech-eval.jsonl").read_text(encoding="utf-8").splitlines()[0]
    row = json.loads(line)
    return {**row, "audio_filepath": str(shared("data") / row["audio_filepath"])}


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_examples_hold(step: Step, tmp_path: Path) -> None:
    assert examples_hold(step, tmp_path) >= 2


@pytest.mark.parametrize("write", [False, True])
def test_sileros_examples_hold(write: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    step = Segment(write=write)
    assert step.vad == "silero" and examples_hold(step, tmp_path) == 2


def test_probe_measures_real_speech(speech: dict[str, Any], tmp_path: Path) -> None:
    probed = kept(Probe(), tmp_path, speech)
    assert probed["text"] == speech["text"]
    assert probed["duration"] == pytest.approx(speech["duration"], abs=0.01)
    assert (probed["sample_rate"], probed["channels"], probed["codec"]) == (48_000, 1, "opus")
    assert 0 < probed["silence_ratio"] < 0.4 and probed["clipping_ratio"] == 0
    assert 15 < probed["snr_db"] < 45 and 7_500 < probed["bandwidth_hz"] < 8_600
    assert json.loads(json.dumps(probed, allow_nan=False)) == {**probed}
    assert {key: probed[key] for key in ("duration", "silence_ratio", "snr_db")} == {
        "duration": round(probed["duration"], 3),
        "silence_ratio": round(probed["silence_ratio"], 4),
        "snr_db": round(probed["snr_db"], 2),
    }


def test_probe_measures_the_stretch(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(32_000), chirp(2.0, 16_000)])
    name = sound_file(tmp_path / "a.wav", samples)
    first = kept(Probe(), tmp_path, {"audio_filepath": name, "offset": 0.0, "duration": 2.0})
    second = kept(Probe(), tmp_path, {"audio_filepath": name, "offset": 2.0, "duration": 2.0})
    assert (first["silence_ratio"], first["duration"]) == (1.0, 2.0)
    assert second["silence_ratio"] < 0.2


def test_probe_lets_damaged_sound_through_where_it_is_wanted(tmp_path: Path) -> None:
    wav, opus = encode(chirp(6.0)), encode(chirp(6.0, 48_000), "ogg", "libopus", 48_000)
    (tmp_path / "whole.wav").write_bytes(wav)
    (tmp_path / "cut.wav").write_bytes(wav[: len(wav) // 3])
    (tmp_path / "cut.opus").write_bytes(opus[: len(opus) // 2])
    probe = Probe(keep_damaged=True)
    missing = {}
    for name in ("whole.wav", "cut.wav", "cut.opus"):
        probed = kept(probe, tmp_path, {"audio_filepath": str(tmp_path / name)})
        missing[name] = (probed["duration"], probed["missing_seconds"])
        written = kept(Convert(), tmp_path, probed)  # later steps read what is there
        assert written["duration"] == pytest.approx(probed["duration"], abs=0.01)
    assert missing["whole.wav"] == (6.0, 0.0)
    assert missing["cut.wav"] == (pytest.approx(2.0, abs=0.01), pytest.approx(4.0, abs=0.01))
    assert missing["cut.opus"] == (pytest.approx(3.0, abs=1.1), None)
    stated = {"audio_filepath": str(tmp_path / "whole.wav"), "duration": 9.0}
    assert kept(probe, tmp_path, stated)["missing_seconds"] == 3.0


def damaged_files(folder: Path) -> dict[str, str]:
    """Files that cannot be worked on, and the reason that each must get."""
    flac = encode(chirp(6.0), "flac", "flac")
    wav = encode(chirp(6.0))
    opus = encode(chirp(6.0, 48_000), "ogg", "libopus", 48_000)
    noise = np.random.default_rng(0).bytes(20_000)
    damaged = flac[: len(flac) // 2] + noise + flac[len(flac) // 2 + len(noise) :]
    contents = {
        "empty.wav": (b"", "empty"),
        "header.wav": (wav[: wav.index(b"data") + 8], "truncated"),
        "no-samples.wav": (_no_samples(), "empty"),
        "noise.flac": (noise, "cannot be decoded"),
        "text.wav": (b"this is no sound\n" * 99, "cannot be decoded"),
        "cut.flac": (flac[: len(flac) // 2], "truncated"),
        "cut.wav": (wav[: len(wav) // 3], "truncated"),
        "cut.opus": (opus[: len(opus) // 2], "truncated"),
        "damaged.flac": (damaged, "damaged"),
        "picture.mp4": (_picture(folder), "no audio stream"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.wav").mkdir()
    return {name: reason for name, (_, reason) in contents.items()} | {
        "gone.wav": "no such file",
        "folder.wav": "not a file",
    }


def _no_samples() -> bytes:
    file = io.BytesIO()
    audio.write(file, [], 16_000, "wav")
    return file.getvalue()


def _picture(folder: Path) -> bytes:
    import av

    path = folder / "silent.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("step", [Probe(), Convert(), Segment(vad="energy")], ids=repr)
def test_damaged_files_among_good_ones(step: Step, tmp_path: Path) -> None:
    """One batch of all: the damaged are quarantined with their reasons, the good are not."""
    reasons = damaged_files(tmp_path)
    good = sound_file(tmp_path / "good.wav", np.concatenate([np.zeros(16_000), chirp(3.0, 16_000)]))
    names = [good, *(str(tmp_path / name) for name in reasons), good]
    job = tmp_path / "job"
    found = made(step, job, *({"audio_filepath": name} for name in names))
    assert len(found) == len(names)
    assert isinstance(found[0], dict) and isinstance(found[-1], dict)
    given = {}
    for one in found[1:-1]:
        assert isinstance(one, Quarantined) and one.detail
        given[Path(one.item["audio_filepath"]).name] = one.reason
    assert given == reasons


def test_convert_to_8_khz_keeps_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "two.flac"
    path.write_bytes(encode(np.stack([chirp(2.0), np.zeros(88_200)]), "flac", "flac"))
    item = {"audio_filepath": str(path), "text": "hello", "mine": [1]}
    one = kept(Convert(sample_rate=8_000), tmp_path / "job", item)
    assert one["source_filepath"] == str(path) and one["mine"] == [1] and one["text"] == "hello"
    info = audio.probe(tmp_path / "job" / one["audio_filepath"])
    assert (info.sample_rate, info.channels, info.codec, info.duration) == (8_000, 1, "flac", 2.0)
    expected = audio.read(path, sample_rate=8_000)
    heard = audio.read(tmp_path / "job" / one["audio_filepath"], sample_rate=8_000)
    assert np.abs(heard - expected).max() <= 2**-16
    right = kept(Convert(channel=1, format="wav"), tmp_path / "job", item)
    assert np.abs(audio.read(tmp_path / "job" / right["audio_filepath"])).max() == 0
    assert reason(Convert(channel=2), tmp_path / "job", item) == "no such channel"


def test_steps_that_write_follow_each_other(tmp_path: Path) -> None:
    """A stretch is converted and then cut again: no file takes another's place."""
    samples = chirp(6.0, 16_000)
    name = sound_file(tmp_path / "a.wav", samples)
    job = tmp_path / "job"
    first = kept(Convert(), job, {"audio_filepath": name, "offset": 1.0, "duration": 4.0})
    assert (first["source_offset"], first["duration"]) == (1.0, 4.0) and "offset" not in first
    second = kept(Cut(), job, {**first, "offset": 0.5, "duration": 2.0})
    assert (second["source_filepath"], second["source_offset"]) == (name, 1.5)
    assert len(audio.read(job / first["audio_filepath"])) == 4 * 16_000
    heard = audio.read(job / second["audio_filepath"])
    np.testing.assert_allclose(heard, audio.read(name)[24_000:56_000], atol=1e-4)
    again = kept(Convert(), job, {"audio_filepath": name, "offset": 1.0, "duration": 4.0})
    assert again == first


def test_cut_keeps_the_files_own_rate(tmp_path: Path) -> None:
    name = sound_file(tmp_path / "a.wav", chirp(3.0, 44_100), 44_100)
    item = {"audio_filepath": name, "offset": 1.0, "duration": 1.0}
    one = kept(Cut(format="wav"), tmp_path / "job", item)
    assert (one["sample_rate"], one["codec"], one["duration"]) == (44_100, "pcm_s16le", 1.0)
    heard = audio.read(tmp_path / "job" / one["audio_filepath"], sample_rate=44_100)
    np.testing.assert_array_equal(heard, audio.read(name, sample_rate=44_100)[44_100:88_200])


@pytest.fixture
def talk(shared: Find, tmp_path: Path) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """Five utterances with two seconds between them, as one file; and where each lies."""
    lines = shared("data/librispeech-eval.jsonl").read_text(encoding="utf-8").splitlines()
    pause = np.random.default_rng(0).normal(0, 0.0003, 32_000)
    parts, spans, at = [pause], [], 2.0
    for line in lines[:50:10]:
        clip = audio.read(shared("data") / json.loads(line)["audio_filepath"])
        spans.append((at, at + len(clip) / 16_000))
        parts += [clip, pause]
        at = spans[-1][1] + 2.0
    name = sound_file(tmp_path / "talk.wav", np.concatenate(parts))
    return {"audio_filepath": name, "text": "all of it", "speaker": "x", "duration": at}, spans


@pytest.mark.parametrize("vad", ["silero", "energy"])
def test_segments_of_a_talk(
    talk: tuple[dict[str, Any], list[tuple[float, float]]], vad: Any, tmp_path: Path
) -> None:
    if vad == "silero":
        pytest.importorskip("onnxruntime")
    item, spans = talk
    pieces = made(Segment(vad=vad, merge=1.5), tmp_path, item)
    assert len(pieces) == len(spans)
    for number, (piece, (start, stop)) in enumerate(zip(pieces, spans, strict=True), 1):
        assert isinstance(piece, dict)
        assert piece["item_id"] == f"00000000-{number:04d}" and piece["parent_id"] == "00000000"
        assert piece["speaker"] == "x" and "text" not in piece
        assert piece["offset"] == pytest.approx(start, abs=0.6)
        assert piece["offset"] + piece["duration"] == pytest.approx(stop, abs=0.6)
    short = made(Segment(vad=vad, merge=1.5, max_duration=5.0), tmp_path, item)
    durations = [piece["duration"] for piece in short if isinstance(piece, dict)]
    assert len(durations) == len(short) > len(pieces) and max(durations) <= 5.0


@pytest.mark.parametrize("held", [True, False])
def test_written_segments_are_the_stretches(
    talk: tuple[dict[str, Any], list[tuple[float, float]]],
    held: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long recordings are read a second time rather than held; that gives the same files."""
    if not held:
        monkeypatch.setattr("auricle.curation.steps.segment._HELD", 0.0)
    item, _ = talk
    item = {**item, "offset": 1.0, "duration": item["duration"] - 1.0}
    options: dict[str, Any] = {"vad": "energy", "max_duration": 6.0}
    named = made(Segment(**options), tmp_path, item)
    files = made(Segment(**options, write=True), tmp_path / "job", item)
    whole = audio.read(item["audio_filepath"])
    assert len(named) == len(files) > 4
    for stretch, file in zip(named, files, strict=True):
        assert isinstance(stretch, dict) and isinstance(file, dict)
        assert file["source_filepath"] == item["audio_filepath"] and "offset" not in file
        assert file["source_offset"] == stretch["offset"]
        heard = audio.read(tmp_path / "job" / file["audio_filepath"])
        first = round(stretch["offset"] * 16_000)
        expected = whole[first : first + len(heard)]
        assert abs(len(heard) / 16_000 - stretch["duration"]) < 0.001
        np.testing.assert_allclose(heard, expected, atol=1e-4)


def test_segments_lose_what_was_said_of_the_whole(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(16_000), chirp(2.0, 16_000), np.zeros(16_000)])
    item = {
        "audio_filepath": sound_file(tmp_path / "a.wav", samples),
        "text": "a",
        "fast": "b",
        "words": [],
        "snr_db": 1.0,
        "lang": "en",
    }
    (piece,) = made(Segment(vad="energy", drop=("fast",)), tmp_path, item)
    assert isinstance(piece, dict) and piece["lang"] == "en"
    assert not {"text", "fast", "words", "snr_db"} & set(piece)


def test_music_is_no_speech(shared: Find, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    name = str(sorted(shared("data/noise").glob("rain*.opus"))[0])
    (one,) = made(Segment(vad="silero"), tmp_path, {"audio_filepath": name})
    assert isinstance(one, Filtered) and one.reason == "no speech" and one.detail == "in 5.0 s"


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (Convert, {"sample_rate": 7}, "sample_rate must be 100"),
        (Convert, {"channel": -1}, "channel must be a number from 0"),
        (Convert, {"format": "mp3"}, "format must be flac or wav"),
        (Cut, {"format": "ogg"}, "format must be flac or wav"),
        (Segment, {"vad": "ear"}, "vad must be auto, silero or energy"),
        (Segment, {"threshold": 1.0}, "threshold must be between"),
        (Segment, {"padding": -0.1}, "padding must be 0 or more"),
        (Segment, {"max_duration": 0.5}, "max_duration must be a second or more"),
    ],
)
def test_options_that_make_no_sense(
    step: Callable[..., Step], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        step(**options)


def test_auto_is_settled_when_the_step_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auricle.curation.steps.segment.installed", lambda: "energy")
    step = Segment()
    assert step.options()["vad"] == "energy"
    assert step == Segment(vad="energy")
