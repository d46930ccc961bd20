"""Every fenced example of README and docs runs, or names commands and options that exist.

Python blocks of a page run one after the other in one namespace, in a folder that holds the files
they name; hub names stand for tiny committed checkpoints, so that no network is needed.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import auricle
from auricle import checkpoints, hub, metrics
from auricle.checkpoints.adapters import save_adapter
from auricle.cli.app import app
from tests.checkpoints.random_adapters import random_adapter
from tests.conftest import GOLDEN, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
STAND_INS = {
    "nvidia/parakeet-tdt-0.6b-v2": "parakeet_tdt",
    "nvidia/parakeet-tdt_ctc-110m": "hybrid_tdt_ctc",
    "nvidia/stt_en_fastconformer_hybrid_large_streaming_multi": "streaming_hybrid",
}


def blocks(page: Path, *languages: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [m["code"] for m in BLOCK.finditer(text) if m["language"] in languages]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = blocks(page, "python")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    speech = tmp_path / "examples" / "speech" / "shell.flac"
    for name in ("meeting.mp4", "talk.flac", "call.wav", "a.wav", "b.wav"):
        shutil.copy(speech, tmp_path / name)
    shutil.copy(GOLDEN / "nemo" / "parakeet_tdt.nemo", tmp_path / "model.nemo")
    checkpoint = checkpoints.load(GOLDEN / "nemo" / "hybrid_tdt_ctc.nemo")
    for name in ("digits", "telephone"):
        adapter = tmp_path / "adapters" / name
        save_adapter(random_adapter(checkpoint), adapter, checkpoint.config)
    monkeypatch.chdir(tmp_path)
    real = hub.resolve

    def stand_in(name: str, **options: object) -> Path:
        tiny = STAND_INS.get(name)
        return GOLDEN / "nemo" / f"{tiny}.nemo" if tiny else real(name, local_only=True)

    monkeypatch.setattr(hub, "resolve", stand_in)
    namespace: dict[str, object] = {}
    for example in examples:
        exec(compile(example, page.name, "exec"), namespace)
    if page.name == "README.md":
        assert examples
        assert isinstance(namespace["t"], auricle.Transcript)
        assert (tmp_path / "meeting.srt").read_text().startswith("1\n")
        said = (ROOT / "examples" / "speech" / "digits.txt").read_text(encoding="utf-8")
        assert namespace["t"].text == metrics.plain(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """Every `auricle ...` line names a command and options that the program has."""
    for block in blocks(page, "", "console", "sh", "bash"):
        for line in block.splitlines():
            for part in line.removeprefix("$ ").split(" | "):
                _assert_exists(shlex.split(part, comments=True), line)


def _assert_exists(words: list[str], line: str) -> None:
    if words[:1] != ["auricle"]:
        return
    command = words[1:3] if words[1] in ("models", "tokenizer") else words[1:2]
    usage = CliRunner().invoke(app, [*command, "--help"])
    assert usage.exit_code == 0, line
    for option in (word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)):
        assert re.search(rf"(?<![\w-]){option}\b", usage.output), f"{option} in: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_targets_of_the_docs_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for block in blocks(page, "", "console", "sh", "bash"):
            assert set(re.findall(r"^(?:\$ )?make (\w+)", block, re.MULTILINE)) <= targets
