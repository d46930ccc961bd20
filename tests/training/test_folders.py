"""Folders of sound with metadata, in the hub's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle.errors import ConfigError, ManifestError
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sounds import FileSound
from auricle.training.sources import Source, open_sources
from tests.training.speech import clip


def opened(folder: Path, **options: object) -> Source:
    options = {"text_column": "transcription", **options}
    source = SourceRecipe(dataset=folder.name, **options)  # type: ignore[arg-type]
    (found,) = open_sources([source], DataRecipe(), folder=folder.parent)
    return found


def folder(root: Path) -> Path:
    """Three clips to train on, by JSON, and one to validate, by CSV."""
    lines = []
    for i in range(3):
        clip(root, f"set/data/train/{i}.wav", 0.5 + i)
        row = {"file_name": f"train/{i}.wav", "transcription": f"say {i}", "speaker": i % 2}
        lines.append(json.dumps(row))
    (root / "set/data/metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    clip(root, "set/data/dev/x.wav", 1.0)
    table = 'file_name,transcription,duration\nx.wav,"one, two",1.0\n'
    (root / "set/data/dev/metadata.csv").write_text(table)
    return root / "set"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_is_read_from_its_files(tmp_path: Path, streaming: bool) -> None:
    source = opened(folder(tmp_path), streaming=streaming, where={"speaker": (0,)})
    assert all(isinstance(item.sound, FileSound) for item in source.items())
    assert [(i.text, i.duration) for i in source.items()] == [("say 0", 0.5), ("say 2", 2.5)]
    (held_out,) = opened(folder(tmp_path), split="validation").items()
    assert (held_out.text, held_out.duration) == ("one, two", 1.0)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path)
    with pytest.raises(ConfigError, match="has no split 'test'; it has train, validation"):
        opened(root, split="test")
    with pytest.raises(ConfigError, match=r"csv: has no column 'said'; set text_column to one"):
        opened(root, text_column="said")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no JSON", r"metadata\.jsonl, line 1: cannot be read"),
        ("[1]", r"metadata\.jsonl, line 1: cannot be read"),
        ('{"transcription": "a"}', r"metadata\.jsonl, line 1: needs file_name"),
        (
            '{"transcription": "a", "file_name": "a.wav", "duration": "x"}',
            r"metadata\.jsonl, line 1: duration must be in seconds, got 'x'",
        ),
    ],
)
def test_bad_metadata_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/metadata.jsonl").write_text(line)
    with pytest.raises(ManifestError, match=said):
        opened(tmp_path / "set")
