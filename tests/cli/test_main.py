"""The frame of the command line: help, versions, errors in one line, exit codes, start-up time."""

from __future__ import annotations

import sys

import pytest

import auricle
from auricle.errors import CheckpointError
from tests.cli.conftest import FakeRecognizer, Run, start


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"auricle {auricle.__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["transcribe", "-h"], ["models", "pull", "--help"]])
def test_help(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "Usage: auricle" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sing"], "No such command 'sing'"),
        (["transcribe"], "Missing argument"),
        (["transcribe", "a.wav", "--heads", "ctc"], "No such option: --heads"),
        (["transcribe", "a.wav", "--head", "aed"], "'aed' is not one of"),
        (["transcribe", "a.wav", "--batch-seconds", "x"], "Invalid value for '--batch-seconds'"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_2(run: Run, words: list[str], message: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("auricle: error: ") and message in err
    assert err.count("\n") == 1


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch, recordings
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(auricle, "load", fail)
    code, _, err = run("transcribe", recordings)
    assert code == 70
    assert err == (
        "auricle: error: unexpected RuntimeError: first line "
        "(AURICLE_DEBUG=1 shows where; please report it)\n"
    )
    monkeypatch.setenv("AURICLE_DEBUG", "1")
    code, _, err = run("transcribe", recordings)
    assert code == 70 and "Traceback (most recent call last)" in err


def test_our_own_errors_exit_2(
    run: Run, fake: FakeRecognizer, monkeypatch: pytest.MonkeyPatch, recordings
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CheckpointError("m.nemo is\ntruncated")

    monkeypatch.setattr(auricle, "load", fail)
    assert run("transcribe", recordings) == (2, "", "auricle: error: m.nemo is truncated\n")


def test_start_up_is_quick_and_light() -> None:
    """`--help` in under 0.4 s of the processor (best of five), without torch, numpy or rich."""
    program = (
        "import atexit, time\n"
        "heavy = ('torch', 'numpy', 'rich', 'av', 'huggingface_hub', 'yaml')\n"
        "atexit.register(lambda: print(time.process_time(), *[m for m in heavy if m in "
        "sys.modules], file=sys.stderr))"
    )
    taken = []
    for _ in range(5):
        process = start("--help", program=program)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        seconds, *loaded = err.split()
        assert loaded == []
        taken.append(float(seconds))
    assert min(taken) < 0.4, taken


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_who_leaves_early_is_no_error() -> None:
    process = start("models", "list")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141
