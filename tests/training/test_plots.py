"""The pictures of a run: which there are, and what they are drawn from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from auricle.training import plots


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 5000


def test_all_three(tmp_path: Path) -> None:
    rows = [
        {"step": s, "kind": "train", "loss": 90 * math.exp(-s / 300) + 1, "lr": 1e-3 / (1 + s)}
        for s in range(10, 1000, 10)
    ]
    rows += [
        {"step": s, "kind": "validation", "loss": 3.0, "wer": 50 / s, "wer_ctc": 60 / s}
        for s in range(100, 1000, 100)
    ]
    metrics = write(tmp_path / "metrics.jsonl", *rows)
    drawn = plots.draw(metrics, tmp_path / "plots")
    assert [path.name for path in drawn] == ["loss.png", "wer.png", "lr.png"]
    assert all(map(is_png, drawn))
    before = drawn[0].read_bytes()
    plots.draw(metrics, tmp_path / "plots")
    assert drawn[0].read_bytes() == before  # the same figures, the same picture
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == [
        "loss.png",
        "lr.png",
        "wer.png",
    ]


def test_only_what_there_are_figures_for(tmp_path: Path) -> None:
    metrics = write(
        tmp_path / "metrics.jsonl",
        {"step": 1, "kind": "train", "loss": None, "lr": 0.1},
        {"step": 2, "kind": "validation", "loss": None, "wer": None},
    )
    assert [p.name for p in plots.draw(metrics, tmp_path / "plots")] == ["lr.png"]
    assert plots.draw(tmp_path / "none.jsonl", tmp_path / "empty") == []


@pytest.mark.parametrize("count", [3, 20, 400])
def test_the_smoothed_line_is_another_one(count: int) -> None:
    rows = [{"step": s, "kind": "train", "loss": 1.0 + s % 2} for s in range(1, count + 1)]
    figure = plots._loss(rows)
    assert figure is not None
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert drawn[0] == [row["loss"] for row in rows]
    if count == 3:  # nothing to smooth
        assert len(drawn) == 1
    else:
        assert len(drawn) == 2 and np.ptp(drawn[1][-4:]) < 0.5 * np.ptp(drawn[0])


def test_a_cut_line_is_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", {"step": 1, "kind": "train"}, {"note": "no step"})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "ki\xff')
    assert plots.read_metrics(path) == [{"step": 1, "kind": "train"}]


def test_smoothing_is_unbiased_and_forgets() -> None:
    assert plots.smoothed([4.0, 4.0, 4.0], 10) == pytest.approx([4.0, 4.0, 4.0])
    assert plots.smoothed([1.0, 5.0, 2.0], 1) == [1.0, 5.0, 2.0]
    assert plots.smoothed([0.0, 2.0], 2) == pytest.approx([0.0, 4 / 3])
    assert plots.smoothed([9.0] * 5 + [0.0] * 100, 10)[-1] < 0.01
