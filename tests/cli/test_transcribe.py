"""`auricle transcribe`: inputs, destinations, resuming, failures and interruptions."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from auricle.cli.outputs import Manifest, Wish
from auricle.formats import FORMATS, SubtitleOptions
from auricle.recognizer import Recognizer
from auricle.transcribe import sources
from auricle.types import Transcript
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


def names_in(path: Path) -> list[str]:
    return [Path(row["audio_filepath"]).name for row in rows_of(path)]


def test_rows_of_one_stretch_are_all_done_also_after_a_kill_at_any_byte(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    """Rows may share file and offset, and hold what some call a line break."""
    rows = [
        {"audio_filepath": "one.wav", "text": "a\u2028b"},
        {"audio_filepath": "two.wav", "offset": 0.05, "duration": 0.05, "text": "one"},
        {"audio_filepath": "two.wav", "offset": 0.05, "duration": 0.05, "text": "other"},
        {"audio_filepath": "two.wav", "offset": 0.05, "duration": 0.05, "text": "other"},
        {"audio_filepath": "two.wav", "offset": 0.05},
    ]
    source, out = recordings / "rows.jsonl", recordings / "out.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert run("transcribe", source, "-o", out) == (0, "", "")
    whole = out.read_bytes()
    assert whole.count(b"\n") == len(rows)
    inputs = list(sources(source))
    said = {id(s): Transcript(f"this is {s.name}.", duration=2.0) for s in inputs}
    for size in range(len(whole)):
        out.unlink(missing_ok=True)
        (out, recordings / "out.jsonl.part")[size % 2].write_bytes(whole[:size])
        destination = Manifest(inputs, out, Wish(out, (), "skip", SubtitleOptions()))
        assert len(destination.todo) == len(rows) - whole[:size].count(b"\n")
        for one in destination.todo:
            destination.write(one, said[id(one)])
        destination.close()
        assert out.read_bytes() == whole
    out.write_bytes(whole[: whole.index(b"\n") + 1])
    fake.heard.clear()
    assert run("transcribe", source, "-o", out, "--resume") == (0, "", "")
    assert fake.heard == ["two"] * 4 and out.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        b'{"id": "a cut of another tool"}\n',
        b'{"audio_filepath": "one.wav", "text": "not heard yet"}\n',
        b"\xff\xfe not UTF-8\n",
        b'{"audio_filepath": "one.wav", "pred_\n{}\n',
        b"[1, 2]\n",
        b"no line end",
        b'{"id": "no line end"}',
    ],
)
def test_resume_refuses_what_it_did_not_write(
    run: Run, fake: FakeRecognizer, recordings: Path, content: bytes
) -> None:
    out = recordings / "out.jsonl"
    out.write_bytes(content)
    code, _, err = run("transcribe", recordings / "one.wav", "-o", out, "--resume")
    assert code == 2 and "out.jsonl, line 1: not a row that this command wrote" in err
    assert err.count("\n") == 1 and fake.heard == [] and out.read_bytes() == content


def test_failed_rows_are_written_and_tried_again(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    names = ["one.wav", "bad.wav", "two.wav"]
    source = manifest(recordings, [{"audio_filepath": n, "pred_text": "old"} for n in names])
    bad, out = write_wav(recordings / "bad.wav"), recordings / "out.jsonl"
    assert run("transcribe", source, "-o", out)[0] == 1
    assert rows_of(out)[1] == {"audio_filepath": "bad.wav", "error": f"{bad}: no sound"}
    fake.heard.clear()
    assert run("transcribe", source, "-o", out, "--resume")[0] == 1
    assert fake.heard == ["bad"]
    assert names_in(out) == names and "error" in rows_of(out)[1]
    fake._results = lambda sources: (Transcript("mended") for _ in sources)  # type: ignore
    assert run("transcribe", source, "-o", out, "--resume")[0] == 0
    assert names_in(out) == names and rows_of(out)[1]["pred_text"] == "mended"
    assert "error" not in rows_of(out)[1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"audio_filepath": "one.wav", "my": {"own": ["\\ud800"]}}', "half a Unicode character"),
        ('{"audio_filepath": "one.wav", "duration": 1' + "0" * 400 + "}", "duration must be"),
        ('{"audio_filepath": "one.wav", "n": 1' + "0" * 5000 + "}", "thousands of digits"),
        ('{"audio_filepath": "one.wav", "n": ' + "[" * 9999 + "]" * 9999 + "}", "not JSON"),
        ('{"audio_filepath": 7}', "needs audio_filepath"),
        ('{"audio_filepath": "' + "n" * 300 + '.wav"}', "too long"),
        ('{"audio_filepath": "a\\u0000b.wav"}', "null"),
    ],
)
@pytest.mark.parametrize("to", ["out.jsonl", "texts", None])
def test_a_bad_row_fails_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch, recordings: Path, row: str, message: str, to: str
) -> None:
    monkeypatch.setattr("auricle.load", lambda *_, **__: Recognizer(Engine()))
    good = [json.dumps({"audio_filepath": f"{name}.wav"}) for name in ("one", "two")]
    source, out = recordings / "rows.jsonl", recordings / (to or "")
    source.write_text("\n".join([good[0], row, good[1]]) + "\n")
    options = ["-o", out] if to else []
    for resume in ([], ["--resume"]):
        code, shown, err = run("transcribe", source, *options, *resume)
        assert code == 1 and message in err and err.count("\n") == 1
        if to is None:
            assert shown.count(": 0.1 s\n") == 2
            break
        if to == "texts":
            assert tree(out) == ["one.txt", "two.txt"]
            continue
        texts = [row.get("pred_text") for row in rows_of(out)]
        named = 'audio_filepath": "' in row
        assert texts == (["0.1 s", None, "0.1 s"] if texts[1] is None else ["0.1 s"] * 2)
        assert named or len(texts) == 2


class Engine:
    """Says how long a clip is."""

    name, heads, languages, sample_rate = "fake", ("ctc",), (), 16000
    batch_seconds, any_length = 60.0, False

    def transcribe(self, clips, options) -> list[Transcript]:
        return [Transcript(f"{len(clip) / 16000:.1f} s") for clip in clips]


def test_a_manifest_of_bad_rows_alone_is_refused(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    source = manifest(recordings, [{"path": "one.wav"}, {"path": "two.wav"}])
    code, _, err = run("transcribe", source)
    assert code == 2 and "line 1: needs audio_filepath" in err and fake.loaded == {}


def test_a_name_too_long_for_an_output_fails_alone(run: Run, recordings: Path) -> None:
    write_wav(recordings / ("n" * 251 + ".wav"))
    out = recordings / "out"
    code, _, err = run("transcribe", recordings, "-f", "json", "-o", out)
    assert code == 1 and "File name too long" in err and err.count("\n") == 1
    assert tree(out) == ["deep/one.json", "one.json", "two.json"]


def test_what_is_given_twice_is_done_once(
    run: Run, fake: FakeRecognizer, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recordings)
    code, out, err = run("transcribe", "one.wav", "./one.wav", recordings, "two.wav")
    assert code == 0 and fake.heard == ["one.wav", "deep/one.wav", "two.wav"]
    assert err == "auricle: ./one.wav is given twice and done once\n" and out.count("\n") == 3
    fake.heard.clear()
    rows = manifest(recordings, [{"audio_filepath": "one.wav"}] * 2)
    run("transcribe", rows, rows)
    assert fake.heard == ["one", "one"]


def test_a_document_is_no_output(run: Run, fake: FakeRecognizer, recordings: Path) -> None:
    code, _, err = run("transcribe", recordings / "one.wav", "-o", recordings / "x.docx")
    assert code == 2 and "no format ends in .docx; choose one of txt, json" in err
    assert fake.loaded == {} and not (recordings / "x.docx").exists()
    (recordings / "x.docx").mkdir()
    assert run("transcribe", recordings / "one.wav", "-o", recordings / "x.docx")[0] == 0
    assert tree(recordings / "x.docx") == ["one.txt"]


@pytest.mark.parametrize("link", ["name", "symlink", "hardlink"])
@pytest.mark.parametrize("command", ["transcribe", "stream"])
def test_no_output_replaces_its_manifest(
    run: Run, fake: FakeRecognizer, recordings: Path, link: str, command: str
) -> None:
    rows = manifest(recordings, [{"audio_filepath": "one.wav"}, {"audio_filepath": "gone.wav"}])
    before, out = rows.read_bytes(), rows
    if link != "name":
        out = recordings / "other.jsonl"
        out.symlink_to(rows) if link == "symlink" else out.hardlink_to(rows)
    code, _, err = run(command, rows, "-o", out, "--overwrite")
    assert code == 2 and "which is read" in err and err.count("\n") == 1
    assert fake.loaded == {} and rows.read_bytes() == before


def test_no_output_replaces_its_recording(run: Run, fake: FakeRecognizer, recordings: Path) -> None:
    audio = (recordings / "one.wav").rename(recordings / "one.txt")
    before = audio.read_bytes()
    code, _, err = run("transcribe", audio, "-o", recordings, "--overwrite")
    assert code == 2 and "which is read" in err
    code, _, err = run("stream", audio, "-o", audio, "--overwrite")
    assert code == 2 and "which is read" in err
    assert fake.loaded == {} and audio.read_bytes() == before


def test_ctm_counts_in_times_and_names_of_recordings(run: Run, recordings: Path) -> None:
    rows = [
        {"audio_filepath": "two.wav", "offset": 0.05, "duration": 0.05},
        {"audio_filepath": "one.wav"},
        {"audio_filepath": "deep/one.wav", "offset": 12.5},
    ]
    _, out, _ = run("transcribe", manifest(recordings, rows), "-f", "ctm")
    firsts = [line.split()[:3] for line in out.splitlines() if line.split()[4] == "this"]
    assert firsts[0] == ["two", "1", "0.050"]
    assert [first[2] for first in firsts] == ["0.050", "0.000", "12.500"]
    assert len({first[0] for first in firsts}) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}])
def test_names_that_are_not_utf8(recordings: Path, tmp_path: Path, locale: dict) -> None:
    odd = os.fsencode(recordings) + b"/caf\xe9 \xc3\xa9.wav"
    (recordings / "two.wav").rename(os.fsdecode(odd))
    (recordings / "deep" / "one.wav").rename(recordings / os.fsdecode(b"bad\xff.wav"))
    program = """
import auricle
from tests.cli.conftest import FakeRecognizer
auricle.load = FakeRecognizer().load
"""
    for options in (
        [],
        ["-f", "json"],
        ["-f", "ctm"],
        ["-f", "all", "-o", tmp_path / "texts"],
        ["-o", tmp_path / "out.jsonl"],
    ):
        process = start("transcribe", recordings, *options, program=program, env=locale)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1 and "no sound" in err and err.count("\n") == 1, err
        if not str(options[-1:]).count("/"):
            assert "this is" in out or "this" in out
    assert len(tree(tmp_path / "texts")) == 12
    rows = rows_of(tmp_path / "out.jsonl")
    assert odd in [os.fsencode(row["audio_filepath"]) for row in rows]
    again = start("transcribe", tmp_path / "out.jsonl", program=program, env=locale)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 1 and out.count("\n") == 2, err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_sigterm_is_taken_as_ctrl_c(recordings: Path, tmp_path: Path) -> None:
    program = """
import os, signal, auricle
from auricle.types import Transcript
class Slow:
    def transcribe_iter(self, sources, **options):
        yield Transcript("done", duration=1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("SIGTERM was not heard")
auricle.load = lambda *a, **k: Slow()
"""
    out = tmp_path / "out"
    process = start("transcribe", recordings, "-o", out, program=program)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.startswith("auricle: terminated; 1 of 3 done") and "--resume" in err
    assert err.count("\n") == 1 and tree(out) == ["deep/one.txt"]


def test_warnings_of_the_sound_stand_in_the_rows(
    run: Run, fake: FakeRecognizer, recordings: Path
) -> None:
    said = Transcript("a", duration=1.0, warnings=("2.0 s are missing",))
    fake._results = lambda sources: iter([said])  # type: ignore
    out = recordings / "out.jsonl"
    assert run("transcribe", recordings / "one.wav", "-o", out)[0] == 0
    assert rows_of(out)[0]["warnings"] == ["2.0 s are missing"]
