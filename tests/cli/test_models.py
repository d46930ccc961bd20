"""`auricle models`: the catalogue on a terminal, in a pipe and as JSON; local files; fetching."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from auricle import hub
from auricle.errors import ModelNotFound
from auricle.hub import Pulled
from tests.cli.conftest import Run
from tests.conftest import GOLDEN

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model in it, and no network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "hub" / "models--nvidia--parakeet-ctc-0.6b"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "parakeet-ctc-0.6b.nemo").write_bytes(b"x")
    return folder


def names(out: str) -> list[str]:
    return [line.partition("\t")[0] for line in out.splitlines()[1:]]


def test_list_in_a_pipe_is_tab_separated(run: Run) -> None:
    code, out, err = run("models", "list")
    assert (code, err) == (0, "")
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert header == [
        "name",
        "family",
        "heads",
        "languages",
        "size",
        "streaming",
        "licence",
        "cached",
    ]
    assert all(len(row) == len(header) for row in rows)
    table = {row[0]: row[1:] for row in rows}
    assert table["nvidia/parakeet-ctc-0.6b"][-1] == "yes"
    assert table["nvidia/parakeet-ctc-1.1b"][-1] == ""
    assert table["stt_en_quartznet15x5"][-1] == "by hand"
    assert table["nvidia/parakeet-tdt-0.6b-v3"][2] == "25 languages"


def test_filters(run: Run) -> None:
    _, out, _ = run("models", "list", "--family", "conformer", "--language", "hr")
    assert set(names(out)) == {
        "nvidia/stt_hr_conformer_transducer_large",
        "stt_hr_conformer_ctc_large",
    }
    _, out, _ = run("models", "list", "--streaming", "--language", "ja")
    assert names(out) == ["nvidia/nemotron-3.5-asr-streaming-0.6b"]
    _, out, _ = run("models", "list", "--cached")
    assert names(out) == ["nvidia/parakeet-ctc-0.6b"]
    code, _, err = run("models", "list", "--family", "canary")
    assert code == 2 and "unknown family 'canary': choose of fastconformer" in err


def test_list_as_json(run: Run) -> None:
    rows = json.loads(run("models", "list", "--json")[1])
    row = next(r for r in rows if r["name"] == "nvidia/nemotron-speech-streaming-en-0.6b")
    assert row["latencies"] == [80, 160, 560, 1120]
    assert row["licence"] == "NVIDIA Open Model License"
    assert row["page"] == "https://huggingface.co/nvidia/nemotron-speech-streaming-en-0.6b"


def test_list_on_a_terminal_is_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run("models", "list", "--family", "citrinet")
    assert code == 0 and "\t" not in out
    assert re.search(r"nvidia/stt_en_citrinet_256_ls +citrinet +ctc +en +10M 37 MB", out)


def test_show(run: Run, cache: Path) -> None:
    facts = json.loads(run("models", "show", "parakeet-ctc-0.6b", "--json")[1])
    assert facts["name"] == "nvidia/parakeet-ctc-0.6b"
    assert facts["heads"] == ["ctc"] and facts["licence"] == "CC-BY-4.0"
    assert Path(facts["cached"]).name == "parakeet-ctc-0.6b.nemo"
    code, out, _ = run("models", "show", "QuartzNet15x5Base-En")
    assert code == 0
    assert "how_to_get" in out and "download its .nemo file from https://catalog.ngc" in out


def test_show_an_unknown_name(run: Run) -> None:
    code, out, err = run("models", "show", "nvidia/stt_en_fastconformer_hybrid_small_pc")
    assert (code, out) == (2, "")
    assert "did you mean nvidia/stt_en_fastconformer_hybrid_large_pc?" in err


def test_show_a_checkpoint_on_this_disk(run: Run) -> None:
    path = GOLDEN / "nemo" / "fastconformer_rnnt.nemo"
    facts = json.loads(run("models", "show", path, "--json")[1])
    assert facts["family"] == "fastconformer"
    assert facts["heads"] == ["rnnt"]
    assert facts["sample_rate"] == 16000
    assert facts["parameters"] > 10_000


def test_pull_says_the_licence(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pull(name: str, *, revision: str | None) -> Pulled:
        if name == "gone":
            raise ModelNotFound("the hub has no model gone")
        return Pulled(tmp_path / f"{name}-{revision}.nemo", "cc-by-4.0", 459_000_000)

    monkeypatch.setattr(hub, "pull", pull)
    code, out, err = run("models", "pull", "a", "gone", "b", "--revision", "v1")
    assert code == 1
    assert out.splitlines() == [
        f"{tmp_path}/a-v1.nemo\t459 MB\tlicence: cc-by-4.0",
        f"{tmp_path}/b-v1.nemo\t459 MB\tlicence: cc-by-4.0",
    ]
    assert err == "auricle: error: the hub has no model gone\n"
    assert run("models", "pull", "gone")[0] == 2


def test_pull_checks_sums_and_reads_the_model(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = (GOLDEN / "nemo" / "fastconformer_rnnt.nemo").read_bytes()
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content)
    link = tmp_path / "m.nemo"
    link.symlink_to(blob)
    monkeypatch.setattr(hub, "pull", lambda name, *, revision: Pulled(link, "MIT", len(content)))
    code, out, _ = run("models", "pull", "m", "--check")
    assert code == 0
    assert out.splitlines()[1] == f"{link}\tgood: it can be read, and 1 file(s) have the hub's sums"
    blob.write_bytes(content[:-1] + b"!")
    code, _, err = run("models", "pull", "m", "--check")
    assert code == 2 and "m.nemo is damaged" in err
