"""Of a report: how well texts and sound agree, how long items are, and the worst of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from auricle.curation.report.charts import Bar, histogram, text
from auricle.curation.report.figures import CLASSES, Figures, Judged, Judging, Spread, named, number
from auricle.curation.report.markup import legend, numbers, table
from auricle.curation.wording import percent, span

_DIFFERENT = 400  # words of a text between which differences are marked
# Bins of a histogram of durations are so many seconds wide, by what the longest asks for.
_WIDTHS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_BINS = 26


def word_errors(figures: Figures) -> str:
    """Classes of quality, the histogram of WERs, and what is said of all of them."""
    spread = Spread.of(figures.wer.all)
    assert spread is not None
    width = 0.05
    edges = [width * i for i in range(1, 21)]
    bars = []
    for i, (kept, filtered) in enumerate(_counted(figures.wer.kept, figures.wer.filtered, edges)):
        low = f"{100 * width * i:.0f}"
        label = f"{low} to {100 * width * (i + 1):.0f} %" if i < len(edges) else "over 100 %"
        kind = next(name for name, limit in CLASSES if width * (i + 1) <= limit + 1e-9)
        bars.append(Bar(f"WER {label}", {f"{kind} kept ": kept, f"{kind} faint": filtered}))
    ticks = {i: f"{5 * i} %" for i in (0, 2, 5, 10, 15)} | {len(bars): "over 100 %"}
    return _classes(figures) + histogram(bars, ticks, "histogram of WER") + _spread(figures, spread)


def _classes(figures: Figures) -> str:
    """The four classes of quality as a stacked bar and a table."""
    total = max(len(figures.wer), 1)
    parts, rows, low = [], [], 0.0
    for name, limit in CLASSES:
        kept, filtered = figures.classes[name]
        share = (kept + filtered) / total
        parts.append(f'<i class="{name}" style="width:{100 * share:.2f}%" title="{name}"></i>')
        bounds = f"over {100 * low:.0f} %" if math.isinf(limit) else f"to {100 * limit:.0f} %"
        rows.append(
            f'<td><i class="mark {name}"></i> {name}</td><td class="soft">{bounds}</td>'
            + numbers(f"{kept + filtered:,}", percent(share), f"{kept:,}", f"{filtered:,}")
        )
        low = limit
    head = ("quality", "WER", "items", "share", "kept", "filtered")
    return f'<div class="stack">{"".join(parts)}</div>{table(head, rows, names=2)}'


def _spread(figures: Figures, spread: Spread) -> str:
    unjudged = f"; {figures.unjudged:,} have no reference" if figures.unjudged else ""
    return (
        f'<p class="soft">Mean {percent(spread.mean)}, median {percent(spread.median)}, standard '
        f"deviation {percent(spread.deviation)}; nine of ten are at or below "
        f"{percent(spread.ninety)}. {spread.count:,} items judged{unjudged}. Pale: filtered.</p>"
    )


def durations(figures: Figures) -> str:
    """The histogram of durations."""
    values = figures.durations.all
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    longest = float(min(values.max(), middle + 5 * (high - low)) if high > low else values.max())
    step = next((s for s in _WIDTHS if longest <= s * _BINS), math.ceil(longest / _BINS))
    size = max(math.ceil(longest / step), 1)
    edges = [step * i for i in range(1, size + 1)]
    bars = []
    counts = _counted(figures.durations.kept, figures.durations.filtered, edges)
    if not any(counts[-1]):
        counts.pop()
    for i, (kept, filtered) in enumerate(counts):
        label = f"{step * i:g} to {step * (i + 1):g} s" if i < size else f"over {step * i:g} s"
        bars.append(Bar(label, {"kept": kept, "filtered": filtered}))
    every = max(len(bars) // 6, 1)
    ticks = {i: span(step * i) if i else "0" for i in range(0, len(bars), every)}
    if len(bars) > size:  # the last stands for all that is longer
        ticks = {i: tick for i, tick in ticks.items() if i < 0.8 * len(bars)}
        ticks[len(bars)] = f"over {span(step * size)}"
    spread = Spread.of(values)
    assert spread is not None
    return (
        histogram(bars, ticks, "histogram of durations")
        + legend([("kept", "kept"), ("filtered", "filtered")])
        + f'<p class="soft">Median {span(spread.median)}, mean {span(spread.mean)}, longest '
        f"{span(float(values.max()))}; {span(float(values.sum()))} in all.</p>"
    )


def _counted(
    kept: Sequence[float], filtered: Sequence[float], edges: Sequence[float]
) -> list[tuple[int, int]]:
    """How many of each kind lie up to each edge, and how many beyond the last."""
    columns = [
        np.bincount(
            np.searchsorted(np.asarray(edges) + 1e-9, np.asarray(values)), minlength=len(edges) + 1
        )
        for values in (kept, filtered)
    ]
    return [(int(a), int(b)) for a, b in zip(*columns, strict=True)]


def worst(figures: Figures, clips: Sequence[str | None]) -> str:
    """The items with the highest WERs, with what was said and heard, and players."""
    found = [
        '<p class="soft">The highest WERs. Marked: <del>only in the reference</del> '
        "<ins>only in what was heard</ins></p>"
    ]
    for fate in ("kept", "filtered"):
        shown = [
            _clip(judged, clip, figures.judging)
            for judged, clip in zip(figures.worst, clips, strict=True)
            if judged.fate == fate
        ]
        if shown:
            found.append(f'<h3>What was {fate}</h3><div class="worst">{"".join(shown)}</div>')
    return "".join(found)


def _clip(judged: Judged, clip: str | None, judging: Judging) -> str:
    row = judged.row
    said, heard = (str(row.get(key) or "") for key in (judging.reference, judging.hypothesis))
    facts = [named(row)]
    if (duration := number(row.get("duration"))) is not None:
        facts.append(span(duration))
    facts += [f"{key} {row[key]}" for key in ("lang", "speaker", "confidence") if key in row]
    player = (
        f'<audio controls preload="metadata" src="{text(clip, 10**9)}"></audio>' if clip else ""
    )
    marked_said, marked_heard = _marked(said, heard)
    return (
        f'<div class="clip"><div class="head"><b>{percent(judged.wer)}</b>'
        f"{''.join(f'<span>{text(fact, 200)}</span>' for fact in facts)}</div>"
        f'<dl><dt>said</dt><dd dir="auto">{marked_said or "–"}</dd>'
        f'<dt>heard</dt><dd dir="auto">{marked_heard or "–"}</dd></dl>{player}</div>'
    )


def _marked(said: str, heard: str) -> tuple[str, str]:
    """Both texts as HTML, what only one of them has marked."""
    one, two = said.split()[:_DIFFERENT], heard.split()[:_DIFFERENT]
    plain = [[word.casefold().strip(".,;:!?¿¡\"'") for word in words] for words in (one, two)]
    left, right = [], []
    edits = SequenceMatcher(None, a=plain[0], b=plain[1], autojunk=False).get_opcodes()
    for kind, a, b, c, d in edits:
        before, after = text(" ".join(one[a:b]), 1500), text(" ".join(two[c:d]), 1500)
        if kind == "equal":
            left.append(before)
            right.append(after)
            continue
        left += [f"<del>{before}</del>"] * (b > a)
        right += [f"<ins>{after}</ins>"] * (d > c)
    return " ".join(left), " ".join(right)
