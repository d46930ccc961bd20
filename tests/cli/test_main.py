"""The frame of the command line: help, versions, errors in one line, exit codes, start-up time."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import auricle
from auricle.cli import worded
from auricle.errors import CheckpointError
from tests.cli.conftest import FakeRecognizer, Run, start, write_wav
from tests.patience import PATIENCE


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"auricle {auricle.__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["transcribe", "-h"], ["models", "pull", "--help"]])
def test_help(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "Usage: auricle" in out


@pytest.mark.parametrize("words", [[], ["models"], ["tokenizer"]])
def test_a_group_without_a_command_shows_its_help(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out == run(*words, "--help")[1] and "Commands:" in out


def commands() -> dict[str, Any]:
    """Every command and group by its words."""
    from typer.main import get_command

    from auricle.cli.app import app

    found: dict[str, Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found[" ".join(words)] = command
        for name, sub in getattr(command, "commands", {}).items():
            walk(sub, (*words, name))

    walk(get_command(app), ())
    return found


def test_every_help_has_examples_of_options_that_there_are() -> None:
    from auricle.cli.app import EXAMPLES

    every = commands()
    assert set(EXAMPLES) == set(every)
    for name, command in every.items():
        text = command.get_help(typer.Context(command, info_name=f"auricle {name}"))
        for line in EXAMPLES[name]:
            assert f"    {line}\n" in f"{text}\n", "shown whole, on a line of its own"
            words = shlex.split(line.rpartition("| ")[2])[1:]
            size = 2 if " ".join(words[:2]) in every else 1
            asked = every[" ".join(words[:size])]
            if "--help" not in words:
                asked.make_context("auricle", list(words[size:]))


def test_one_option_means_one_thing_in_all_commands() -> None:
    """A name that two commands share has the same letter, kind and opening words of help."""
    meanings: dict[str, set[object]] = {}
    for command in commands().values():
        context = typer.Context(command)
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                spelled, text = option.get_help_record(context)
                spelled = spelled.replace(", --check", "")  # the older name of --dry-run
                opening = re.split(r"[.:;,(]", text)[0]
                for name in (*option.opts, *option.secondary_opts):
                    meanings.setdefault(name, set()).add((spelled, opening))
    assert {name: seen for name, seen in meanings.items() if len(seen) > 1} == {}


def test_options_that_work_alike_are_called_alike() -> None:
    options = {
        name: {o for p in command.params for o in p.opts if not getattr(p, "hidden", False)}
        for name, command in commands().items()
    }
    writers = ("transcribe", "stream", "train", "finetune", "curate", "tokenizer build")
    for name in writers:
        assert {"-o", "--output", "-q", "--quiet"} <= options[name], name
    for name in ("convert", "models pull"):
        assert {"-q", "--quiet"} <= options[name], name
    for name in ("train", "finetune", "curate"):
        assert "--dry-run" in options[name], name
    for name in ("train", "curate"):
        assert "--list" in options[name], name
    assert not {"--output-dir", "--report"} & (set().union(*options.values()) - options["curate"])


def test_old_spellings_still_work(
    run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path
) -> None:
    assert run("transcribe", recordings, "--output-dir", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "one.txt").exists()
    assert run("train", "--check", "--list")[0] == 0


def test_completion_can_be_installed_and_completes(run: Run) -> None:
    assert "--install-completion" in run("--help")[1]
    variables = {
        "_AURICLE_COMPLETE": "complete_bash",
        "COMP_WORDS": "auricle models show nvidia/parakeet-tdt-0.6b",
        "COMP_CWORD": "3",
    }
    process = start(env=variables)
    out, err = process.communicate(timeout=PATIENCE)
    assert err == ""
    assert out.split() == ["nvidia/parakeet-tdt-0.6b-v2", "nvidia/parakeet-tdt-0.6b-v3"]


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
    """`--help` loads the commands and typer, not torch, numpy or rich."""
    program = (
        "import atexit\n"
        "atexit.register(lambda: print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr))"
    )
    process = start("--help", program=program)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    loaded = set(err.split()) - set(sys.stdlib_module_names)
    assert loaded
    assert not loaded & {"torch", "numpy", "rich", "av", "huggingface_hub", "yaml"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_who_leaves_early_is_no_error() -> None:
    process = start("models", "list")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=PATIENCE) == 141


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file descriptors")
@pytest.mark.parametrize("closed", [0, 1, 2])
@pytest.mark.parametrize(
    "words", [("models", "list"), ("train", "--list"), ("--help",), ("transcribe", "gone.wav")]
)
def test_closed_standard_streams_are_no_error(words: tuple[str, ...], closed: int) -> None:
    process = start(*words, preexec_fn=lambda: os.close(closed))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == (2 if "gone.wav" in words else 0)
    assert "unexpected" not in err and "Traceback" not in err
    if closed != 1 and process.returncode == 0:
        assert out


def test_a_closed_standard_input_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    code, _, err = run("transcribe", "-")
    assert code == 2 and "standard input is closed" in err


@pytest.mark.parametrize("command", ["transcribe", "stream"])
def test_an_empty_name_is_not_this_folder(run: Run, command: str) -> None:
    code, _, err = run(command, "")
    assert code == 2 and "empty name" in err


def test_a_name_that_is_no_text_can_be_printed(
    run: Run, fake: FakeRecognizer, tmp_path: Path
) -> None:
    for name in ("a\udcff.wav", "b.wav"):
        write_wav(tmp_path / name)
    process = start(
        "transcribe",
        tmp_path,
        program="import auricle\n"
        "from tests.cli.conftest import FakeRecognizer\n"
        "auricle.load = FakeRecognizer().load",
    )
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert sorted(out.splitlines())[0].startswith("a\\udcff.wav: this is a\\udcff")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "no choice of language: leave language= out",
            "no choice of language: leave --language out",
        ),
        ("latency_ms=-5 is none; untrained=True", "--latency-ms -5 is none; --untrained"),
        ("task='translate' needs Whisper", "--task translate needs Whisper"),
        ("add init_from=MODEL or data.language=de", "add init_from=MODEL or data.language=de"),
        ("one\ntwo", "one two"),
    ],
)
def test_messages_name_options_as_they_are_typed(message: str, said: str) -> None:
    assert worded(message) == said


def test_a_message_has_an_end() -> None:
    assert len(worded("ä" * 100_000).encode()) < 2000


@pytest.mark.parametrize(
    "words",
    [
        ("transcribe", "IN", "-o", "out.docx"),
        ("transcribe", "IN", "-o", "out.mp3"),
        ("stream", "IN/one.wav", "-o", "out.pdf"),
        ("convert", "model", "out.onnx"),
        ("train", "digits", "-o", "out.nemo"),
        ("finetune", "digits_noise", "-o", "out.nemo"),
        ("curate", "clean", "-o", "out.jsonl"),
        ("tokenizer", "build", "IN", "-o", "out.model"),
    ],
)
def test_no_folder_is_made_of_a_name_that_files_have(
    run: Run,
    fake: FakeRecognizer,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    for data in ("digits.jsonl", "noise.jsonl"):  # the recipes' defaults
        write_wav(tmp_path / "a.wav")
        (tmp_path / data).write_text('{"audio_filepath": "a.wav", "text": "a", "speaker": "x"}')
    code, _, err = run(*(word.replace("IN", str(recordings)) for word in words))
    assert code == 2 and "out." in err, err
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("out")]


def test_a_folder_of_such_a_name_that_is_there_is_taken(
    run: Run, fake: FakeRecognizer, recordings: Path, tmp_path: Path
) -> None:
    for name in ("out.docx", "run.v2", "a.lr1e3"):
        if name == "out.docx":
            (tmp_path / name).mkdir()
        assert run("transcribe", recordings / "one.wav", "-o", tmp_path / name)[0] == 0
        assert (tmp_path / name / "one.txt").exists()


def test_an_output_that_cannot_be_written_is_said_before_the_work(
    run: Run,
    fake: FakeRecognizer,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "deep"):
        code, _, err = run("transcribe", recordings, "-o", output)
        assert code == 2 and "cannot be an output folder" in err
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for output in ("out", "out.jsonl"):
        code, _, err = run("transcribe", recordings, "-o", tmp_path / output)
        assert code == 2 and "it may not be written to" in err
    assert fake.heard == []
