"""`auricle stream`: sources, what is shown, interruption, manifests, and mistakes in one line."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import types
import wave
from pathlib import Path

import numpy as np
import pytest

import auricle
from tests.cli.conftest import Run, start
from tests.cli.fake_streaming import FakeRecognizer
from tests.patience import PATIENCE

FAKE = """
import auricle
from tests.cli.fake_streaming import FakeRecognizer
auricle.load = FakeRecognizer().load
"""
TWO = ["w0 w1 w2 w3 w4", "w5 w6 w7 w8 w9", "w10 w11"]  # 1.2 seconds


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRecognizer:
    recognizer = FakeRecognizer()
    monkeypatch.setattr(auricle, "load", recognizer.load)
    return recognizer


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return write(tmp_path / "talk.wav", 1.2)


def write(path: Path, seconds: float, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * round(seconds * rate)))
    return path


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    reader = types.SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", reader)


# Files


def test_a_pipe_gets_finals_alone(run: Run, fake: FakeRecognizer, talk: Path) -> None:
    code, out, err = run("stream", talk, "--fast")
    assert (code, out.splitlines(), err) == (0, TWO, "")
    (stream,) = fake.made
    assert stream.options["keep"] is False and stream.options["sample_rate"] == 16000
    assert {len(block) for block in stream.pushed} == {320}


def test_a_file_is_heard_as_it_was_spoken(
    run: Run, fake: FakeRecognizer, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("auricle.cli.pacing.time.sleep", slept.append)
    monkeypatch.setattr("auricle.cli.pacing.time.monotonic", lambda: sum(slept))
    assert run("stream", talk)[0] == 0
    assert sum(slept) == pytest.approx(1.2, abs=0.02)


def test_options_reach_the_model_and_the_stream(run: Run, fake: FakeRecognizer, talk: Path) -> None:
    options = {
        "-m": "some/model",
        "--lookahead": "[70,1]",
        "--language": "de",
        "--head": "ctc",
        "--device": "cpu",
        "--precision": "bf16",
        "--revision": "v1",
        "--silence-ms": "300",
        "--max-seconds": "0",
    }
    words = [word for option in options.items() for word in option]
    assert run("stream", talk, "--fast", "--untrained", "--local-only", *words)[0] == 0
    assert fake.loaded == {
        "name": "some/model",
        "device": "cpu",
        "precision": "bf16",
        "head": "ctc",
        "revision": "v1",
        "local_only": True,
    }
    given = fake.made[0].options
    assert (given["latency_ms"], given["lookahead"], given["untrained"]) == (None, [70, 1], True)
    assert given["language"] == "de"
    ending = given["endpointing"]
    assert (ending.silence_ms, ending.vad, ending.max_seconds) == (300, False, None)
    run("stream", talk, "--fast", "--lookahead", "6", "--vad")
    given = fake.made[1].options
    assert given["lookahead"] == 6
    assert (given["endpointing"].silence_ms, given["endpointing"].vad) == (800, True)


def test_events_for_programs(run: Run, fake: FakeRecognizer, talk: Path) -> None:
    code, out, _ = run("stream", talk, "--fast", "--jsonl")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(events) == 12 + 3
    assert [e["segment"]["text"] for e in events if e["type"] == "final"] == TWO
    assert events[1] == {"type": "partial", "text": "w0 w1", "stable": "w0"}


def test_a_report_of_the_latency(run: Run, fake: FakeRecognizer, talk: Path) -> None:
    _, out, err = run("stream", talk, "--fast", "--report")
    assert out.splitlines() == TWO
    assert "latency of 12 words" in err and "median" in err and "p95" in err


def test_the_whole_transcript_by_suffix(
    run: Run, fake: FakeRecognizer, talk: Path, tmp_path: Path
) -> None:
    for suffix in ("txt", "json", "srt", "vtt", "ctm", "tsv"):
        code, out, err = run("stream", talk, "--fast", "-o", tmp_path / f"out.{suffix}")
        assert (code, out.splitlines(), err) == (0, TWO, "")
    assert (tmp_path / "out.txt").read_text().split() == " ".join(TWO).split()
    assert len(json.loads((tmp_path / "out.json").read_text())["words"]) == 12
    assert (tmp_path / "out.srt").read_text().startswith("1\n00:00:00,000 --> ")
    assert fake.made[0].options["keep"] is True
    code, _, err = run("stream", talk, "--fast", "-o", tmp_path / "out.srt")
    assert code == 2 and err.endswith("out.srt exists already: --overwrite replaces it\n")
    assert run("stream", talk, "--fast", "-o", tmp_path / "out.srt", "--overwrite")[0] == 0


def test_a_slow_model_is_told_once(
    run: Run, fake: FakeRecognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auricle.cli import pacing

    now = [0.0]
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pacing.time, "sleep", lambda left: now.__setitem__(0, now[0] + left))
    fake.on_push = lambda: now.__setitem__(0, now[0] + 0.05)  # 20 ms of sound take 50 ms
    code, out, err = run("stream", write(tmp_path / "a.wav", 3.0))
    assert (code, err) == (0, pacing.SLOW + "\n")
    assert len(out.splitlines()) == 6
    assert run("stream", tmp_path / "a.wav", "--fast")[2] == ""
    assert run("stream", tmp_path / "a.wav", "-q")[2] == ""


# Standard input


def pcm(seconds: float, rate: int = 16000) -> np.ndarray:
    return (np.sin(np.arange(round(seconds * rate)) / 10) * 20000).astype("<i2")


def test_raw_samples(run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = pcm(1.2)
    stdin(monkeypatch, samples.tobytes())
    code, out, err = run("stream", "-")
    assert (code, out.splitlines(), err) == (0, TWO, "")
    np.testing.assert_array_equal(np.concatenate(fake.made[0].pushed), samples)
    assert fake.made[0].pushed[0].dtype == np.int16


def test_raw_samples_of_other_kinds(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pcm(1.2, 8000), -pcm(1.2, 8000) // 2
    stdin(monkeypatch, np.stack([left, right], axis=1).tobytes())
    assert run("stream", "-", "--rate", "8000", "--channels", "2")[1].splitlines() == TWO
    assert fake.made[0].options["sample_rate"] == 8000
    heard = np.concatenate(fake.made[0].pushed)
    expected = (left / 32768 + right / 32768) / 2
    np.testing.assert_allclose(heard, expected, atol=1e-7)
    stdin(monkeypatch, (left / 32768).astype("<f4").tobytes())
    assert run("stream", "-", "--rate", "8000", "--encoding", "f32le")[0] == 0
    np.testing.assert_array_equal(
        np.concatenate(fake.made[1].pushed), (left / 32768).astype(np.float32)
    )


@pytest.mark.parametrize("cut", [1, 3, 7, 640, 1001])
def test_bytes_may_come_in_any_cuts(cut: int) -> None:
    from auricle.cli.hearing import Pcm, Pipe

    class Dripping(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(min(size or 0, cut))

    samples = pcm(0.1)[:777]
    pipe = Pipe.__new__(Pipe)
    pipe._pcm, pipe._file = Pcm(16000), Dripping(samples.tobytes())
    np.testing.assert_array_equal(np.concatenate(list(pipe.blocks(16000))), samples)


def test_an_odd_byte_is_dropped_and_told(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, pcm(1.2).tobytes() + b"\x7f")
    code, out, err = run("stream", "-")
    assert (code, out.splitlines()) == (0, TWO)
    assert err == (
        "auricle: standard input ends within a sample, 1 byte(s) of which were dropped: "
        "is it s16le with 1 channel(s)?\n"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input holds no sound (0 samples)"),
        (b"\x00", "standard input holds no sound (0 samples)"),
        (b"RIFF\x00\x00\x00\x00WAVE", "standard input is a WAV file, not raw samples"),
        (b"fLaC" + bytes(100), "standard input is a FLAC file, not raw samples"),
    ],
)
def test_what_is_not_raw_sound(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    stdin(monkeypatch, data)
    code, out, err = run("stream", "-")
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_what_was_said_before_an_error_is_shown(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples = np.zeros(16000, "<f4")
    samples[12000] = np.nan
    stdin(monkeypatch, samples.tobytes())
    code, out, err = run("stream", "-", "--encoding", "f32le", "-o", tmp_path / "a.txt")
    assert (code, out.splitlines()) == (2, ["w0 w1 w2 w3 w4", "w5 w6"])
    assert "standard input: the sample at 0.75 s is NaN" in err and err.count("\n") == 1
    assert (tmp_path / "a.txt").read_text().split() == [f"w{i}" for i in range(7)]


def test_a_terminal_is_no_sound(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, b"", terminal=True)
    code, _, err = run("stream", "-")
    assert code == 2 and "standard input is a terminal" in err and fake.loaded == {}


def test_what_was_said_is_written_where_nobody_reads(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch, talk: Path
) -> None:
    from auricle.cli import live

    def write(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(live, "_write", write)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # the command puts another in its place
    code, _, err = run("stream", talk, "--fast", "-o", talk.with_suffix(".txt"))
    assert (code, err) == (141, "")
    assert talk.with_suffix(".txt").read_text().split()[:5] == TWO[0].split()


def test_no_standard_input_at_all(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as after `<&-`
    code, _, err = run("stream", "-")
    assert code == 2 and "standard input is closed" in err and err.count("\n") == 1


# The microphone


class FakeSounddevice(types.ModuleType):
    """A device that gives blocks as fast as they are taken, then presses Ctrl-C or goes away."""

    class PortAudioError(Exception):
        pass

    def __init__(self, blocks: int, *, rates: tuple[int, ...] = (16000,), gone: bool = False):
        super().__init__("sounddevice")
        self.count, self.rates, self.gone = blocks, rates, gone
        self.opened: dict = {}

    def query_devices(self, *, kind: str) -> dict:
        if not self.rates:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": float(self.rates[0])}

    def check_input_settings(self, *, samplerate: int, **_: object) -> None:
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def InputStream(self, *, callback, **settings):
        self.opened = settings
        module = self

        class Device:
            active = not module.gone

            def __enter__(self):
                status = types.SimpleNamespace(input_overflow=False)
                lent = np.zeros((settings["blocksize"], 1), np.float32)
                for _ in range(module.count):
                    callback(lent, len(lent), None, status)
                return self

            def __exit__(self, *_):
                return None

        return Device()


def use_microphone(monkeypatch: pytest.MonkeyPatch, module: FakeSounddevice) -> None:
    from auricle.cli import hearing

    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(hearing, "_STALLED_SECONDS", 0.05)


def test_the_microphone_until_ctrl_c(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = FakeSounddevice(60)
    use_microphone(monkeypatch, module)
    pushes = []

    def push() -> None:
        pushes.append(1)
        if len(pushes) == 60:
            raise_interrupt()

    fake.on_push = push
    with interruptible():
        code, out, err = run("stream", "mic", "-o", tmp_path / "said.txt")
    assert (code, out.splitlines(), err) == (130, TWO, "")
    assert module.opened["samplerate"] == 16000 and module.opened["blocksize"] == 320
    assert (tmp_path / "said.txt").read_text().split()[-1] == "w11"


def test_a_microphone_of_another_rate(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = FakeSounddevice(60, rates=(48000,), gone=True)
    use_microphone(monkeypatch, module)
    code, out, err = run("stream", "mic")
    assert (code, out.splitlines()) == (2, TWO)
    assert "the microphone has gone" in err and err.count("\n") == 1
    assert fake.made[0].options["sample_rate"] == module.opened["samplerate"] == 48000


def test_sound_that_finds_no_room_is_told_once(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auricle.cli import hearing

    use_microphone(monkeypatch, FakeSounddevice(60, gone=True))
    monkeypatch.setattr(hearing, "_MICROPHONE_BLOCKS", 10)
    _, out, err = run("stream", "mic")
    assert out.splitlines() == ["w0 w1"]
    assert err.count("some sound is lost") == 1


def test_no_microphone_no_portaudio_no_extra(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_microphone(monkeypatch, FakeSounddevice(0, rates=()))
    code, _, err = run("stream", "mic")
    assert code == 2 and "there is no microphone (Error querying device -1)" in err
    assert err.count("\n") == 1 and fake.loaded == {}

    class NoPortAudio:
        def find_spec(self, name, *_):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    code, _, err = run("stream", "mic")
    assert code == 2 and "PortAudio library not found" in err and "libportaudio2" in err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = run("stream", "mic")
    assert code == 2 and "pip install auricle[mic]" in err and err.count("\n") == 1


# Mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.wav"], "gone.wav: no such file"),
        (["."], "a folder"),
        (["talk.wav", "--batch", "4"], "--batch is for a manifest"),
        (["talk.wav", "--rate", "8000"], "--rate is for -"),
        (["talk.wav", "--encoding", "f32le"], "--encoding is for -"),
        (["-", "--fast"], "--fast is for files"),
        (["-", "--rate", "0"], "--rate must be 100 to 1000000"),
        (["-", "--channels", "0"], "--channels must be 1 or more, got 0"),
        (["-", "--encoding", "mp3"], "'mp3' is not one of"),
        (["talk.wav", "--lookahead", "one"], "--lookahead is R, or L,R, in steps, not 'one'"),
        (["talk.wav", "--lookahead", "1", "--latency-ms", "100"], "say the same: give one"),
        (["talk.wav", "--latency-ms", "70"], "--latency-ms 70 is not one of 100"),
        (["talk.wav", "--silence-ms", "-1"], "--silence-ms must be 1 or more, or 0 for none"),
        (["talk.wav", "--silence-ms", "0", "--vad"], "--vad hears the pauses"),
        (["talk.wav", "--max-seconds", "-1"], "--max-seconds must be above 0, or 0 for never"),
        (["talk.wav", "--max-seconds", "nan"], "--max-seconds must be above 0, or 0 for never"),
        (["talk.wav", "-o", "out.lrc"], "no format ends in .lrc; choose one of txt, json"),
        (["talk.wav", "-o", "talk.wav"], "no format ends in .wav"),
        (["talk.wav", "--language", "tlh"], "does not speak tlh"),
        (["talk.wav", "--head", "aed"], "'aed' is not one of"),
        (["rows.jsonl", "--batch", "-1"], "--batch must be 1 or more, got -1"),
        (["rows.jsonl", "--batch", "0"], "--batch must be 1 or more, got 0"),
        (["rows.jsonl", "--jsonl"], "--jsonl is for one stream"),
        (["rows.jsonl", "--rate", "8000"], "--rate is for -"),
        (["rows.jsonl", "-o", "out.srt"], "go to a .jsonl"),
        (["rows.jsonl", "--latency-ms", "70"], "--latency-ms 70 is not one of 100"),
        (["gone.jsonl"], "gone.jsonl: no such manifest"),
        (["empty.jsonl"], "empty.jsonl: no rows"),
        (["lost.jsonl"], "away.wav: no such file; nor is any other that lost.jsonl names"),
        (["broken.jsonl"], "broken.jsonl, line 2: not JSON"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    run: Run,
    fake: FakeRecognizer,
    talk: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(talk.parent)
    row = json.dumps({"audio_filepath": "talk.wav"}) + "\n"
    Path("rows.jsonl").write_text(row)
    Path("empty.jsonl").write_text("\n")
    Path("lost.jsonl").write_text(row.replace("talk", "away"))
    Path("broken.jsonl").write_text(row + "{\n")
    stdin(monkeypatch, pcm(1.0).tobytes())
    before = sorted(talk.parent.iterdir())
    code, out, err = run("stream", *words)
    assert (code, out) == (2, "")
    assert err.startswith("auricle: error: ") and message in err and err.count("\n") == 1
    assert sorted(talk.parent.iterdir()) == before


# Interruption


class interruptible:
    """Ctrl-C raises, also where the tests run behind a shell that ignores it."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def raise_interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_does_not_cut_a_step_in_half(
    run: Run, fake: FakeRecognizer, talk: Path, tmp_path: Path
) -> None:
    def push() -> None:
        if len(fake.made[0].pushed) == 16:
            raise_interrupt()

    fake.on_push = push
    with interruptible():
        code, out, err = run("stream", talk, "--fast", "-o", tmp_path / "said.json")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (code, out, err) == (130, "w0 w1 w2\n", "")
    assert len(fake.made[0].pushed) == 17  # that block was taken, and none after it
    assert json.loads((tmp_path / "said.json").read_text())["text"] == "w0 w1 w2"


def test_a_second_ctrl_c_ends_at_once(run: Run, fake: FakeRecognizer, talk: Path) -> None:
    def push() -> None:
        raise_interrupt()
        raise_interrupt()

    fake.on_push = push
    with interruptible():
        assert run("stream", talk, "--fast") == (130, "", "")
    assert fake.made[0].pushed == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_real_signal_while_sound_is_waited_for(tmp_path: Path) -> None:
    """Standard input stays open and silent; the words so far come out."""
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + FAKE
    process = start("stream", "-", "--jsonl", program=program, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.buffer.write(pcm(0.3).tobytes())
    process.stdin.buffer.flush()
    lines = [process.stdout.readline() for _ in range(3)]
    assert json.loads(lines[2]) == {"type": "partial", "text": "w0 w1 w2", "stable": "w0 w1"}
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")
    assert json.loads(out)["segment"]["text"] == "w0 w1 w2"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    process = start("stream", write(tmp_path / "a.wav", 200.0), "--fast", program=FAKE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "w0 w1 w2 w3 w4\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=PATIENCE) == 141


# Manifests


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest(folder: Path, rows: list[dict]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for number, seconds in enumerate((0.5, 0.9, 0.2, 0.5, 0.3)):
        write(tmp_path / f"{number}.wav", seconds)
    return tmp_path


def test_rows_keep_their_keys_and_order(run: Run, fake: FakeRecognizer, recordings: Path) -> None:
    rows = [
        {"audio_filepath": "0.wav", "duration": 0.5, "text": "W0, w1 w2 w3!", "my": {"own": [1]}},
        {"audio_filepath": "1.wav", "offset": 0.5, "duration": 0.4, "text": "w0 w1 x2 w3"},
        {"audio_filepath": "2.wav", "lang": "en"},
        {"audio_filepath": "3.wav", "text": "w0 w1 w2 w3 w4"},
        {"audio_filepath": "4.wav", "text": ""},
    ]
    out = recordings / "out.jsonl"
    words = ("--fast", "--batch", "2", "--lookahead", "1", "-o", out)
    code, stdout, err = run("stream", manifest(recordings, rows), *words)
    assert (code, stdout) == (0, "")
    # One insertion in row 0, one substitution in row 1, three insertions in row 4; row 2 has no
    # text to compare with.
    assert err == (
        "auricle: WER 38.46 % (1 substitutions, 0 deletions, 4 insertions in 13 words of 4 rows)\n"
    )
    written = rows_of(out)
    said = ["w0 w1 w2 w3 w4", "w0 w1 w2 w3", "w0 w1", "w0 w1 w2 w3 w4", "w0 w1 w2"]
    for row, result, text in zip(rows, written, said, strict=True):
        latency = result.pop("latency")
        assert set(latency) == {"shown", "final", "shown_audio", "final_audio"}
        assert set(latency["shown"]) == {"median", "p95"}
        assert latency["final"]["p95"] == round(latency["final"]["p95"], 1)
        assert 0 <= latency["shown_audio"]["median"] < 30
        assert result == {"duration": result["duration"], **row, "pred_text": text}
    assert [row["duration"] for row in written] == [0.5, 0.4, 0.2, 0.5, 0.3]
    assert (fake.pool.most, fake.max_batch, fake.max_delay_ms) == (2, 2, 0)
    assert [stream.options["lookahead"] for stream in fake.made] == [1] * 5
    assert max(fake.pool.together) == 2


def test_rows_on_stdout_and_the_report(run: Run, fake: FakeRecognizer, recordings: Path) -> None:
    rows = [{"audio_filepath": f"{n}.wav"} for n in range(5)]
    code, out, err = run("stream", manifest(recordings, rows), "--fast", "--report")
    assert code == 0 and fake.pool.most == 5
    assert [json.loads(line)["audio_filepath"] for line in out.splitlines()] == [
        f"{n}.wav" for n in range(5)
    ]
    assert "latency of 24 words" in err and "WER" not in err


def test_a_bad_row_gets_an_error_and_the_others_go_on(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    (recordings / "noise.wav").write_bytes(b"no sound at all")
    names = ["0.wav", "gone.wav", "noise.wav", "2.wav"]
    rows = [{"audio_filepath": name, "text": "w0 w1", "id": name} for name in names]
    out = recordings / "out.jsonl"
    code, _, err = run("stream", manifest(recordings, rows), "--fast", "-o", out)
    assert code == 1
    assert err.count("auricle: error: ") == 2 and "of 2 rows)" in err.splitlines()[-1]
    written = rows_of(out)
    assert [row["id"] for row in written] == names
    assert ["error" in row for row in written] == [False, True, True, False]
    assert "gone.wav" in written[1]["error"] and "pred_text" not in written[1]


def test_an_output_that_is_there_is_refused(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    rows = manifest(recordings, [{"audio_filepath": "0.wav"}])
    out = recordings / "out.jsonl"
    out.write_text("mine")
    code, _, err = run("stream", rows, "--fast", "-o", out)
    assert code == 2 and "out.jsonl exists already: --overwrite" in err and fake.loaded == {}
    assert run("stream", rows, "--fast", "-o", out, "--overwrite")[0] == 0
    assert rows_of(out)[0]["pred_text"] == "w0 w1 w2 w3 w4"


def test_an_interruption_keeps_the_rows_that_are_done(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    rows = manifest(recordings, [{"audio_filepath": f"{n}.wav"} for n in (1, 2, 4)])
    out = recordings / "out.jsonl"

    def push() -> None:
        if len(fake.made) == 3 and len(fake.made[2].pushed) == 5:
            raise KeyboardInterrupt

    fake.on_push = push
    code, _, err = run("stream", rows, "--fast", "--batch", "2", "-o", out)
    assert code == 130
    assert err.startswith("auricle: interrupted; 1 of 3 done")
    # Row 0 was still going on when row 1 was done.
    assert [row["audio_filepath"] for row in rows_of(out)] == ["2.wav"]
    assert not (recordings / "out.jsonl.part").exists()


def test_rows_are_paced_without_fast(
    run: Run, fake: FakeRecognizer, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = manifest(recordings, [{"audio_filepath": f"{n}.wav"} for n in (0, 3)])
    slept: list[float] = []
    monkeypatch.setattr("auricle.cli.pacing.time.sleep", slept.append)
    monkeypatch.setattr("auricle.cli.pacing.time.monotonic", lambda: sum(slept))
    assert run("stream", rows)[0] == 0
    assert sum(slept) == pytest.approx(0.5, abs=0.03)
