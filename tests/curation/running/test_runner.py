"""Whole jobs by an engine without processes: what they leave, and that accidents change nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auricle import manifests
from auricle.curation import Branches, Pipeline, Shard, When, check, readers, run
from auricle.curation.engines import Job
from auricle.curation.plan import planned
from auricle.curation.progress import Counts, Silent
from auricle.curation.running import runner
from auricle.curation.running.folder import CURATION, held
from auricle.curation.running.results import Summary
from auricle.curation.running.runner import crew_of
from auricle.curation.step import Needs
from auricle.curation.writers import Manifest
from auricle.errors import ConfigError, WorkerLost
from tests.curation.fakes import (
    Added,
    Calls,
    Deaf,
    Firsts,
    Forgetful,
    Full,
    Odd,
    Opens,
    Parts,
    Rows,
    Trouble,
    doubled,
    numbered,
    numbered_otherwise,
    same,
)
from tests.curation.inline import DriverKilled, InlineEngine
from tests.curation.killing import results

Engine = Callable[..., None]


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Have jobs done without processes, with such accidents."""

    def use(**accidents: Any) -> None:
        def made(name: str, job: Job, slots: Mapping[str, int]) -> InlineEngine:
            return InlineEngine(job, slots, **accidents)

        monkeypatch.setattr(runner, "engine_of", made)

    monkeypatch.setattr(os, "fsync", lambda file: None)
    use()
    return use


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def full_pipeline() -> Pipeline:
    return Pipeline(
        "all kinds",
        [Rows(100, broken=40)],
        [
            doubled,
            Odd(7),
            Parts(),
            Branches(
                {"a": [Added("a", batch_shows=True)], "b": [Added("b", seconds=9.0), Odd(11)]}
            ),
            When(Added("some", batch_shows=True), {"number": {"ge": 50}}),
            Trouble(raises=(31,), loses=(32,)),
            Firsts(60),
        ],
        write=[Manifest("clean.jsonl")],
        shard=Shard(30),
    )


def law(summary: Summary) -> bool:
    went = summary.kept + summary.filtered + summary.quarantined + summary.cut
    return summary.read + summary.made == went


def test_every_row_is_kept_or_told_why_not(tmp_path: Path, inline: Engine) -> None:
    summary = run(full_pipeline(), tmp_path / "out")
    assert law(summary) and summary.read == 100
    kept = rows(tmp_path / "out" / "manifest.jsonl")
    filtered = rows(tmp_path / "out" / "filtered.jsonl")
    quarantined = rows(tmp_path / "out" / "quarantined.jsonl")
    assert (len(kept), len(filtered), len(quarantined)) == (
        summary.kept,
        summary.filtered,
        summary.quarantined,
    )
    ids = [row["item_id"] for row in (*kept, *filtered, *quarantined)]
    assert len(set(ids)) == len(ids)
    assert {row["filtered"]["step"] for row in filtered} == {"2-odd", "4.b.2-odd", "7-firsts"}
    reasons = {(row["quarantined"]["step"], row["quarantined"]["reason"]) for row in quarantined}
    assert ("read", "broken row") in reasons and ("6-trouble", "ValueError") in reasons
    assert all("a" in row and "b" in row and "double" in row for row in kept)
    assert [row["number"] for row in kept] == sorted(row["number"] for row in kept)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == json.loads(
        json.dumps(summary.to_dict())
    )
    assert rows(tmp_path / "out" / "clean.jsonl") == kept


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**6),
    kills=st.integers(0, 3),
    lives=st.lists(st.integers(1, 60), max_size=4),
)
def test_accidents_change_no_byte(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    kills: int,
    lives: list[int],
) -> None:
    """Whatever the order of tasks, whichever workers and drivers end, poison and hangs among it."""
    folder = tmp_path_factory.mktemp("jobs")
    monkeypatch.setattr(os, "fsync", lambda file: None)

    def job(name: str, **accidents: Any) -> Path:
        def made(_: str, job: Job, slots: Mapping[str, int]) -> InlineEngine:
            return InlineEngine(job, slots, poison=(22, 61), hanging=(44,), **accidents)

        monkeypatch.setattr(runner, "engine_of", made)
        run(full_pipeline(), folder / name)
        return folder / name

    quiet = job("quiet")
    for n, life in enumerate(lives):
        with pytest.raises(DriverKilled):
            job("disturbed", seed=seed + n, kills=kills, driver_lives=life)
    disturbed = job("disturbed", seed=seed, kills=kills)
    assert results(disturbed) == results(quiet)


def test_a_second_run_does_nothing_again(tmp_path: Path, inline: Engine) -> None:
    calls = tmp_path / "calls"
    pipeline = Pipeline("p", [Rows(30)], [Calls(str(calls))])
    before = run(pipeline, tmp_path / "out")
    assert run(pipeline, tmp_path / "out") == before
    assert sorted(map(int, calls.read_text().split())) == list(range(30))


def test_an_edit_redoes_only_what_it_touches(tmp_path: Path, inline: Engine) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    steps = [Calls(str(first)), Odd(7), Calls(str(second))]
    pipeline = Pipeline("p", [Rows(60)], steps, shard=Shard(20))
    run(pipeline, tmp_path / "out")
    run(replace(pipeline, steps=[Calls(str(first)), Odd(5), Calls(str(second))]), tmp_path / "out")
    assert len(first.read_text().split()) == 60
    # A step put in front that changes nothing is no reason to do the others again.
    count = len(second.read_text().split())
    run(replace(pipeline, steps=[same, *steps]), tmp_path / "out")
    assert len(first.read_text().split()) == 60 and len(second.read_text().split()) == count
    run(replace(pipeline, steps=[Calls(str(first), tag="new"), *steps[1:]]), tmp_path / "out")
    assert len(first.read_text().split()) == 120


def test_a_changed_source_redoes_only_its_shards(tmp_path: Path, inline: Engine) -> None:
    calls = tmp_path / "calls"
    pipeline = Pipeline("p", [Rows(100)], [Calls(str(calls))], shard=Shard(10))
    run(pipeline, tmp_path / "out", limit=50)
    again = run(pipeline, tmp_path / "out")
    assert again.read == 100 and again.kept == 100
    assert 100 <= len(calls.read_text().split()) <= 110


def test_a_recording_replaced_under_its_name_is_worked_on_again(
    tmp_path: Path, inline: Engine
) -> None:
    """Also behind a step whose rows say nothing of the sound."""
    for number in range(40):
        (tmp_path / f"{number}.wav").write_bytes(b"one")
    manifest = tmp_path / "rows.jsonl"
    manifests.write(manifest, ({"audio_filepath": f"{n}.wav", "number": n} for n in range(40)))
    calls = tmp_path / "calls"
    steps = [Odd(7), Calls(str(calls))]
    pipeline = Pipeline("p", [readers.Manifest(str(manifest))], steps, shard=Shard(10))
    run(pipeline, tmp_path / "out")
    before = len(calls.read_text().split())
    run(pipeline, tmp_path / "out")
    assert len(calls.read_text().split()) == before
    (tmp_path / "8.wav").write_bytes(b"another")
    run(pipeline, tmp_path / "out")
    assert 0 < len(calls.read_text().split()) - before <= 10


def test_a_limit_takes_the_first_rows(tmp_path: Path, inline: Engine) -> None:
    assert run(Pipeline("p", [Rows(9)], [same]), tmp_path / "out", limit=4).read == 4
    assert [row["number"] for row in rows(tmp_path / "out" / "manifest.jsonl")] == [0, 1, 2, 3]


def test_no_rows_are_no_error(tmp_path: Path, inline: Engine) -> None:
    steps = [Added(), Firsts(3), Branches({"a": [], "b": [same]})]
    summary = run(Pipeline("p", [Rows(0)], steps), tmp_path / "out")
    assert summary.read == 0 and (tmp_path / "out" / "manifest.jsonl").read_bytes() == b""


def test_equal_branches_share_their_work(tmp_path: Path, inline: Engine) -> None:
    calls = tmp_path / "calls"
    ways = {"a": [Calls(str(calls))], "b": [Calls(str(calls))]}
    assert run(Pipeline("p", [Rows(20)], [Branches(ways)]), tmp_path / "out").kept == 20
    assert len(calls.read_text().split()) == 20


def test_branches_that_disagree_and_cuts_in_them_are_quarantined(
    tmp_path: Path, inline: Engine
) -> None:
    ways = {"a": [Parts(3)], "b": [same]}
    summary = run(Pipeline("p", [Rows(10)], [Branches(ways)]), tmp_path / "out")
    assert law(summary) and (summary.kept, summary.quarantined) == (9, 1)
    (row,) = rows(tmp_path / "out" / "quarantined.jsonl")
    assert row["quarantined"]["reason"] == "cut in a branch" and row["number"] == 3
    assert row["quarantined"]["step"] == "1.a.1-parts"


def test_values_that_branches_do_not_agree_on_quarantine_an_item(
    tmp_path: Path, inline: Engine
) -> None:
    ways = {"a": [numbered], "b": [numbered_otherwise]}
    summary = run(Pipeline("p", [Rows(10)], [Branches(ways)]), tmp_path / "out")
    assert law(summary) and (summary.kept, summary.quarantined) == (5, 5)
    quarantined = rows(tmp_path / "out" / "quarantined.jsonl")
    assert [row["number"] for row in quarantined] == [5, 6, 7, 8, 9]
    assert quarantined[0]["quarantined"] == {
        "step": "1-branches",
        "reason": "branches disagree",
        "detail": "mark",
    }
    kept = rows(tmp_path / "out" / "manifest.jsonl")
    assert all("duration" not in row and row["mark"] == 1 for row in kept)


def test_workers_that_die_as_they_open_a_step_end_the_job(tmp_path: Path) -> None:
    """No item is to blame for it. With real processes."""
    marker = tmp_path / "marker"
    marker.touch()
    pipeline = Pipeline("p", [Rows(5)], [Opens(marker=str(marker))])
    with pytest.raises(WorkerLost, match=r"6 workers in a row ended at check of opens-.*signal 9"):
        run(pipeline, tmp_path / "out", workers=1)
    marker.unlink()
    assert run(pipeline, tmp_path / "out", workers=1).kept == 5


def test_a_full_disk_stops_the_job_and_costs_no_item(tmp_path: Path, inline: Engine) -> None:
    marker = tmp_path / "full"
    marker.touch()
    pipeline = Pipeline("p", [Rows(20)], [doubled, Full(str(marker))])
    with pytest.raises(OSError, match="No space left"):
        run(pipeline, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()
    marker.unlink()
    assert run(pipeline, tmp_path / "out").kept == 20


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, inline: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(full_pipeline(), tmp_path / "quiet")
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 86400.0 * next(jumps))
    run(full_pipeline(), tmp_path / "out")
    assert results(tmp_path / "out") == results(tmp_path / "quiet")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            Opens(error="the model is not there"),
            "1-opens cannot be opened on cpu: the model is not",
        ),
        (Odd(0), "1-odd: example 1 raises ZeroDivisionError"),
        (Odd(1), None),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_item(
    tmp_path: Path, inline: Engine, step: Any, message: str | None
) -> None:
    calls = tmp_path / "calls"
    pipeline = Pipeline("p", [Rows(5)], [step, Calls(str(calls))])
    if message is None:
        run(pipeline, tmp_path / "out")
        return
    for attempt in (lambda: run(pipeline, tmp_path / "out"), lambda: check(pipeline)):
        with pytest.raises(ConfigError, match=message):
            attempt()
    assert not calls.exists()


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (Pipeline("p", [Forgetful(5)], [doubled]), "read forgetful: its example gives 1 outcomes"),
        (Pipeline("p", [Rows(5)], [doubled], [Deaf()]), "write deaf: its example raises OSError"),
    ],
)
def test_ends_that_cannot_work_are_refused_before_the_first_item(
    tmp_path: Path, inline: Engine, pipeline: Pipeline, message: str
) -> None:
    for attempt in (lambda: run(pipeline, tmp_path / "out"), lambda: check(pipeline)):
        with pytest.raises(ConfigError, match=message):
            attempt()
    assert not (tmp_path / "out" / "stages").exists()


def test_a_check_writes_nothing(tmp_path: Path, inline: Engine) -> None:
    calls = tmp_path / "calls"
    plan = check(Pipeline("p", [Rows(5)], [Odd(3), Calls(str(calls))]))
    lines = list(plan.lines())
    assert "  1-odd n=3" in lines and not calls.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_second_driver_is_refused(tmp_path: Path, inline: Engine) -> None:
    with held(tmp_path / "out"), pytest.raises(ConfigError, match="another process is at work in"):
        run(Pipeline("p", [Rows(5)], [same]), tmp_path / "out")


def test_a_folder_of_something_else_is_refused(tmp_path: Path, inline: Engine) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="holds something, but no job"):
        run(Pipeline("p", [Rows(5)], [same]), tmp_path)


def test_threads_and_budgets_are_chosen_once(tmp_path: Path, inline: Engine) -> None:
    pipeline = Pipeline("p", [Rows(5)], [Added()])
    run(pipeline, tmp_path / "out", workers=1)
    path = tmp_path / "out" / CURATION
    said = json.loads(path.read_text())
    (name,) = said["budgets"]
    assert said["budgets"][name] == {"items": 4, "seconds": None} and name.endswith(" on cpu")
    said["threads"], said["budgets"][name]["items"] = 7, 2
    path.write_text(json.dumps(said))
    run(pipeline, tmp_path / "out", workers=1)
    after = json.loads(path.read_text())
    assert after["threads"] == 7 and after["budgets"][name]["items"] == 2


def test_the_watcher_hears_of_everything(tmp_path: Path, inline: Engine) -> None:
    class Ear(Silent):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def batch(self, record: Mapping[str, Any], counts: Counts) -> None:
            self.heard.append((record, counts))

        def said(self, line: str) -> None:
            self.heard.append(line)

    inline(poison=(3,))
    ear = Ear()
    run(Pipeline("p", [Rows(20)], [Odd(7), Added()]), tmp_path / "out", watcher=ear)
    lines = [heard for heard in ear.heard if isinstance(heard, str)]
    assert len(lines) == 3 and "signal 9" in lines[0] and "alone" in lines[2]
    record, counts = next(heard for heard in reversed(ear.heard) if not isinstance(heard, str))
    assert record["steps"]["2-added"]["items"] > 0
    assert counts.filtered == {"divisible": 3} and counts.quarantined["worker_died"] == 1
    assert counts.read == 20
    metrics = rows(tmp_path / "out" / "metrics.jsonl")
    assert {"start", "death", "end"} <= {line.get("event") for line in metrics}


class Big(Added):
    @property
    def needs(self) -> Needs:
        return Needs(memory_gb=10.0, accelerator=True)


def test_who_works() -> None:
    plan = planned(Pipeline("p", [Rows(5)], [same]))
    crew = crew_of(plan, ("cuda:0", "cuda:1"), 3, None)
    assert crew.slots == {"cpu": 3, "cuda:0": 1, "cuda:1": 1} and crew.threads >= 1
    assert crew_of(plan, ("cpu",), 2, 5).threads == 5
    usual = crew_of(plan, ("cpu",), None, None)
    assert usual.threads == 1 and usual.slots["cpu"] >= 1
    assert all(crew_of(plan, ("cpu",), count, None).threads == 1 for count in (1, 2, 300))
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        crew_of(plan, ("gpu",), None, None)
    with pytest.raises(ConfigError, match="workers must be 1 or more"):
        crew_of(plan, ("cpu",), 0, None)
    big = planned(Pipeline("p", [Rows(5)], [Big("a"), Big("b")]))
    with pytest.raises(ConfigError, match="is kept for batches"):
        crew_of(big, ("cpu",), 10_000, None)
    assert crew_of(big, ("cuda:0",), 10_000, None).slots["cpu"] == 10_000


def test_a_doubled_row_is_an_item_of_its_own(tmp_path: Path, inline: Engine) -> None:
    pipeline = Pipeline("p", [Rows(5), Rows(5)], [same])
    summary = run(pipeline, tmp_path / "out")
    ids = [row["item_id"] for row in rows(tmp_path / "out" / "manifest.jsonl")]
    assert summary.kept == 10 and len(set(ids)) == 10
