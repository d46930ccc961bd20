"""The house's rows: a room imports only rooms of earlier rows, and nothing heavy at import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import auricle
from tests.conftest import ROOT

SOURCE = Path(auricle.__file__).parent
PAGE = ROOT / "docs" / "architecture.md"
# The page is where the rows stand; what is tested is that the tree keeps to them.
ROWS = [
    {room.strip().removesuffix("/") for room in row.split(",")}
    for row in PAGE.read_text(encoding="utf-8").split("```")[1].split("->")
]
ROW_OF = {room: number for number, rooms in enumerate(ROWS) for room in rooms}
ENTRANCES = {"__init__", "__main__"}


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports, at the top or inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            module = node.module or ""
            if module == "auricle":
                rooms |= {alias.name for alias in node.names}
            elif module.startswith("auricle."):
                rooms.add(module.split(".")[1])
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("auricle.")}
    return rooms


def test_the_page_knows_every_room_and_no_other() -> None:
    rooms = {_room(path) for path in SOURCE.rglob("*.py")} - ENTRANCES
    assert rooms == set(ROW_OF)
    table = re.findall(r"^\| `(\w+)/?` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(rooms)


def test_rooms_import_only_earlier_rows() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        here = _room(path)
        if here in ENTRANCES:
            continue
        wrong += [
            f"{path.relative_to(SOURCE)} imports {there}"
            for there in _imported_rooms(path) - {here}
            if there in ROW_OF and ROW_OF[there] >= ROW_OF[here]
        ]
    assert wrong == []


def test_foreign_names_stay_at_the_border() -> None:
    """Only checkpoints (and the Whisper engine) may know the libraries that models come from."""
    for path in SOURCE.rglob("*.py"):
        if _room(path) in {"checkpoints", "engines"}:
            continue
        text = path.read_text(encoding="utf-8")
        assert "import transformers" not in text and "from transformers" not in text, path
        assert "import nemo" not in text and "from nemo" not in text, path


def test_importing_auricle_is_cheap() -> None:
    """It loads one module of ours, and of others at most a few of the standard library."""
    program = "import sys; before = {*sys.modules}; import auricle; print(*{*sys.modules} - before)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert {name for name in loaded if name.split(".")[0] == "auricle"} == {"auricle"}
    assert {name.split(".")[0] for name in loaded} - {"auricle"} <= set(sys.stdlib_module_names)
    assert len(loaded) < 60


def test_listing_models_and_running_whisper_need_no_torch() -> None:
    program = (
        "import sys, auricle.recognizer, auricle.hub, auricle.checkpoints.whisper, auricle.cli.app;"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_public_names() -> None:
    """The whole public surface, so that it only grows on purpose."""
    assert set(auricle.__all__) == {
        "AudioError",
        "AuricleError",
        "AutoModelForCTC",
        "AutoModelForRNNT",
        "AutoModelForSpeechSeq2Seq",
        "AutoModelForTDT",
        "CheckpointError",
        "ConfigError",
        "Endpointing",
        "Failure",
        "Final",
        "Greedy",
        "ManifestError",
        "MissingExtra",
        "ModelNotFound",
        "Overloaded",
        "Partial",
        "Recognizer",
        "Segment",
        "StreamState",
        "SubtitleOptions",
        "Token",
        "Transcript",
        "Word",
        "__version__",
        "load",
    }
    assert dir(auricle) == sorted(auricle.__all__)
    for name in auricle.__all__:
        assert getattr(auricle, name) is not None
