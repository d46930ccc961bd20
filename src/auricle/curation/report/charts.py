"""Charts as inline SVG, and the escaping of texts. Colours are classes that the page's style gives.

Rows are untrusted: whatever comes from one goes through `text`.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from auricle.curation.wording import percent, span

_WIDTH, _HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 10, 26


def text(value: object, limit: int = 400) -> str:
    """Anything as safe HTML, in tags and in attributes: escaped and cut at a length.

    Controls, lone surrogates and what turns the direction of writing become spaces, so that a row
    can neither break the file nor rearrange the page.
    """
    shown = str(value)
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return html.escape("".join(" " if _unseen(c) else c for c in shown))


def _unseen(character: str) -> bool:
    """Joiners stay: some scripts are written with them."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\u200c\u200d"


@dataclass(frozen=True)
class Bar:
    """Of a histogram: what is counted, and how many there are of each kind, by CSS class."""

    label: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Of all kinds."""
        return sum(self.parts.values())


def histogram(bars: Sequence[Bar], ticks: Mapping[int, str], what: str) -> str:
    """Bars beside each other; `ticks` label the left edges of some, and the end."""
    top = nice(max((bar.total for bar in bars), default=1))
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(bars), 1)
    height = _HEIGHT - _TOP - _BOTTOM
    drawn = [_grid(top)]
    for i, bar in enumerate(bars):
        bottom = float(_HEIGHT - _BOTTOM)
        counts = ", ".join(f"{n:,} {name.split()[-1]}" for name, n in bar.parts.items() if n)
        drawn.append(f"<g><title>{text(bar.label)}: {text(counts or 0)}</title>")
        for kind, number in bar.parts.items():
            if number:
                tall = max(number / top * height, 0.8)
                bottom -= tall
                drawn.append(
                    f'<rect class="{kind}" x="{_LEFT + i * width + 0.8:.1f}" y="{bottom:.1f}" '
                    f'width="{max(width - 1.6, 0.8):.1f}" height="{tall:.1f}"/>'
                )
        drawn.append("</g>")
    for i, label in ticks.items():
        anchor = "end" if i == len(bars) else "middle"
        drawn.append(_label(_LEFT + i * width, _HEIGHT - 9, label, anchor))
    return _svg(drawn, what)


def lines(hours: Sequence[float], series: Mapping[str, Sequence[float | None]], what: str) -> str:
    """Values over time, a line each; a gap where there is no value."""
    values = [v for line in series.values() for v in line if v is not None]
    top = nice(max(values, default=1.0))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    last = hours[-1] + hours[0] if hours else 1.0  # points stand in the middles of their spans
    drawn = [_grid(top)]
    for number, (name, line) in enumerate(series.items()):
        points = [
            (
                _LEFT + h / last * width,
                _HEIGHT - _BOTTOM - v / top * height if v is not None else None,
            )
            for h, v in zip(hours, line, strict=True)
        ]
        for there, run in groupby(points, key=lambda point: point[1] is not None):
            if there:
                drawn.append(_path(list(run), f"line l{number % 6}", name))
    for share in (0.0, 0.5, 1.0):
        anchor = ("start", "middle", "end")[int(2 * share)]
        drawn.append(_label(_LEFT + share * width, _HEIGHT - 9, span(share * last * 3600), anchor))
    return _svg(drawn, what)


def _path(points: Sequence[tuple[float, float | None]], kind: str, name: str) -> str:
    if len(points) == 1:  # a line of no length would not be seen
        points = [points[0], (points[0][0] + 2, points[0][1])]
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{steps}"><title>{text(name)}</title></polyline>'


def _grid(top: float) -> str:
    height = _HEIGHT - _TOP - _BOTTOM
    found = []
    for share in (0.0, 0.5, 1.0):
        y = _HEIGHT - _BOTTOM - share * height
        found.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        found.append(_label(_LEFT - 6, y + 3.5, short(share * top), "end"))
    return "".join(found)


def _label(x: float, y: float, label: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(label)}</text>'


def _svg(drawn: Sequence[str], what: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(what)}">'
        f"{''.join(drawn)}</svg>"
    )


@dataclass(frozen=True)
class Fall:
    """What a step of the flow let go: how many items by what reason, of one CSS class."""

    kind: str
    reason: str
    items: int


@dataclass(frozen=True)
class Flow:
    """A step: how many items go in and come out, and what it let go."""

    name: str
    before: int
    after: int
    falls: Sequence[Fall]
    note: str = ""


_BAND_LEFT, _BAND, _FALLS, _FLOW_WIDTH = 170, 280, 490, 960


def flow(steps: Sequence[Flow], first: str, last: str) -> str:
    """A band that narrows from step to step, with what falls out of it at its right."""
    most = max([1, *(s.before for s in steps), *(s.after for s in steps)])
    drawn: list[str] = []
    y = 44.0
    heading = f"{first} {steps[0].before:,}" if steps else first
    drawn.append(_flow_label(_BAND_LEFT, 22, heading, "strong"))
    for step in steps:
        height = max(46, 20 * max(len(step.falls), 1) + 22)
        drawn.append(_flow_step(step, y, height, _BAND / most))
        y += height
    drawn.append(
        _flow_label(_BAND_LEFT, y + 22, f"{last} {steps[-1].after:,}" if steps else last, "strong")
    )
    return (
        f'<svg class="flow" viewBox="0 0 {_FLOW_WIDTH} {y + 36:.0f}" role="img" '
        f'aria-label="from read to kept">{"".join(drawn)}</svg>'
    )


def _flow_step(step: Flow, y: float, height: float, scale: float) -> str:
    """One step: the band, and for each reason a bar on the band's own scale beside it."""
    left, bottom, turn = _BAND_LEFT, y + height, y + 14
    before, after = (left + max(n * scale, 1.5 * (n > 0)) for n in (step.before, step.after))
    band = (
        f"M{left} {y:.1f}H{before:.1f}V{turn:.1f}"
        f"C{before:.1f} {turn + 12:.1f} {after:.1f} {turn + 4:.1f} {after:.1f} {turn + 18:.1f}"
        f"V{bottom:.1f}H{left}Z"
    )
    parts = [
        f"<g><title>{text(step.name)}: {step.before:,} in, {step.after:,} out</title>"
        f'<path class="kept" d="{band}"/></g>',
        _flow_label(left - 12, turn + 9, step.name, "name", "end"),
    ]
    if step.note:
        parts.append(_flow_label(left - 12, turn + 25, step.note, "note", "end"))
    for i, fall in enumerate(step.falls):
        top, width = turn + 20 * i, max(fall.items * scale, 1.5)
        start = min(before, after) + 2
        parts.append(
            f'<path class="thread" d="M{start:.1f} {turn + 6:.1f}'
            f'C{_FALLS - 40} {turn + 6:.1f} {_FALLS - 50} {top + 5:.1f} {_FALLS} {top + 5:.1f}"/>'
            f'<rect class="{fall.kind}" x="{_FALLS}" y="{top:.1f}" '
            f'width="{width:.1f}" height="11" rx="2"/>'
        )
        share = f" ({percent(fall.items / step.before)})" if step.before else ""
        label = f"{fall.items:,}{share}  {fall.reason}"
        parts.append(_flow_label(_FALLS + width + 7, top + 10, label, ""))
    return "".join(parts)


def _flow_label(x: float, y: float, label: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{text(label, 64)}</text>"
    )


def nice(value: float) -> float:
    """The next number above that is 1, 2, 3, 5 or 8 times a power of ten: the top of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((m * power for m in (1, 2, 3, 4, 5, 6, 8) if m * power >= value), 10 * power)


def short(value: float) -> str:
    """A number for an axis: 1.5k, 20M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
