"""Names that keep recordings apart."""

from __future__ import annotations

from pathlib import Path

from auricle.cli.outputs import output_names
from auricle.transcribe import Source


def file(path: str, name: str | None = None, **fields) -> Source:
    return Source(Path(path), name or Path(path).name, **fields)


def test_names_are_stems() -> None:
    assert output_names([file("/a/talk.mp3"), file("/a/q.v2.wav")]) == ["talk", "q.v2"]


def test_folders_are_mirrored() -> None:
    sources = [file("/in/a/talk.mp3", "a/talk.mp3"), file("/in/b/talk.mp3", "b/talk.mp3")]
    assert output_names(sources) == ["a/talk", "b/talk"]


def test_a_shared_stem_keeps_the_suffix() -> None:
    sources = [file("/a/talk.mp3"), file("/a/Talk.wav"), file("/a/other.wav")]
    assert output_names(sources) == ["talk.mp3", "Talk.wav", "other"]


def test_a_shared_name_keeps_the_folder() -> None:
    assert output_names([file("/x/a/talk.wav"), file("/x/b/c/talk.wav")]) == ["a/talk", "b/c/talk"]


def test_stretches_of_one_recording_keep_their_place() -> None:
    sources = [file("/a/talk.wav", offset=0.0), file("/a/talk.wav", offset=12.5)]
    assert output_names(sources) == ["talk_0.00", "talk_12.50"]


def test_the_same_thing_twice_is_numbered() -> None:
    names = output_names(
        [file("/a/talk.wav"), file("/a/talk.wav"), Source(None, "stdin", data=b"")]
    )
    assert names == ["talk_0.00-1", "talk_0.00-2", "stdin"]
