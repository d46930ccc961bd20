"""`auricle transcribe`: inputs, destinations, resuming, failures and interruptions."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from auricle.formats import FORMATS
from tests.cli.conftest import FakeRecognizer, Run, start, write_wav
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("fake")


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_one_text_goes_to_stdout(run: Run, recordings: Path) -> None:
    assert run("transcribe", recordings / "one.wav") == (0, "this is one.\n", "")


def test_several_texts_are_named_lines(run: Run, recordings: Path) -> None:
    code, out, err = run("transcribe", recordings)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "deep/one.wav: this is one.",
        "one.wav: this is one.",
        "two.wav: this is two.",
    ]


def test_json_on_stdout(run: Run, recordings: Path) -> None:
    _, out, _ = run("transcribe", recordings / "one.wav", "-f", "json")
    assert json.loads(out)["words"][0] == {
        "text": "this",
        "start": 0.0,
        "end": 0.4,
        "confidence": 0.9,
    }
    _, out, _ = run("transcribe", recordings / "one.wav", recordings / "two.wav", "-f", "json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["name"], row["text"]) for row in rows] == [
        ("one.wav", "this is one."),
        ("two.wav", "this is two."),
    ]


def test_subtitles_on_stdout_are_of_one_recording(run: Run, recordings: Path) -> None:
    code, out, _ = run("transcribe", recordings / "one.wav", "-f", "srt", "--max-line-width", "8")
    assert code == 0
    assert out == "1\n00:00:00,000 --> 00:00:01,400\nthis\nis one.\n"
    code, _, err = run("transcribe", recordings, "-f", "srt")
    assert code == 2 and "3 recordings as srt need a folder: -o FOLDER" in err


def test_a_folder_is_mirrored(run: Run, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("transcribe", recordings, "-f", "srt,json", "-o", out) == (0, "", "")
    assert tree(out) == [
        "deep/one.json",
        "deep/one.srt",
        "one.json",
        "one.srt",
        "two.json",
        "two.srt",
    ]


def test_one_file_by_its_suffix(run: Run, recordings: Path, tmp_path: Path) -> None:
    assert run("transcribe", recordings / "one.wav", "-o", tmp_path / "a.vtt")[0] == 0
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT\n")
    code, _, err = run("transcribe", recordings, "-o", tmp_path / "b.vtt")
    assert code == 2 and "b.vtt is one file for 3 recordings" in err
    code, _, err = run("transcribe", recordings / "one.wav", "-f", "srt", "-o", tmp_path / "b.vtt")
    assert code == 2 and "is vtt, and -f asks for srt" in err


def test_options_reach_the_recogniser(run: Run, fake: FakeRecognizer, recordings: Path) -> None:
    options = {
        "-m": "some/model",
        "--adapter": "some/adapter",
        "--language": "de",
        "--task": "translate",
        "--channel": "1",
        "--track": "2",
        "--head": "tdt",
        "--batch-seconds": "90",
        "--device": "cpu",
        "--precision": "bf16",
        "--revision": "v1",
    }
    words = [word for option in options.items() for word in option]
    assert run("transcribe", recordings / "one.wav", *words, "--nemo-timestamps")[0] == 0
    assert fake.loaded == {
        "name": "some/model",
        "device": "cpu",
        "precision": "bf16",
        "head": "tdt",
        "revision": "v1",
        "local_only": False,
    }
    assert fake.options == {
        "language": "de",
        "task": "translate",
        "channel": 1,
        "track": 2,
        "timestamps": "nemo",
        "batch_seconds": 90.0,
        "adapter": Path("some/adapter"),
        "on_error": "return",
    }
    run("transcribe", recordings / "one.wav", "--channel", "all", "--no-timestamps")
    assert (fake.options["channel"], fake.options["timestamps"]) == ("all", False)


@pytest.mark.parametrize(
    ("said", "meant"), [("left", 0), ("Right", 1), ("mix", None), ("all", "all"), ("2", 2)]
)
def test_channels_by_side(
    run: Run, fake: FakeRecognizer, recordings: Path, said: str, meant: object
) -> None:
    assert run("transcribe", recordings, "--channel", said)[0] == 0
    assert fake.options["channel"] == meant


def test_all_formats_at_once(
    run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path
) -> None:
    assert run("transcribe", recordings / "one.wav", "-f", "all", "-o", tmp_path / "out")[0] == 0
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {f".{f}" for f in FORMATS}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-f", "doc"], "unknown format 'doc'"),
        (["-f", "txt,srt"], "-f txt,srt needs a folder"),
        (["-f", "srt", "--no-timestamps"], "srt needs times"),
        (["--channel", "lft"], "--channel is mix, left, right, all, or a number from 0, not 'lft'"),
        (["--channel", "²"], "not '²'"),
        (["--channel", "9" * 5000], "not '999"),
        (["--resume", "--overwrite"], "choose one"),
        (["--max-line-width", "0"], "max_line_width must be 1 or more, got 0"),
        (["--language", "tlh"], "this model does not speak tlh"),
        (["-o", "out.jsonl", "-f", "srt"], "is a manifest and takes no -f srt"),
    ],
)
def test_mistakes_are_told_before_the_work(
    run: Run, fake: FakeRecognizer, recordings: Path, monkeypatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(recordings)
    code, out, err = run("transcribe", "one.wav", *words)
    assert (code, out) == (2, "") and fake.heard == []
    assert message in err and err.count("\n") == 1
    assert tree(recordings) == ["deep/one.wav", "one.wav", "two.wav"]


def test_missing_inputs(run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path) -> None:
    code, _, err = run("transcribe", tmp_path / "gone.wav")
    assert code == 2 and "gone.wav: no such file; check the path" in err
    assert fake.loaded == {}
    code, _, err = run("transcribe", "https://example.org/a.wav?key=*")
    assert code == 2 and "only files are read: save what stands at that address" in err
    code, _, err = run("transcribe", tmp_path / "gone*.wav")
    assert code == 2 and "gone*.wav" in err


def test_what_is_there_is_refused_before_the_work(
    run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "two.txt").write_text("mine")
    code, _, err = run("transcribe", recordings, "-o", out)
    assert code == 2 and f"{out / 'two.txt'} exists already: --resume" in err
    assert fake.heard == [] and tree(out) == ["two.txt"]


def test_resume_skips_what_is_done(
    run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "two.txt").write_text("mine")
    (out / "one.txt").write_text("half: its srt is not there")
    assert run("transcribe", recordings, "-f", "txt", "-o", out, "--resume")[0] == 0
    assert fake.heard == ["deep/one.wav"]
    assert (out / "two.txt").read_text() == "mine"
    run("transcribe", recordings, "-f", "txt,srt", "-o", out, "--resume")
    assert fake.heard[1:] == ["deep/one.wav", "one.wav", "two.wav"]
    heard = len(fake.heard)
    assert run("transcribe", recordings, "-f", "txt,srt", "-o", out, "--resume") == (0, "", "")
    assert len(fake.heard) == heard


def test_overwrite(run: Run, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("old")
    assert run("transcribe", recordings / "one.wav", "-o", tmp_path, "--overwrite")[0] == 0
    assert (tmp_path / "one.txt").read_text() == "this is one.\n"


def test_one_bad_file_is_told_and_the_rest_delivered(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    bad = write_wav(recordings / "bad.wav")
    out = tmp_path / "out"
    code, _, err = run("transcribe", recordings, "-o", out)
    assert code == 1
    assert err == f"auricle: error: {bad}: no sound\n"
    assert tree(out) == ["deep/one.txt", "one.txt", "two.txt"]


def test_an_interruption_keeps_what_is_done(run: Run, recordings: Path, tmp_path: Path) -> None:
    write_wav(recordings / "stop.wav")
    out = tmp_path / "out"
    code, _, err = run("transcribe", recordings, "-o", out)
    assert code == 130
    assert err.startswith("auricle: interrupted; 2 of 4 done") and "--resume" in err
    assert tree(out) == ["deep/one.txt", "one.txt"]


def test_a_full_disk_stops_with_one_line(
    run: Run, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("auricle.cli.outputs.write_atomic", full)
    code, _, err = run("transcribe", recordings, "-o", tmp_path / "out")
    assert code == 1
    assert err == (
        f"auricle: error: {tmp_path / 'out' / 'deep' / 'one.txt'}: No space left on device"
        "; make room, then run it again\n"
    )
    assert tree(tmp_path / "out") == []


def test_an_output_folder_that_cannot_be(run: Run, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("transcribe", recordings, "-o", tmp_path / "file" / "out")
    assert code == 2 and "cannot be an output folder" in err


def manifest(folder: Path, rows: list[dict]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_manifest_keeps_its_keys(run: Run, recordings: Path) -> None:
    rows = [
        {"audio_filepath": "one.wav", "duration": 0.1, "text": "wahr", "my": {"own": [1]}},
        {"audio_filepath": "two.wav", "offset": 0.05, "duration": 0.05},
        {"audio_filepath": "two.wav", "text": ""},
    ]
    out = recordings / "out.jsonl"
    assert run("transcribe", manifest(recordings, rows), "-o", out) == (0, "", "")
    assert rows_of(out) == [
        {**rows[0], "pred_text": "this is one."},
        {**rows[1], "pred_text": "this is two."},
        {**rows[2], "pred_text": "this is two.", "duration": 2.0},
    ]
    assert tree(recordings).count("out.jsonl.part") == 0


def test_a_manifest_elsewhere_gets_paths_that_hold(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    rows = [{"audio_filepath": "one.wav"}]
    run("transcribe", manifest(recordings, rows), "-o", tmp_path / "o" / "out.jsonl")
    assert rows_of(tmp_path / "o" / "out.jsonl")[0]["audio_filepath"] == str(recordings / "one.wav")


def test_a_manifest_is_resumed(
    run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path
) -> None:
    names = ["one.wav", "stop.wav", "two.wav"]
    source = manifest(recordings, [{"audio_filepath": name} for name in names])
    write_wav(recordings / "stop.wav")
    out = recordings / "out.jsonl"
    assert run("transcribe", source, "-o", out)[0] == 130
    assert [row["audio_filepath"] for row in rows_of(out)] == ["one.wav"]
    assert run("transcribe", source, "-o", out)[0] == 2
    # As after a kill: rows beside the output, the last of them half written.
    (recordings / "out.jsonl.part").write_bytes(out.read_bytes() + b'{"audio_filepath": "tw')
    source = manifest(recordings, [{"audio_filepath": name} for name in ("one.wav", "two.wav")])
    fake.heard.clear()
    assert run("transcribe", source, "-o", out, "--resume")[0] == 0
    assert fake.heard == ["two"]
    assert [row["audio_filepath"] for row in rows_of(out)] == ["one.wav", "two.wav"]
    assert not (recordings / "out.jsonl.part").exists()


def test_a_refused_option_leaves_no_empty_manifest(run: Run, recordings: Path) -> None:
    out = recordings / "out.jsonl"
    assert run("transcribe", recordings, "-o", out, "--language", "tlh")[0] == 2
    assert "out.jsonl" not in " ".join(tree(recordings))


def test_standard_input(
    run: Run, fake: FakeRecognizer, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdin:
        buffer = io.BytesIO(b"RIFF")

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert run("transcribe", "-") == (0, "this is stdin.\n", "")
    code, _, err = run("transcribe", "-", "-")
    assert code == 2 and "can be read once only" in err


def test_silence_in_a_pipe_and_quiet(run: Run, fake: FakeRecognizer, recordings: Path) -> None:
    import logging

    def load(*_: object, **__: object) -> FakeRecognizer:
        logging.getLogger("auricle").warning("using the default model")
        return fake

    import auricle

    auricle.load = load  # type: ignore[assignment]
    _, _, err = run("transcribe", recordings)
    assert err == "auricle: using the default model\n"
    assert run("transcribe", recordings, "--quiet")[2] == ""


def test_a_terminal_sees_files_audio_and_speed(
    run: Run, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, out, err = run("transcribe", recordings, "-o", tmp_path / "out")
    assert (code, out) == (0, "")
    last = err.strip().splitlines()[-1]
    assert "3 of 3 done: 6.0 s of audio in" in last and "RTFx" in last


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c(recordings: Path, tmp_path: Path) -> None:
    """A real signal, while the second recording is being worked on."""
    program = """
import signal, time, auricle
from auricle.types import Transcript
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run behind a shell
class Slow:
    def transcribe_iter(self, sources, **options):
        for source in sources:
            yield Transcript("done", duration=1.0)
            time.sleep(600)
auricle.load = lambda *a, **k: Slow()
"""
    out = tmp_path / "out"
    process = start("transcribe", recordings, "-o", out, program=program)
    deadline = time.monotonic() + PATIENCE
    while not (out / "deep" / "one.txt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.startswith("auricle: interrupted; 1 of 3 done") and err.count("\n") == 1
    assert tree(out) == ["deep/one.txt"]
