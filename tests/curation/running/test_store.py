from __future__ import annotations

from pathlib import Path

import pytest

from auricle.curation.running.counts import StepCounts, summed
from auricle.curation.running.ledger import Ledger
from auricle.curation.running.store import (
    BatchResult,
    Result,
    Store,
    append_line,
    dropped_line,
    whole_lines,
)

ROW = '{"item_id":"a"}'
DROP = dropped_line({"item_id": "b"}, how="filtered", step=1, reason="no", detail="x")
COUNTS = StepCounts(into=2, out=1, filtered={"no": 1}, milliseconds=1500)


def test_a_shard_counts_once_its_marker_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.committed("s", "k") is None
    results = [Result([ROW], []), Result([], [DROP])]
    done = store.commit("s", "k", results, milliseconds=10, counts=[COUNTS])
    assert store.committed("s", "k") == done and done.rows == 1 and done.counts == (COUNTS,)
    assert list(store.lines("s", "k")) == [ROW]
    assert [row["item"] for row in store.dropped("s", "k")] == [{"item_id": "b"}]
    (tmp_path / "stages" / "s" / "k.done").unlink()
    assert store.committed("s", "k") is None


@pytest.mark.parametrize("harm", ["cut rows", "no rows", "no dropped", "cut marker", "odd marker"])
def test_a_damaged_shard_is_done_again(tmp_path: Path, harm: str) -> None:
    store = Store(tmp_path)
    results = [Result([ROW], []), Result([], [DROP])]
    store.commit("s", "k", results, milliseconds=10, counts=[COUNTS])
    folder = tmp_path / "stages" / "s"
    if harm == "cut rows":
        (folder / "k.jsonl").write_text(ROW[:5])
    elif harm == "no rows":
        (folder / "k.jsonl").unlink()
    elif harm == "no dropped":
        (folder / "k.dropped.jsonl").unlink()
    else:
        (folder / "k.done").write_text('{"rows": 1' if harm == "cut marker" else "[]")
    assert store.committed("s", "k") is None


def test_the_digest_is_of_the_rows_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = store.commit("s", "k", [Result([ROW], [])], milliseconds=0, counts=[])
    other = store.commit("t", "l", [Result([ROW], [DROP])], milliseconds=0, counts=[])
    assert one.digest == other.digest and not one.dropped and other.dropped


@pytest.mark.parametrize("cut", [2, 7, 20])
def test_a_journal_forgets_a_line_that_was_cut_short(tmp_path: Path, cut: int) -> None:
    journal = Store(tmp_path).journal("s", "k")
    first = BatchResult([Result([ROW], []), Result([], [DROP])], 1500, [COUNTS])
    journal.add(0, first)
    journal.add(1, first)
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    again = Store(tmp_path).journal("s", "k")
    assert again.read() == {0: first}
    again.add(2, first)
    again.add(3, first)
    assert set(Store(tmp_path).journal("s", "k").read()) == {0, 2, 3}


def test_a_ledger_remembers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add("k", 0, {"what": "doubt", "reason": "signal 9"}, ["a", "b"].__getitem__)
    ledger.add(
        "k",
        0,
        {"what": "death", "item": 1, "reason": "signal 9", "step": 0},
        ["a", "b"].__getitem__,
    )
    with ledger.path.open("a") as file:
        file.write('{"shard":"k"')
    again = Ledger(tmp_path)
    assert [note["what"] for note in again.known("k", 0)] == ["doubt", "death"]
    assert again.known("k", 1) == ()
    again.add("k", 1, {"what": "round"}, ["c"])
    assert Ledger(tmp_path).known("k", 1) == ({"what": "round"},)
    assert [line.get("item_id") for line in whole_lines(ledger.path)] == [None, "b", None]


def test_a_full_disk_is_told_with_the_file() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        append_line(Path("/dev/full"), {"a": 1})


def test_counts_add_up() -> None:
    (total,) = summed([[COUNTS], [COUNTS]], 1)
    assert total.into == 4 and total.filtered == {"no": 2} and total.balanced()
    assert total.to_dict()["seconds_in"] == 3.0
    assert not StepCounts(into=1).balanced()
