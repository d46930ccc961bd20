"""Of a report: what steps and models took, and what memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auricle.curation.report.charts import lines, text
from auricle.curation.report.figures import Figures, Memory, Work
from auricle.curation.report.markup import legend, numbers, paces, table, words
from auricle.curation.wording import percent, span

_LINES = 6  # of a chart


def models(figures: Figures) -> str:
    """What each model heard, and how fast."""
    rows = []
    for name, work in sorted(figures.models.items(), key=lambda pair: -pair[1].seconds):
        on = ", ".join(sorted(work.devices))
        rows.append(
            f'<td class="name">{text(name)}<br><span class="soft">on {text(on)}</span></td>'
            + numbers(f"{work.items:,}", span(work.audio), span(work.seconds), *paces(work))
        )
    return (
        table(("model", "items", "audio", "work", "items/s", "RTFx"), rows)
        + '<p class="soft">Items a second and RTFx (seconds of audio a second) are those of one '
        f"worker.</p>{_tiers(figures)}"
    )


def _tiers(figures: Figures) -> str:
    """How many items each tier of a cascade heard, how many texts are from it, what it took."""
    names = sorted({*figures.tiers, *figures.tier_steps})
    if not names:
        return ""
    texts = max(sum(figures.tiers.values()), 1)
    works = {name: figures.steps.get(figures.tier_steps.get(name, ""), Work()) for name in names}
    total = sum(work.seconds for work in works.values()) or 1.0
    rows = []
    for name, work in works.items():
        model = figures.model_of.get(figures.tier_steps.get(name, ""), "")
        there = figures.tiers[name]
        cost = (span(work.seconds), percent(work.seconds / total))
        rows.append(
            words(f"{name} {model}")
            + numbers(f"{work.items:,}", f"{there:,}", percent(there / texts), *cost)
        )
    head = ("tier of the cascade", "heard", "texts from it", "share", "work", "of all work")
    return f"<h3>Cascade</h3>{table(head, rows)}"


def memory(found: Memory) -> str:
    """Of workers and GPUs over time."""
    hosts = f"<h3>Of all workers of a host, GB</h3>{_lines(found.hours, found.hosts)}"
    if not found.gpus:
        return hosts
    return f"{hosts}<h3>In use on each GPU, GB</h3>{_lines(found.hours, found.gpus)}"


def _lines(hours: Sequence[float], series: Mapping[str, Sequence[float | None]]) -> str:
    shown = {
        name: [value if value is None else value / 1000 for value in line]
        for name, line in list(series.items())[:_LINES]
    }
    most = [max((v for v in line if v is not None), default=0.0) for line in shown.values()]
    names = [f"{name}, at most {top:.2f} GB" for name, top in zip(shown, most, strict=True)]
    left = len(series) - len(shown)
    more = f'<p class="soft">and {left} others</p>' if left else ""
    colours = legend([(f"l{i}", name) for i, name in enumerate(names)])
    return lines(hours, shown, "memory over time") + colours + more


def steps(figures: Figures) -> str:
    """Every step with its counts and speed, then every reason."""
    names = ("step", "in", "out", "filtered", "quarantined", "cut", "made", "passed by")
    rows = []
    for step in figures.summary.get("steps", ()):
        falls = [sum(step.get(fate, {}).values()) for fate in ("filtered", "quarantined")]
        others = [step.get(name, 0) for name in ("cut", "made", "passed")]
        counts = [f"{n:,}" if n else "–" for n in (*falls, *others)]
        pace = paces(figures.steps.get(str(step["step"]), Work()))
        rows.append(
            words(step["step"]) + numbers(f"{step['in']:,}", f"{step['out']:,}", *counts, *pace)
        )
    return table((*names, "items/s", "RTFx"), rows) + _reasons(figures)


def _reasons(figures: Figures) -> str:
    """Every reason with its count, folded away."""
    rows = [
        words(step["step"], fate, str(reason)) + numbers(f"{items:,}")
        for step in figures.summary.get("steps", ())
        for fate in ("filtered", "quarantined")
        for reason, items in sorted(step.get(fate, {}).items(), key=lambda pair: -pair[1])
    ]
    if not rows:
        return ""
    listed = table(("step", "what became of them", "reason", "items"), rows, names=3)
    return f"<details><summary>All reasons</summary>{listed}</details>"


def languages(figures: Figures) -> str:
    """What is kept, by language."""
    most = sorted(figures.languages.items(), key=lambda pair: -pair[1].items)[:40]
    rows = [words(name) + numbers(f"{work.items:,}", span(work.audio)) for name, work in most]
    return table(("language of what is kept", "items", "audio"), rows)
