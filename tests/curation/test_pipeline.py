from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from auricle.curation import Branches, Pipeline, When, load_pipeline, load_steps
from auricle.curation.plan import planned
from auricle.curation.readers import Manifest
from auricle.curation.step import step
from auricle.errors import ConfigError
from tests.curation.fakes import Added, Firsts, Odd, Rows, doubled, same

YAML = """
name: clean
read: {manifest: rows.jsonl}
shard: {items: 64}
steps:
  - rates
  - filter: {duration: {ge: 0.5, le: 40}}
    when: {lang: {in: [en]}}
  - branches:
      plain: [{normalise: {into: plain}}]
      other: [rates]
  - split: {by: speaker, parts: {train: 0.9, dev: 0.1}}
write: [{manifest: {path: clean.jsonl}}]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "clean.yaml"
    path.write_text(text)
    return path


def test_a_pipeline_from_yaml(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, YAML), ["shard.items=32", "timeout=5"])
    assert pipeline.name == "clean" and pipeline.shard.items == 32 and pipeline.timeout == 5.0
    (reader,) = pipeline.read
    assert isinstance(reader, Manifest) and reader.path == str(tmp_path / "rows.jsonl")
    assert isinstance(pipeline.steps[1], When) and isinstance(pipeline.steps[2], Branches)
    plan = planned(pipeline)
    labels = [each.label for stage in plan.stages for each in stage.steps]
    assert labels == ["1-rates", "2-filter", "3.plain.1-normalise", "3.other.1-rates", "4-split"]
    assert [stage.kind for stage in plan.stages] == [
        "read",
        "work",
        "work",
        "work",
        "merge",
        "whole",
    ]
    assert any("2-filter" in line for line in plan.lines())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("- rates", "- rate", "steps.0: 'rate' is no step; nearest is rates"),
        (
            "- rates",
            "- rates: {texd: x}",
            "steps.0.rates.texd is no key of the step rates",
        ),
        ("- rates", "- [rates]", "steps.0 must be a step's name"),
        ("- rates", "- {rates: {}, filter: {}}", "it names rates and filter"),
        ("manifest: rows", "manifst: rows", "'manifst' is no reader; nearest is manifest"),
        ("name: clean", "nam: clean", "nam is no key of a pipeline; nearest is name"),
        ("name: clean", "name: ../clean", "leave slashes out"),
        ("name: clean", "name: ..", "it names a folder"),
        ("name: clean", "timeout: -3", "timeout must be more than 0 seconds"),
        ("name: clean", "timeout: .nan", "timeout must be more than 0 seconds"),
        ("{items: 64}", "{items: 0}", "a shard has 1 item or more"),
        ("{ge: 0.5, le: 40}", "{gee: 0.5}", "gee"),
        ("{manifest: {path: clean.jsonl}}", "{tars: {}}", "'tars' is no writer; nearest is tar"),
        ("read: {manifest: rows.jsonl}", "steps: []", "steps a second time"),
        ("read: {manifest: rows.jsonl}\n", "", "read is missing"),
        ("      other: [rates]\n", "", "two names or more"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert before in YAML
    path = write(tmp_path, YAML.replace(before, after, 1))
    with pytest.raises(ConfigError) as raised:
        planned(load_pipeline(path))
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_steps_of_ones_own(tmp_path: Path) -> None:
    steps = tmp_path / "mine.py"
    steps.write_text(
        "from dataclasses import dataclass\n"
        "from auricle.curation.step import Step, step\n"
        "@step(outputs=['loud'])\n"
        "def louder(items):\n"
        "    for item in items:\n"
        "        yield {**item, 'loud': True}\n"
        "@dataclass(frozen=True)\n"
        "class Quieter(Step):\n"
        "    by: float = 1.0\n"
    )
    assert set(load_steps(steps)) == {"louder", "quieter"}
    text = YAML.replace("- rates\n", "- louder\n  - quieter: {by: 2}\n", 1)
    pipeline = load_pipeline(write(tmp_path, text), step_files=[steps])
    labels = [each.label for stage in planned(pipeline).stages for each in stage.steps]
    assert labels[:2] == ["1-louder", "2-quieter"]
    with pytest.raises(ConfigError, match=r"mine.py cannot be imported: SyntaxError"):
        (tmp_path / "other").mkdir()
        broken = tmp_path / "other" / "mine.py"
        broken.write_text("def")
        load_steps(broken)
    with pytest.raises(ConfigError, match="is no Python file"):
        load_steps(tmp_path / "none.py")


def test_stages_end_where_work_is_worth_keeping() -> None:
    steps = [doubled, Added("a"), Odd(3), same, Firsts(2), doubled]
    plan = planned(Pipeline("p", [Manifest("x")], steps))
    names = [[each.label for each in stage.steps] for stage in plan.stages]
    assert names == [
        [],
        ["1-doubled"],
        ["2-added"],
        ["3-odd", "4-same"],
        ["5-firsts"],
        ["6-doubled"],
    ]


def test_a_stage_is_called_by_what_it_does_not_by_where_it_stands() -> None:
    def name(*steps: object) -> str:
        return planned(Pipeline("p", [Manifest("x")], list(steps))).stages[-1].name  # type: ignore[arg-type]

    assert name(Added("a")) == name(doubled, Added("a"))
    assert name(Added("a")) != name(Added("b"))
    assert name(Added("a")) != name(When(Added("a"), {"x": 1}))


def test_branches_that_give_the_same_key_are_refused() -> None:
    ways = {"a": [Added("heard")], "b": [Added("heard")]}
    with pytest.raises(ConfigError, match="1-branches: a and b both give heard"):
        planned(Pipeline("p", [Manifest("x")], [Branches(ways)]))


def test_a_condition_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="1-doubled, when"):
        planned(Pipeline("p", [Manifest("x")], [When(doubled, {"x": {"lte": 1}})]))


def test_a_step_without_a_source_is_refused() -> None:
    space: dict[str, Any] = {}
    exec("def typed(items):\n    yield from items", space)
    with pytest.raises(ConfigError, match="1-typed: its source cannot be read"):
        planned(Pipeline("p", [Rows(1)], [step()(space["typed"])]))


NAMED = """
read: {manifest: {path: rows.jsonl}}
steps: [rates, filter: {duration: {le: 30}}, wer, filter: {wer: {le: 0.5}}]
write: [{manifest: {path: clean.jsonl}}]
"""


def test_steps_are_changed_by_their_names(tmp_path: Path) -> None:
    file = write(tmp_path, NAMED)
    changes = ["steps.wer.reference=said", "write.manifest.path=other.jsonl"]
    by_name = load_pipeline(file, changes)
    assert by_name.steps[2] == load_pipeline(file, ["steps.2={wer: {reference: said}}"]).steps[2]
    assert by_name.write[0] == load_pipeline(file, ["write.0.manifest.path=other.jsonl"]).write[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps.filter.wer.le=1", "ambiguous; write steps.1.filter or steps.3.filter"),
        ("steps.wre.reference=said", "steps has no wre; nearest is wer"),
        ("write.tar.path=a.tar", "write has no tar; known are manifest"),
    ],
)
def test_names_that_are_no_one_steps_are_refused(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_pipeline(write(tmp_path, NAMED), [change])
