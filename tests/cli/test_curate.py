"""`auricle curate`: options, exit codes, last words; packaged pipelines; the page of the docs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from auricle.cli import curate
from auricle.curation.pipeline import Pipeline, load_pipeline, load_steps, pipeline_names
from auricle.curation.plan import planned
from auricle.curation.running import runner
from auricle.curation.table import COMPOSITES, READERS, STEPS, WRITERS, found
from tests.cli.conftest import Run, start
from tests.conftest import ROOT
from tests.curation.synthetic import tone
from tests.patience import PATIENCE

PAGE = ROOT / "docs" / "curation.md"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: six rows of which one is too long a text, and a pipeline."""
    monkeypatch.chdir(tmp_path)
    sound = tone(tmp_path / "tone.wav")
    rows = [
        {"audio_filepath": sound.name, "text": "a " * (i + 1), "duration": 1.5} for i in range(6)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "my.yaml").write_text(
        "read: {manifest: {path: rows.jsonl}}\nshard: {items: 2}\nsteps:\n"
        "  - rates: {chars: [0, 3.9]}\n"
    )
    return tmp_path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_pipeline_runs_and_says_what_came_out(run: Run, data: Path) -> None:
    code, out, err = run("curate", "my.yaml", "-o", "done", "--report", "--workers", "1")
    assert (code, out) == (0, "done\n"), err
    assert "6 items read (9 s): 5 kept (7.5 s), 1 filtered (1.5 s), 0 quarantined (0 s)" in err
    assert len(rows(data / "done" / "manifest.jsonl")) == 5
    (dropped,) = rows(data / "done" / "filtered.jsonl")
    assert dropped["filtered"]["step"] == "1-rates"
    assert "kept, 83.3 %" in (data / "done" / "report.html").read_text()
    assert str(data / "done" / "report.html") in err or "done/report.html" in err


def test_the_same_command_goes_on_and_changes_nothing(run: Run, data: Path) -> None:
    assert run("curate", "my.yaml", "--limit", "3", "--workers", "1")[0] == 0
    folder = data / "curated" / "my"
    assert len(rows(folder / "manifest.jsonl")) == 3
    assert run("curate", "my.yaml", "--workers", "1")[0] == 0
    whole = (folder / "manifest.jsonl").read_bytes()
    assert run("curate", "my.yaml", "-q", "--workers", "1") == (0, "curated/my\n", "")
    assert (folder / "manifest.jsonl").read_bytes() == whole


def test_a_dry_run_writes_nothing(run: Run, data: Path) -> None:
    before = sorted(data.rglob("*"))
    code, out, err = run("curate", "my.yaml", "steps.0.rates.chars=[0,2]", "--dry-run")
    assert code == 0, err
    assert "chars=[0.0, 2.0]" in out
    assert "checking my" in err
    assert sorted(data.rglob("*")) == before


def test_steps_of_ones_own_come_from_files(run: Run, data: Path) -> None:
    """That of the docs page."""
    example, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (data / "own.py").write_text(example)
    (data / "own.yaml").write_text(
        "read: {manifest: {path: rows.jsonl}}\nsteps: [word_count, {filter: {words_in_text: 2}}]\n"
    )
    options = ("--steps", "own.py", "--workers", "1")
    assert run("curate", "own.yaml", *options)[0] == 0
    (kept,) = rows(data / "curated" / "own" / "manifest.jsonl")
    assert (kept["text"], kept["words_in_text"]) == ("a a ", 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a pipeline"),
        (["claen"], "there is no pipeline 'claen'; near to it are clean"),
        (["gone.yaml"], "gone.yaml"),
        (["my.yaml", "steps.0.rates.charz=[1,2]"], "charz"),
        (["my.yaml", "steps.0={raets: {}}"], "nearest is rates"),
        (["my.yaml", "read.manifest.path=gone.jsonl"], "gone.jsonl"),
        (["my.yaml", "no-change"], "no-change"),
        (["my.yaml", "--devices", "gpu"], "unknown device 'gpu'"),
        (["my.yaml", "--workers", "0"], "--workers"),
        (["my.yaml", "--steps", "gone.py"], "gone.py"),
        (["my.yaml", "-o", "my.yaml"], "is a file"),
    ],
)
def test_a_mistake_is_one_line(run: Run, data: Path, arguments: Sequence[str], told: str) -> None:
    code, out, err = run("curate", *arguments, "-q")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("auricle: error: ")
    assert told in line
    assert not list((data / "curated").rglob("manifest.jsonl"))


# Ctrl-C is ignored in what runs behind a shell, as tests may.
HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def test_ctrl_c_leaves_what_is_done(data: Path) -> None:
    """And what goes on gives the bytes of a run that nothing disturbed."""
    (data / "slow.py").write_text(
        "import time\nfrom auricle.curation.step import step\n\n"
        "@step(batch=1)\ndef slow(items):\n    time.sleep(0.4)\n    yield from items\n"
    )
    (data / "slow.yaml").write_text(
        "read: {manifest: {path: rows.jsonl}}\nshard: {items: 2}\nsteps: [slow]\n"
    )
    command = ("curate", "slow.yaml", "--steps", "slow.py", "--workers", "1")
    process = start(
        *command, "-o", "broken", program=HEARS_CTRL_C, cwd=data, start_new_session=True
    )
    journal = data / "broken" / "metrics.jsonl"
    end = time.monotonic() + PATIENCE
    while not (journal.exists() and b'"items"' in journal.read_bytes()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert not (data / "broken" / "summary.json").exists()
    for folder in ("broken", "whole"):
        again = start(*command, "-o", folder, cwd=data)
        assert again.wait(PATIENCE) == 0, again.communicate()
    for name in ("manifest.jsonl", "filtered.jsonl", "quarantined.jsonl", "summary.json"):
        assert (data / "broken" / name).read_bytes() == (data / "whole" / name).read_bytes()


def test_options_reach_the_runner(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fake(pipeline: Pipeline, folder: Path, **options: Any) -> None:
        asked.update(options, folder=folder, shard=pipeline.shard.items)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", fake)
    options = ("--engine", "ray", "--workers", "3", "--devices", "cuda:0, cuda:1", "--limit", "9")
    code, _, err = run("curate", "my.yaml", "shard.items=7", "-o", "there", *options)
    assert code == 130
    assert "interrupted" in err
    del asked["watcher"]
    assert asked == {
        "engine": "ray",
        "workers": 3,
        "devices": ["cuda:0", "cuda:1"],
        "limit": 9,
        "folder": Path("there"),
        "shard": 7,
    }


def test_devices_are_all_gpus_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.shutil, "which", lambda name: None)
    assert curate._devices("auto") == ["cpu"]
    monkeypatch.setattr(curate.shutil, "which", lambda name: name)
    for answer, expected in (("2\n", ["cuda:0", "cuda:1"]), ("0\n", ["cpu"])):
        asked = subprocess.CompletedProcess([], 0, stdout=answer)
        monkeypatch.setattr(curate.subprocess, "run", lambda *a, asked=asked, **b: asked)
        assert curate._devices("auto") == expected
    assert curate._devices("cpu") == ["cpu"]


# Packaged pipelines


def test_packaged_pipelines_are_listed_with_what_they_do(run: Run) -> None:
    code, out, _ = run("curate", "--list")
    assert code == 0
    listed = dict(line.split("\t") for line in out.splitlines())
    assert tuple(listed) == pipeline_names() == ("cascade", "clean", "segment_long")
    assert all(len(told) > 30 for told in listed.values())


@pytest.mark.parametrize("name", pipeline_names())
def test_packaged_pipelines_are_sound(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their steps are there, and paths start from the working folder."""
    monkeypatch.chdir(tmp_path)
    plan = planned(load_pipeline(name))
    assert len(plan.stages) > 2
    (reader,) = plan.pipeline.read
    assert str(tmp_path) in str(reader.options()["path"])


def test_paths_of_changes_start_from_the_working_folder(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "deep").mkdir()
    (data / "deep" / "model").mkdir()
    monkeypatch.chdir(data / "deep")
    changes = ["read.manifest.path=other.jsonl", "steps=[{transcribe: {model: model}}]"]
    pipeline = load_pipeline("../my.yaml", changes)
    assert pipeline.read[0].options()["path"] == str(data / "deep" / "other.jsonl")
    assert pipeline.steps[0].options()["model"] == str(data / "deep" / "model")  # type: ignore[union-attr]
    assert load_pipeline("../my.yaml").read[0].options()["path"] == str(data / "rows.jsonl")


# The page


def _documented() -> Iterator[tuple[str, str, str]]:
    """Heading, name and keys of each row of the tables of all steps."""
    section = PAGE.read_text(encoding="utf-8").partition("## All steps")[2].partition("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        heading = part.partition("\n")[0]
        for name, keys in re.findall(r"^\| `(\w+)` \| (.*?) ?\| ", part, re.MULTILINE):
            yield heading, name, keys


def test_the_page_names_every_step_with_its_keys_and_defaults() -> None:
    tables = {"Readers": READERS, "Writers": WRITERS}
    both = {**STEPS, **COMPOSITES}
    seen: dict[str, set[str]] = {"Readers": set(), "Writers": set(), "Steps": set()}
    for heading, name, keys in _documented():
        table = tables.get(heading, both)
        seen[heading if heading in tables else "Steps"].add(name)
        entry = found(name, table, where=PAGE.name)
        expected = "conditions" if entry.field else ", ".join(map(_key, _options(entry.kind)))
        assert keys == expected, name
    assert seen == {"Readers": set(READERS), "Writers": set(WRITERS), "Steps": set(both)}


def _options(kind: type) -> Iterator[Field[Any]]:
    return (field for field in fields(kind) if field.init)


def _key(field: Field[Any]) -> str:
    """A key as the page writes it: bold if it is needed, with its default if there is one."""
    default = field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    if default is MISSING:
        return f"**`{field.name}`**"
    return f"`{field.name}`" if default is None else f"`{field.name}: {_plain(default)}`"


def _plain(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_plain(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return json.dumps(value)


def test_pipelines_on_the_page_can_be_read(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        (tmp_path / "example.yaml").write_text(example)
        assert planned(load_pipeline(tmp_path / "example.yaml")).stages


def test_python_on_the_page_is_imported_and_planned(tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    own, whole = [tmp_path / "own.py", tmp_path / "whole.py"]
    for path, example in zip((own, whole), examples, strict=True):
        path.write_text(example)
    assert set(load_steps(own)) == {"word_count"}
    assert set(load_steps(whole)) == {"letters"}
    (module,) = (m for m in sys.modules.values() if getattr(m, "__file__", None) == str(whole))
    labels = [each.label for stage in planned(module.pipeline).stages for each in stage.steps]
    assert labels[1:3] == ["2-letters", "3-filter"] and labels[-1] == "5-vote"
