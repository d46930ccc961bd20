"""A row's fault is the row's: it is quarantined with a reason, and the others are done."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from auricle.cli import main
from auricle.curation import Pipeline, readers, run, writers
from auricle.curation.pipeline import load_pipeline
from auricle.curation.running import runner
from auricle.curation.steps.duplicates import Duplicates
from auricle.curation.steps.probe import Probe
from auricle.curation.steps.split import Split
from auricle.errors import ConfigError
from tests.curation.inline import InlineEngine
from tests.curation.synthetic import tone

_LARGE = 10**400
BAD: list[dict[str, Any]] = [
    {"speaker": "\ud800"},
    {"\udfff": 1},
    {"own": {"deep": ["\udcff"]}},
    {"audio_filepath": "n" * 300 + ".wav"},
    {"audio_filepath": "d" * 300 + "/a.wav"},
    {"audio_filepath": "a/" * 3000 + "a.wav"},
    {"audio_filepath": "\0a.wav"},
    {"audio_filepath": "/"},
    {"audio_filepath": 5},
    {"duration": _LARGE},
    {"offset": _LARGE},
    {"own": [_LARGE]},
    {"own": float("inf")},
    {"tar": "t.tar", "tar_offset": 0},
    {"tar": "rows.jsonl", "tar_offset": -1, "tar_size": 5},
    {"tar": "n" * 300, "tar_offset": 0, "tar_size": 5},
    {"channel": True},
    {"channel": -1},
    {"channel": "left"},
]
GOOD: list[dict[str, Any]] = [
    {"text": "line\u2028separator\u2029and\x85more\x0c"},
    {"text": "two rows of"},
    {"text": "the same sound"},
    {"own": "9" * 500},
    {"speaker": ["a", "b"]},
    {"own": 10**300},
    {"item_id": 5, "filtered": 1, "quarantined": [2]},
]


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "engine_of", lambda name, job, slots: InlineEngine(job, slots))
    monkeypatch.setattr(os, "fsync", lambda file: None)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_each_bad_row_is_quarantined_and_all_others_are_done(tmp_path: Path) -> None:
    sound = tone(tmp_path / "tone.wav")
    rows = [{"audio_filepath": sound.name, "n": n, **row} for n, row in enumerate([*BAD, *GOOD])]
    lines = [json.dumps(row) for row in rows]
    lines += ['{"audio_filepath": "tone.wav", "n": ' + "9" * 5000 + "}", "[" * 100_000]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    split = Split(parts={"train": 0.5, "dev": 0.5})
    pipeline = Pipeline(
        "p",
        [readers.Manifest(str(tmp_path / "rows.jsonl"))],
        [Probe(), split],
        [writers.Manifest("{split}.jsonl"), writers.Tar("tars"), writers.Lhotse("lhotse")],
    )
    summary = run(pipeline, tmp_path / "job")
    assert (summary.read, summary.kept) == (len(lines), len(GOOD))
    assert summary.quarantined == len(BAD) + 2
    kept = read(tmp_path / "job" / "manifest.jsonl")
    assert [row["n"] for row in kept] == list(range(len(BAD), len(rows)))
    assert kept[0]["text"] == GOOD[0]["text"]
    for row in read(tmp_path / "job" / "quarantined.jsonl"):
        why = row["quarantined"]
        assert why["reason"] and "Error" not in why["reason"], why
    again = run(pipeline, tmp_path / "job")  # and what it has written can be taken up
    assert again.to_dict() == summary.to_dict()


def test_copies_of_a_stretch_are_told_by_the_recording_that_stays(tmp_path: Path) -> None:
    sound = tone(tmp_path / "tone.wav")
    row = {"audio_filepath": sound.name, "offset": 0.5, "duration": 0.25}
    lines = [json.dumps({**row, "text": text}) for text in ("a", "b")]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    pipeline = Pipeline("p", [readers.Manifest(str(tmp_path / "rows.jsonl"))], [Duplicates()])
    summary = run(pipeline, tmp_path / "job")
    assert (summary.read, summary.kept, summary.filtered) == (2, 1, 1)
    (kept,), (lost,) = (read(tmp_path / "job" / f"{n}.jsonl") for n in ("manifest", "filtered"))
    detail = lost["filtered"]["detail"]
    assert detail == f"of {tmp_path / 'tone.wav'} from 0.5 s, item {kept['item_id']}"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_not_utf8_are_told_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = os.fsdecode(b"bad-\xff")
    (tmp_path / "sounds" / bad).mkdir(parents=True)
    for name in (f"{bad}/a.wav", f"{bad}.wav", "good.wav", "line\u2028end.wav"):
        tone(tmp_path / "sounds" / name)
    monkeypatch.chdir(tmp_path)
    text = "read: {folder: {path: sounds, folder_as: speaker}}\nsteps: [probe]\n"
    for name in ("p.yaml", f"{bad}.yaml"):
        (tmp_path / name).write_text(text)
        assert main(["curate", name, "--report"]) == 0, capsys.readouterr().err
        job = tmp_path / "curated" / ("p" if name == "p.yaml" else "bad-_")
        assert [Path(row["audio_filepath"]).name for row in read(job / "manifest.jsonl")] == [
            "good.wav",
            "line\u2028end.wav",
        ]
        assert len(read(job / "quarantined.jsonl")) == 2
    for bad_argument in ([f"read.folder.path={bad}"], ["-o", bad]):
        assert main(["curate", "p.yaml", *bad_argument]) == 2
        assert "is not UTF-8" in capsys.readouterr().err
    (tmp_path / bad).mkdir()
    monkeypatch.chdir(tmp_path / bad)
    (tmp_path / bad / "p.yaml").write_text(text)
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_pipeline("p.yaml")
