"""The report of a fine-tuning, from what was heard."""

from __future__ import annotations

import json
from pathlib import Path

from auricle.metrics import Errors, character_errors
from auricle.training.report import report, write_report


def keep(run: Path, name: str, pairs: list[tuple[str, str]]) -> None:
    (run / "heard").mkdir(exist_ok=True)
    rows = [
        {"name": f"{i}.wav", "reference": said, "hypothesis": heard}
        for i, (said, heard) in enumerate(pairs)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "heard" / f"{name}.jsonl").write_text(text)


def test_before_and_after_and_the_ten_worst(tmp_path: Path) -> None:
    pairs = [("one two three", "one")] + [("one two", "one")] * 12 + [("four", "four")]
    keep(tmp_path, "before", [(said, "x") for said, _ in pairs])
    keep(tmp_path, "best", pairs)
    made = report(tmp_path, "mine", "base.nemo")
    assert made is not None and made.before is not None
    assert made.after.words == Errors(deletions=14, words=28)
    assert made.before.words.rate == 1.0
    assert len(made.worst) == 10
    assert made.worst[0]["name"] == "0.wav"
    assert made.summary().startswith("WER 100.00 % before, 50.00 % after; CER ")
    assert made.summary().endswith("on the same 14 held-out clips")
    lines = made.lines()
    assert lines[2:5] == [
        "  0.wav (2 of 3 words wrong)",
        "    said:  one two three",
        "    heard: one",
    ]
    page = write_report(tmp_path, made).read_text()
    assert "# mine, begun from `base.nemo`" in page
    assert "| after | 50.00 % | " in page
    assert "| 0.wav | 2 of 3 | one two three | one |" in page


def test_what_got_no_better_is_said(tmp_path: Path) -> None:
    for name in ("before", "best"):
        keep(tmp_path, name, [("one two", "one")])
    made = report(tmp_path, "mine", "base.nemo")
    assert made is not None and made.summary().endswith("held-out clips: no better")


def test_clips_without_errors_are_not_bad(tmp_path: Path) -> None:
    keep(tmp_path, "best", [("a | b", "a | b"), ("c", "d | e")])
    made = report(tmp_path, "mine", None)
    assert made is not None and made.before is None
    assert [clip["name"] for clip in made.worst] == ["1.wav"]
    assert "| c | d \\| e |" in made.markdown()


def test_nothing_held_out(tmp_path: Path) -> None:
    assert report(tmp_path, "mine", None) is None


def test_characters() -> None:
    assert character_errors("ab cd", "abcd") == Errors(deletions=1, words=5)
    assert character_errors("A-b", "a b") == Errors(words=3)  # plainly normalised
