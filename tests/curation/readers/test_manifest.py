"""Manifests as items: every line gives an item or a bad row, whatever stands on it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle.curation.items import canonical
from auricle.curation.readers import BadRow, Manifest, Reader
from auricle.errors import ConfigError, ManifestError
from tests.training.speech import write_rows


def read(reader: Reader, folder: Path) -> list[Any]:
    return list(reader.items(folder))


def test_rows_keep_every_key_and_name_their_files_from_the_root(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "clips/a.wav", "duration": 1.5, "text": "yes", "mine": {"x": [1]}},
        {"audio_filepath": str(tmp_path / "b.wav"), "offset": 2.0, "duration": 1.0, "lang": "de"},
        {"audio_filepath": "../c.wav", "offset": 0, "duration": None},
        {"audio_filepath": "d.wav", "tar": "tars/0.tar", "tar_offset": 512, "tar_size": 9},
    ]
    path = write_rows(tmp_path / "in.jsonl", rows)
    assert read(Manifest(str(path)), tmp_path / "out") == [
        {**rows[0], "audio_filepath": str(tmp_path / "clips" / "a.wav")},
        rows[1],
        {"audio_filepath": str(tmp_path.parent / "c.wav")},  # nothing was measured
        {**rows[3], "tar": str(tmp_path / "tars" / "0.tar")},
    ]


def test_several_files_are_read_in_order_gzipped_or_not(tmp_path: Path) -> None:
    for number in range(3):
        line = json.dumps({"audio_filepath": "/a.wav", "text": str(number)}) + "\n"
        (tmp_path / f"{number}.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    write_rows(tmp_path / "last.json", [{"audio_filepath": "/a.wav", "text": "last"}])
    reader = Manifest((str(tmp_path / "{0..2}.jsonl.gz"), str(tmp_path / "last.json")))
    assert [item["text"] for item in read(reader, tmp_path)] == ["0", "1", "2", "last"]


def test_broken_rows_are_named_and_kept_between_the_others(tmp_path: Path) -> None:
    lines = [
        b'{"audio_filepath": "/a.wav"}',
        b'{"audio_filepath": "/b.wav", "text": "half',
        b"",
        b"[1, 2]",
        b'{"text": "no file"}',
        b'{"audio_filepath": "/c.wav", "duration": -1}',
        b'{"audio_filepath": "/d.wav", "snr_db": NaN}',
        b'{"audio_filepath": "/e.wav", "text": "\\ud800"}',
        b'{"audio_filepath": "/f.wav", "text": "\xff"}',
        b'{"audio_filepath": "/g\\u0000.wav"}',
        b'{"audio_filepath": "~nobody-of-this-name/h.wav"}',
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = read(Manifest(str(path)), tmp_path)
    good = [Path(row["audio_filepath"]).name for row in found if not isinstance(row, BadRow)]
    assert good == ["a.wav", "h.wav"]
    assert not isinstance(found[0], BadRow) and not isinstance(found[-1], BadRow)
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [row.data.get("line") for row in bad] == [2, 4, 5, 6, 7, 8, 9, 10]
    assert bad[0].data["row"] == lines[1].decode()
    assert [row.name for row in bad] == [f"{path}, line {row.data['line']}" for row in bad]
    assert {row.data["manifest"] for row in bad} == {str(path)}
    assert bad[6].data["row"].endswith('"\\xff"}')
    assert {row.reason for row in bad} == {"broken row"}
    assert "Unicode" in bad[5].detail and "null" in bad[7].detail
    for row in bad:
        canonical([row.name, row.detail, row.data]).encode("utf-8")


@settings(deadline=None, max_examples=50)
@given(lines=st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=8))
def test_nothing_is_lost_of_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "in.jsonl"
    lines = [b'{"audio_filepath": "/a.wav"}', *lines]
    path.write_bytes(b"\n".join(lines))
    found = read(Manifest(str(path)), path.parent)

    def is_empty(line: bytes) -> bool:
        try:
            return not line.decode().strip()
        except UnicodeDecodeError:
            return False

    assert len(found) == sum(not is_empty(line) for line in lines)


def test_what_is_broken_as_a_whole_is_refused(tmp_path: Path) -> None:
    good = write_rows(tmp_path / "in.jsonl", [{"audio_filepath": "/a.wav"}])
    reader = Manifest((str(good), str(tmp_path / "none.jsonl")))
    with pytest.raises(ManifestError, match=r"none\.jsonl: no such manifest"):
        next(reader.items(tmp_path))  # before the first item
    short = tmp_path / "short.jsonl.gz"
    short.write_bytes(gzip.compress(good.read_bytes() * 100)[:-9])
    with pytest.raises(ManifestError, match="damaged gzip"):
        read(Manifest(str(short)), tmp_path)
    with pytest.raises(ConfigError, match="only files are read"):
        read(Manifest("s3://bucket/in.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"path": "clips/a.wav", "sentence": "one"}, "path"),
        ({"id": "a", "audio": "a.flac"}, "audio"),
        ({"wav": "a"}, "wav"),
        ({"text": "said", "recording": "deep/A.WAV"}, "recording"),
        ({"file_name": "x.wav", "path": "a.opus"}, "file_name"),
    ],
)
def test_a_path_under_another_key_is_told_before_the_start(
    tmp_path: Path, row: dict[str, str], key: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 3, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"but they have {key}: set .*audio_column={key}"):
        next(Manifest(str(path)).items(tmp_path))
    items = list(Manifest(str(path), audio_column=key).items(tmp_path))
    assert items == [{**row, "audio_filepath": str(tmp_path / row[key])}] * 3


def test_a_row_without_a_path_among_others_is_that_rows_fault(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"path": "a.wav"}\n{"audio_filepath": "b.wav"}\n{"text": "no path"}\n')
    bad, good, other = Manifest(str(path)).items(tmp_path)
    assert isinstance(bad, BadRow) and isinstance(other, BadRow) and isinstance(good, dict)
    path.write_text('{"text": "no key here seems to be a path"}\n{"text": 5}\n')
    assert all(isinstance(row, BadRow) for row in Manifest(str(path)).items(tmp_path))
