"""The wheel holds what it must, and works where the sources are not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(out), str(ROOT)], check=True)
    (built,) = out.glob("auricle-*.whl")
    return built


def test_the_wheel_is_small_and_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "auricle/py.typed" in names
    assert "auricle/hub/catalogue.yaml" in names
    assert all(name.startswith(("auricle/", "auricle-")) for name in names)
    assert wheel.stat().st_size < 5_000_000  # 3.5 MB of them the digits model


def test_smoke_from_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """Transcribe with a tiny checkpoint, importing nothing from the sources."""
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    program = (
        "import auricle, auricle.audio, pathlib, sys\n"
        "assert pathlib.Path(auricle.__file__).is_relative_to(sys.argv[1]), auricle.__file__\n"
        "asr = auricle.load(sys.argv[2])\n"
        "t = asr.transcribe(sys.argv[3])\n"
        "t.save('out.srt')\n"
        "print(t.duration, len(t.tokens))\n"
        "stream = auricle.load('digits').stream(latency_ms=160)\n"
        "for samples in auricle.audio.blocks(sys.argv[4], seconds=0.1):\n"
        "    stream.push(samples)\n"
        "print(stream.finish().text)\n"
    )
    speech = next((ROOT / "examples" / "speech").glob("*.flac"))
    model = ROOT / "tests" / "golden" / "nemo" / "parakeet_tdt.nemo"
    digits = ROOT / "examples" / "speech" / "digits.flac"
    arguments = [str(site), str(model), str(speech), str(digits)]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    counts, text = run.stdout.splitlines()
    assert text == "three one four one five nine two six"
    duration, tokens = counts.split()
    assert float(duration) > 5
    assert int(tokens) > 0
    assert (tmp_path / "out.srt").read_text().startswith("1\n00:00:")
