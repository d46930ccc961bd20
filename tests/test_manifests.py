"""Manifests: what rows mean, what bad rows say, and that files appear whole or not at all."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from auricle import manifests
from auricle.errors import ManifestError
from auricle.manifests import Row


def lines(path: Path, *rows: str) -> Path:
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_row_has_its_fields_and_keeps_unknown_keys(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "m.jsonl",
        '{"audio_filepath": "wav/a.wav", "duration": 1.5, "text": "Grüße", "offset": 2, '
        '"lang": "de-DE", "speaker": {"id": 7}}',
        "",
        '{"audio_filepath": "/data/b.opus"}',
    )
    first, second = manifests.read(path)
    assert first.path == tmp_path / "wav" / "a.wav"
    assert (first.duration, first.text, first.offset) == (1.5, "Grüße", 2.0)
    assert first.language == "de-DE"
    assert first.data["speaker"] == {"id": 7}
    assert second == Row(Path("/data/b.opus"), data={"audio_filepath": "/data/b.opus"})


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz", ".JSONL"])
def test_reading_gives_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    rows = [{"audio_filepath": f"{i}.wav", "duration": i + 0.25, "text": "né"} for i in range(5)]
    assert manifests.is_manifest(path)
    assert manifests.write(path, iter(rows)) == 5
    assert [dict(row.data) for row in manifests.read(path)] == rows
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_gzip_is_reproducible(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "a.wav"}]
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        manifests.write(tmp_path / name, rows)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_other_files_are_no_manifests() -> None:
    assert not any(manifests.is_manifest(n) for n in ("a.wav", "a.gz", "json", "a.json.txt"))


def test_a_row_written_elsewhere_still_names_its_recording(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source = lines(tmp_path / "in" / "m.jsonl", '{"audio_filepath": "a.wav", "extra": 1}')
    [row] = manifests.read(source)
    manifests.write(tmp_path / "out" / "m.jsonl", [row])
    manifests.write(tmp_path / "m.jsonl", [row])
    for copy in (tmp_path / "out" / "m.jsonl", tmp_path / "m.jsonl"):
        [again] = manifests.read(copy)
        assert (again.path, again.data["extra"]) == (row.path, 1)
    assert json.loads((tmp_path / "m.jsonl").read_text())["audio_filepath"] == "in/a.wav"


def test_paths_and_numpy_numbers_are_written_plainly(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    manifests.write(path, [{"audio_filepath": Path("a.wav"), "duration": np.float32(0.5)}])
    assert json.loads(path.read_text()) == {"audio_filepath": "a.wav", "duration": 0.5}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"audio_filepath": "a.wav"}\r\n{"audio_filepath": "b.wav"}\r\n')
    assert [row.path.name for row in manifests.read(path)] == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("{not json}", "not JSON"),
        ("[", "one JSON object on each line"),
        ("[1]", "a list, not an object"),
        ('{"text": "x"}', "needs audio_filepath"),
        ('{"audio_filepath": 3}', "needs audio_filepath"),
        ('{"audio_filepath": "a", "duration": "3"}', "duration must be 0 or more seconds"),
        ('{"audio_filepath": "a", "duration": true}', "duration must be"),
        ('{"audio_filepath": "a", "duration": NaN}', "duration must be"),
        ('{"audio_filepath": "a", "offset": -1}', "offset must be"),
        ('{"audio_filepath": "a", "text": ["x"]}', "text must be a string"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_row_names_file_and_line_after_the_good_ones(
    tmp_path: Path, row: str, what: str
) -> None:
    path = lines(tmp_path / "m.jsonl", '{"audio_filepath": "good.wav"}', "", row)
    rows = manifests.read(path)
    assert next(rows).path.name == "good.wav"
    with pytest.raises(ManifestError, match=what) as caught:
        next(rows)
    assert f"{path}, line 3: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_damaged_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.jsonl: no such manifest"):
        list(manifests.read(tmp_path / "gone.jsonl"))
    with pytest.raises(ManifestError, match="cannot be read"):
        list(manifests.read(tmp_path))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"audio_filepath": "ü"}'.encode("latin-1"))
    with pytest.raises(ManifestError, match="line 1: not UTF-8"):
        list(manifests.read(latin))
    whole = gzip.compress(b'{"audio_filepath": "a.wav"}\n' * 1000)
    for name, content in (("cut", whole[: len(whole) // 2]), ("plain", b'{"audio_filepath": "a"}')):
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=rf"{name}\.jsonl\.gz, line \d+: damaged gzip"):
            list(manifests.read(path))


def test_duration_zero_means_not_measured(tmp_path: Path) -> None:
    path = lines(tmp_path / "m.jsonl", '{"audio_filepath": "a.wav", "duration": 0}')
    assert next(manifests.read(path)).duration is None


@pytest.mark.parametrize(
    "bad",
    [
        {"text": "no path"},
        {"audio_filepath": "a", "x": object()},
        {"audio_filepath": "a", "x": float("nan")},
    ],
)
def test_a_row_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, bad: dict) -> None:
    path = lines(tmp_path / "m.jsonl", '{"audio_filepath": "old.wav"}')
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 2: "):
        manifests.write(path, [{"audio_filepath": "new.wav"}, bad])
    assert next(manifests.read(path)).path.name == "old.wav"
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_source_of_rows_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def rows():
        yield {"audio_filepath": "a.wav"}
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        manifests.write(tmp_path / "m.jsonl", rows())
    with pytest.raises(OSError, match="none"):
        manifests.write(tmp_path / "none" / "m.jsonl", [])
    assert list(tmp_path.iterdir()) == []


def test_rows_are_streamed_through_a_rewrite(tmp_path: Path) -> None:
    """A manifest may be rewritten in place from its own rows, one at a time."""
    path = lines(tmp_path / "m.jsonl", *[f'{{"audio_filepath": "{i}.wav"}}' for i in range(3)])
    manifests.write(path, (row for row in manifests.read(path) if row.path.stem != "1"))
    assert [row.path.stem for row in manifests.read(path)] == ["0", "2"]


def test_bad_rows_can_be_gone_past(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(
        b'{"audio_filepath": "a.wav"}\n{"audio_filepath": \n\n{"duration": 1}\n'
        b'{"audio_filepath": "\xff.wav"}\n{"audio_filepath": "b.wav"}\n'
    )
    wrong: list[ManifestError] = []
    rows = list(manifests.read(path, bad_row=wrong.append))
    assert [row.path.name for row in rows] == ["a.wav", "b.wav"]
    said = [str(error).removeprefix(f"{path}, ") for error in wrong]
    assert said[0].startswith("line 2: not JSON")
    assert said[1].startswith("line 4: needs audio_filepath")
    assert said[2] == "line 5: not UTF-8; save it as UTF-8"
    with pytest.raises(ManifestError, match="line 2: not JSON"):
        list(manifests.read(path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"audio_filepath": "a"}{"audio_filepath": "b"}', "put one JSON object on each line"),
        ('{"audio_filepath": "a"} {"audio_filepath": "b"}', "put one JSON object on each line"),
        ('{"audio_filepath": "a"}, {"audio_filepath": "b"}', "put one JSON object on each line"),
        ('[{"audio_filepath": "a"}]', "put one JSON object on each line"),
        ("{", "put one JSON object on each line"),
        (
            '{"audio_filepath": "a", "speaker": "\\ud800"}',
            r"half a Unicode character \('\\ud800'\)",
        ),
        ('{"audio_filepath": "a", "\\udcff": 1}', "half a Unicode character"),
        ('{"audio_filepath": "a", "x": [{"y": "\\uDBFF"}]}', "half a Unicode character"),
        ('{"audio_filepath": "\\ud800"}', "half a Unicode character"),
        (f'{{"audio_filepath": "a", "duration": 1{400 * "0"}}}', "duration must be 0 or more"),
        (f'{{"audio_filepath": "a", "offset": 1{400 * "0"}}}', "offset must be 0 or more"),
        ('{"audio_filepath": "a", "offset": 1e308}', "offset must be 0 or more"),
        (f'{{"audio_filepath": "a", "id": 1{5000 * "0"}}}', "a number of thousands of digits"),
        (f'{{"audio_filepath": "a", "text": {[0] * 500}}}', "text must be a string"),
        (100_000 * "[", "not JSON"),
    ],
)
def test_the_fault_of_a_row_is_the_rows(tmp_path: Path, line: str, said: str) -> None:
    good = '{"audio_filepath": "good.wav"}'
    path = lines(tmp_path / "m.jsonl", good, line, good)
    wrong: list[manifests.BadRow] = []
    assert len(list(manifests.read(path, bad_row=wrong.append))) == 2
    (error,) = wrong
    assert re.search(rf"^.*m\.jsonl, line 2: .*{said}", str(error)) and len(str(error)) < 400
    with pytest.raises(ManifestError, match=said):
        list(manifests.read(path))


def test_characters_of_all_planes_and_names_in_any_bytes_are_read(tmp_path: Path) -> None:
    """Python's JSON writes bytes of a name that are no UTF-8 as such halves."""
    path = lines(
        tmp_path / "m.jsonl",
        '{"audio_filepath": "\\udcff.wav", "text": "\\ud83d\\ude00"}',
        '{"audio_filepath": "a.wav", "text": "a\u2028b\x85c\u2029"}',
    )
    first, second = manifests.read(path)
    assert (first.path.name, first.text) == ("\udcff.wav", "\U0001f600")
    assert second.text == "a\u2028b\x85c\u2029"
