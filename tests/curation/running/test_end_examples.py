"""Examples of readers and writers: all hold, and one that does not is told by its name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from auricle.curation import readers, writers
from auricle.curation.items import Item
from auricle.curation.readers import BadRow, Reader
from auricle.curation.running.examples import try_reader, try_writer
from auricle.curation.table import READERS, WRITERS
from auricle.curation.writers import Writer
from auricle.errors import ConfigError, MissingExtra

READ: list[Reader] = [
    readers.Manifest("in.jsonl"),
    readers.Folder("in"),
    readers.Folder("in", text_suffix=".lab", folder_as="speaker"),
    readers.Tar("in.tar"),
    readers.Tar("in_{0..9}.tar", "in_{0..9}.json", text_column="said"),
]
WRITE: list[Writer] = [
    writers.Manifest(),
    writers.Manifest("deep/{split}/all.JSONL.gz", absolute=True),
    writers.Tar(),
    writers.Tar("{split}", items=None, hours=2.0, format="flac"),
    writers.Lhotse(),
    writers.Lhotse("/somewhere/{split}"),
]


@pytest.mark.parametrize("reader", READ)
def test_readers_do_what_they_say(tmp_path: Path, reader: Reader) -> None:
    try_reader(reader, tmp_path)
    assert list(tmp_path.iterdir()) != []


@pytest.mark.parametrize("writer", WRITE)
def test_writers_do_what_they_say(tmp_path: Path, writer: Writer) -> None:
    try_writer(writer, tmp_path)
    assert len(list(tmp_path.iterdir())) > 2  # more than the sound


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("text", ["sentence", ""])
def test_data_sets_do(tmp_path: Path, streaming: bool, text: str) -> None:
    pytest.importorskip("datasets")
    columns = {"audio_column": "clip", "text_column": text, "columns": ("age",)}
    reader = readers.Dataset("some/set", split="train[:1%]", streaming=streaming, **columns)  # type: ignore[arg-type]
    try_reader(reader, tmp_path)


def test_the_writer_of_data_sets_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    try_writer(writers.HuggingFace("out", "wav"), tmp_path)


def test_folders_of_sound_need_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/metadata.csv").touch()
    (tmp_path / "trial").mkdir()
    try_reader(readers.Dataset(str(tmp_path / "mine"), split="test"), tmp_path / "trial")
    with pytest.raises(MissingExtra, match="auricle\\[datasets\\]"):
        try_reader(readers.Dataset("some/set"), tmp_path)


def test_cuts_do(tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    try_reader(readers.Cuts("in.jsonl.gz"), tmp_path)


def test_all_that_have_names_have_examples() -> None:
    for table, none in ((READERS, Reader.example), (WRITERS, Writer.example)):
        for home in table.values():
            module, _, kind = home.partition(":")
            made: Any = getattr(__import__(module, fromlist=[kind]), kind)
            assert made.example is not none


@dataclass(frozen=True)
class Careless(readers.Manifest):
    """Passes over what is broken."""

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        return (row for row in super().items(folder) if not isinstance(row, BadRow))


@dataclass(frozen=True)
class Mistaken(readers.Folder):
    """Calls it otherwise."""

    def items(self, folder: Path) -> Iterator[Item | BadRow]:
        for row in super().items(folder):
            yield BadRow(row.name, "odd", "for a reason") if isinstance(row, BadRow) else row


@dataclass(frozen=True)
class Shorter(writers.Manifest):
    """Leaves the last item out."""

    def write(self, items: Iterable[Item], folder: Path) -> None:
        super().write(list(items)[:-1], folder)


@dataclass(frozen=True)
class Louder(writers.HuggingFace):
    """Stores the same sound for every item."""

    def write(self, items: Iterable[Item], folder: Path) -> None:
        first, *rest = items
        same = [{**item, "audio_filepath": first["audio_filepath"]} for item in rest]
        super().write([first, *same], folder)


@dataclass(frozen=True)
class Wordless(writers.Lhotse):
    """Forgets what was said."""

    def write(self, items: Iterable[Item], folder: Path) -> None:
        super().write([{**item, "text": "?"} for item in items], folder)


def test_readers_that_do_not_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="read careless: its example gives 2 outcomes, not 3"):
        try_reader(Careless("in.jsonl"), tmp_path)
    with pytest.raises(
        ConfigError, match=r"'odd' \(for a reason\), not 'broken transcript'"
    ) as told:
        try_reader(Mistaken("in"), tmp_path)
    assert str(told.value).startswith("read mistaken: its example gives ")
    more = tmp_path / "more"
    more.mkdir()
    with pytest.raises(ConfigError, match=r"read folder: its example raises ValueError: .*suffix"):
        try_reader(readers.Folder("in", text_suffix="/"), more)


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (Shorter("all.jsonl"), "write shorter: its example gives 2 outcomes, not 3"),
        (Wordless(), 'write wordless: its example gives {.*"text":"?".*}, not {'),
        (Louder(), "write louder: its example gives other sound than it was given, for example2"),
    ],
)
def test_writers_that_do_not_are_named(tmp_path: Path, writer: Writer, message: str) -> None:
    if isinstance(writer, writers.HuggingFace):
        pytest.importorskip("pyarrow")
    with pytest.raises(ConfigError, match=message.replace("?", "[?]")):
        try_writer(writer, tmp_path)
