"""A run's figures as pictures: loss, WER and learning rate over the steps.

Reads `metrics.jsonl` and nothing else, so that plots can be drawn again at any time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.errors import MissingExtra
from auricle.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = list[tuple[int, float]]  # step, value

_LEAST = 5  # values that the smoothed line forgets over at least
_SMOOTHED = 50  # about how many stretches of the smoothed line are seen to differ
_WIDE = 30.0  # highest by lowest loss from which the axis is logarithmic
_BLUE, _PALE, _ORANGE, _GREY = "#2563a8", "#b9d0e8", "#d9621e", "#8a8f98"
_OTHERS = ("#4a9c6d", "#8e5ea2", "#b08d2f")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, without one that a kill has cut."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def draw(metrics: Path, folder: Path) -> list[Path]:
    """Draw `loss.png`, `wer.png` and `lr.png` into `folder`, those there are figures for.

    Raises:
        MissingExtra: matplotlib is not installed.
        OSError: The disk is full.
    """
    rows = read_metrics(metrics) if metrics.exists() else []
    drawn = {"loss.png": _loss(rows), "wer.png": _wer(rows), "lr.png": _lr(rows)}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in drawn.items():
        if figure is not None:
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=120)
            written.append(write_atomic(folder / name, png.getvalue()))
    return written


def smoothed(values: Sequence[float], span: float) -> list[float]:
    """The running mean that forgets over about `span` values; unbiased from the first one on."""
    keep = 1 - 1 / max(span, 1.0)
    total = weight = 0.0
    line = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        line.append(total / weight)
    return line


def _loss(rows: list[dict[str, Any]]) -> Figure | None:
    trained, held_out = _points(rows, "train", "loss"), _points(rows, "validation", "loss")
    if not trained and not held_out:
        return None
    figure, axes = _canvas("Loss", "Loss per utterance")
    if trained:
        steps, losses = zip(*trained, strict=True)
        span = max(_LEAST, len(losses) / _SMOOTHED)
        if len(losses) > span:
            _line(axes, trained, _PALE, "training, every logged step", width=0.8)
            line = list(zip(steps, smoothed(losses, span), strict=True))
            _line(axes, line, _BLUE, "training, smoothed", width=1.8)
        else:
            _line(axes, trained, _BLUE, "training", width=1.8)
    if held_out:
        _line(axes, held_out, _ORANGE, "validation", width=1.0, marker="o")
    values = [value for _, value in [*trained, *held_out]]
    if min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False)
    return figure


def _wer(rows: list[dict[str, Any]]) -> Figure | None:
    points = _points(rows, "validation", "wer")
    if not points:
        return None
    figure, axes = _canvas("Word error rate of held-out speech", "WER (%)")
    heads = sorted({key for row in rows for key in row if key.startswith("wer_")})
    for head, colour in zip(heads, _OTHERS, strict=False):
        if others := _percent(_points(rows, "validation", head)):
            name = head.removeprefix("wer_").upper()
            _line(axes, others, colour, name, width=1.0)
    shown = _percent(points)
    label = "default head" if heads else "validation"
    _line(axes, shown, _BLUE, label, marker="o")
    step, best = min(shown, key=lambda point: (point[1], -point[0]))
    axes.axhline(best, color=_GREY, linewidth=0.8, linestyle=":")
    axes.plot([step], [best], "o", color=_ORANGE, markersize=8, label=f"best: {best:.2f} %")
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False)
    return figure


def _lr(rows: list[dict[str, Any]]) -> Figure | None:
    points = _points(rows, "train", "lr")
    if not points:
        return None
    figure, axes = _canvas("Learning rate", "Learning rate")
    _line(axes, points, _BLUE)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    axes.set_ylim(bottom=0.0)
    return figure


def _canvas(title: str, label: str) -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingExtra("plots need an extra: pip install 'auricle[train]'") from None
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel("Step")
    axes.set_ylabel(label)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _line(
    axes: Axes,
    points: Points,
    colour: str,
    label: str = "",
    *,
    width: float = 1.6,
    marker: str = "",
) -> None:
    steps, values = zip(*points, strict=True)
    axes.plot(
        steps, values, color=colour, label=label, linewidth=width, marker=marker, markersize=4
    )


def _points(rows: list[dict[str, Any]], kind: str, key: str) -> Points:
    chosen = (row for row in rows if row.get("kind") == kind)
    return [(row["step"], row[key]) for row in chosen if isinstance(row.get(key), int | float)]


def _percent(points: Points) -> Points:
    return [(step, 100 * value) for step, value in points]
