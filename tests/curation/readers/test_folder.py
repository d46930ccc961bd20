"""Folders of recordings as items."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from auricle.curation.readers import BadRow, Folder
from auricle.errors import ManifestError


def touch(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_recordings_come_sorted_with_their_texts(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/10.FLAC", "a/x/1.mp3", "a.opus", "b/notes.pdf", "b/lone.txt"):
        touch(tmp_path / name)
    touch(tmp_path / "b/2.txt", "﻿ Grüße \n".encode())
    touch(tmp_path / ".trash/3.wav")
    touch(tmp_path / "b/._2.wav")
    items = list(Folder(str(tmp_path), folder_as="speaker").items(tmp_path / "out"))
    assert items == [
        {"audio_filepath": str(tmp_path / "a/x/1.mp3"), "speaker": "x"},
        {"audio_filepath": str(tmp_path / "a.opus"), "speaker": tmp_path.name},
        {"audio_filepath": str(tmp_path / "b/10.FLAC"), "speaker": "b"},
        {"audio_filepath": str(tmp_path / "b/2.wav"), "text": "Grüße", "speaker": "b"},
    ]


def test_a_broken_transcript_makes_a_bad_row(tmp_path: Path) -> None:
    touch(tmp_path / "1.wav")
    touch(tmp_path / "1.txt", b"\xff\xfe")
    touch(tmp_path / "2.wav")
    first, second = Folder(str(tmp_path)).items(tmp_path)
    assert isinstance(first, BadRow)
    assert first.reason == "broken transcript" and first.data["audio_filepath"].endswith("1.wav")
    assert second == {"audio_filepath": str(tmp_path / "2.wav")}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_a_name_that_is_no_unicode_makes_a_bad_row(tmp_path: Path) -> None:
    touch(tmp_path / os.fsdecode(b"\xff.wav"))
    (row,) = Folder(str(tmp_path)).items(tmp_path)
    assert isinstance(row, BadRow)
    assert (row.name + str(row.data)).encode("utf-8")


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder"):
        list(Folder(str(tmp_path / "none")).items(tmp_path))
    with pytest.raises(ManifestError, match="holds no recordings"):
        list(Folder(str(tmp_path)).items(tmp_path))
