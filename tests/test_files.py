"""Whole files or none: full disks, interruptions, links and devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from auricle.errors import ConfigError
from auricle.files import UNFINISHED, _sweep, file_beside, refuse_overwriting, write_atomic


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="elsewhere") as caught, file_beside(path) as file:
        file.write(b"new")
        raise FileNotFoundError(2, "No such file", "elsewhere")
    assert caught.value.filename == "elsewhere"  # not this file's failure
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
def test_a_new_file_has_the_modes_that_the_user_chose(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_file_that_outgrows_the_disk_is_removed(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_atomic(tmp_path / "big.txt", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "big.txt")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")
def test_links_and_devices_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_atomic(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    write_atomic("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("rows.jsonl", "rows.jsonl"),
        ("data/../rows.jsonl", "rows.jsonl"),
        ("link.jsonl", "rows.jsonl"),
        ("rows.jsonl", "link.jsonl"),
        ("hard.jsonl", "rows.jsonl"),
        ("linked/a.wav", "data/a.wav"),
        ("data", "data/a.wav"),  # the folder is replaced
        ("data", "linked/deep/b.wav"),
        ("linked", "data/deep"),
        ("data/deep/b.wav", "data"),  # a model's folder, say
        ("data", "within.wav"),
    ],
)
def test_what_is_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, read: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/deep").mkdir(parents=True)
    for name in ("rows.jsonl", "data/a.wav", "data/deep/b.wav", "other.wav"):
        Path(name).write_text(name)
    Path("link.jsonl").symlink_to("rows.jsonl")
    Path("within.wav").symlink_to("data/a.wav")
    Path("linked").symlink_to("data")
    Path("hard.jsonl").hardlink_to("rows.jsonl")
    with pytest.raises(ConfigError, match="would overwrite") as caught:
        refuse_overwriting(["new.jsonl", output], ["other.wav", read], cure="use --output")
    assert str(caught.value) == (
        f"writing {output} would overwrite {read}, which is read: use --output"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs devices")
def test_what_is_new_elsewhere_or_no_file_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.wav").touch()
    refuse_overwriting([tmp_path / "a" / "a.txt"], [tmp_path / "a"])  # another file beside it
    refuse_overwriting([tmp_path / "b"], [tmp_path / "b"])  # neither is there
    (tmp_path / "b").mkdir()
    refuse_overwriting([tmp_path / "b"], [tmp_path / "a" / "a.wav", tmp_path / ("n" * 300)])
    refuse_overwriting(["/dev/null"], ["/dev/null"])


def test_names_in_bytes_that_are_no_text_are_written_as_json_has_them(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff \xc3\xa9.wav")
    row = json.dumps({"name": name}, ensure_ascii=False)
    written = write_atomic(tmp_path / "a.json", row).read_text(encoding="utf-8")
    assert written == '{"name": "\\udcff \u00e9.wav"}' and json.loads(written) == {"name": name}


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of POSIX")
def test_what_a_killed_process_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    left = tmp_path / UNFINISHED.replace("*", "0123")
    left.write_text("half")
    program = f"""
import sys
from auricle.files import file_beside, write_atomic
with file_beside({str(tmp_path / "slow")!r}) as file:
    print("writing", flush=True)
    sys.stdin.readline()
    file.write(b"whole")
"""
    writing = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writing.stdout is not None and writing.stdout.readline() == "writing\n"
    assert not left.exists()
    left.write_text("half")
    _sweep.cache_clear()
    write_atomic(tmp_path / "quick", "done")
    assert not left.exists() and len(list(tmp_path.glob(UNFINISHED))) == 1
    writing.communicate("\n", timeout=60)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"slow": "whole", "quick": "done"}
