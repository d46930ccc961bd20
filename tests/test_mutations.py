"""Damaged inputs end in a result or in an AuricleError of one short line, whatever is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="limits the memory of processes as POSIX has it")

from tests.mutations import subjects
from tests.mutations.running import one, run

COUNT = 200


@pytest.mark.slow
def test_damaged_inputs_end_in_results_or_errors_of_ours() -> None:
    """Fails with what is wrong, by a number for `python -m tests.mutations --case`."""
    outcomes = list(run(COUNT, seed=0))
    assert len(outcomes) == COUNT
    wrong = [f"{o.kind} {o.number} [{o.what}]: {o.fault}; {o.ended}" for o in outcomes if o.fault]
    assert wrong == []
    assert {o.kind for o in outcomes} == set(subjects.SUBJECTS)
    refused = sum(o.ended != "result" for o in outcomes)
    assert COUNT // 4 < refused < COUNT  # damage that nobody notices would prove nothing


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (KeyError("x"), "a foreign KeyError"),
        (MemoryError(), "a foreign MemoryError"),
        (ValueError("two\nlines"), "a foreign ValueError"),
    ],
)
def test_foreign_errors_are_faults(
    error: Exception, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(rng: random.Random, folder: Path) -> tuple[str, subjects.Use]:
        def use() -> object:
            raise error

        return "on purpose", use

    monkeypatch.setattr(subjects, "SUBJECTS", {"broken": (broken, 1)})
    assert one(0, "broken", 0).fault.startswith(fault)


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        what, _ = subjects.nemo(random.Random(7), tmp_path / name)
        (tmp_path / f"{name}.txt").write_text(what)
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()
    files = [[f.read_bytes() for f in sorted((tmp_path / n).rglob("*"))] for n in "ab"]
    assert files[0] == files[1]
