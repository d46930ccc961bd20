"""A recogniser that hears nothing and answers at once, and a way to run the command line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import auricle
from auricle.cli import main
from auricle.errors import AudioError, ConfigError
from auricle.transcribe import Failure, Source
from auricle.types import Segment, Transcript, Word


class FakeRecognizer:
    """Says a recording's name; fails on names with "bad"; remembers what it was asked."""

    def __init__(self) -> None:
        self.loaded: dict = {}
        self.options: dict = {}
        self.heard: list[str] = []

    def load(self, name: str | None = None, **options) -> FakeRecognizer:
        self.loaded = {"name": name, **options}
        return self

    def transcribe_iter(self, sources: Sequence[Source], **options) -> Iterator:
        self.options = options
        if options["language"] == "tlh":
            raise ConfigError("this model does not speak tlh")
        return self._results(sources)

    def _results(self, sources: Sequence[Source]) -> Iterator[Transcript | Failure]:
        for source in sources:
            self.heard.append(source.name)
            if "bad" in source.name:
                yield Failure(source.name, AudioError(f"{source.path}: no sound"))
                continue
            if "stop" in source.name:
                raise KeyboardInterrupt
            said = f"this is {Path(source.name).stem}."
            words = tuple(Word(w, 0.5 * i, 0.5 * i + 0.4, 0.9) for i, w in enumerate(said.split()))
            segment = Segment(said, 0.0, words[-1].end, words, 0.9)
            yield Transcript(said, (segment,), words, (), "en", 2.0, "fake")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRecognizer:
    recognizer = FakeRecognizer()
    monkeypatch.setattr(auricle, "load", recognizer.load, raising=False)
    return recognizer


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `auricle ARGUMENTS` in this process: exit code, stdout, stderr."""

    def run_(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of silent recordings: one.wav, two.wav, deep/one.wav."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("one.wav", "two.wav", "deep/one.wav"):
        write_wav(folder / name)
    return folder


def write_wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))
    return path


def start(*arguments: str | Path, program: str = "", **options) -> subprocess.Popen[str]:
    """`auricle ARGUMENTS` in a process of its own; `program` runs before."""
    code = f"import sys\n{program}\nfrom auricle.cli import main\nsys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**environment, **options.pop("env", {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that whatever shows progress goes by."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock
