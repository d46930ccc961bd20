"""`make demo` as a newcomer runs it: a fresh environment, and a PATH that holds Python alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_demo_needs_only_python(tmp_path: Path) -> None:
    """No ffmpeg, no compiler, no shell: the set-up script, then the command it installs."""
    venv = tmp_path / "venv"
    empty = tmp_path / "empty-path"
    empty.mkdir()
    environment = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "HOME", "SSL_"))}
    environment["PATH"] = str(empty)
    setup = [sys.executable, str(ROOT / "tools/setup_venv.py"), str(venv), "demo"]
    subprocess.run(setup, env=environment, check=True)
    speech = next((ROOT / "examples" / "speech").glob("*.flac"))
    spoken = speech.with_suffix(".txt").read_text(encoding="utf-8").split()
    run = subprocess.run(
        [str(venv / "bin" / "auricle"), "transcribe", str(speech)],
        env={**environment, "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    heard = run.stdout.split()
    assert abs(len(heard) - len(spoken)) <= 2
    matches = sum(
        a.strip(".,").lower() == b.strip(".,").lower() for a, b in zip(heard, spoken, strict=False)
    )
    assert matches >= 0.9 * len(spoken)
