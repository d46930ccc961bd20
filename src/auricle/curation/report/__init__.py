"""`report.html`: what became of a job's items, in one file without requests and scripts.

The page's frame and style are in `page.html` beside this file. Rows are untrusted: whatever is from
them is escaped by `charts.text`, and the page forbids scripts and requests of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import yaml

from auricle import __version__
from auricle.curation.report import quality, speed
from auricle.curation.report.advice import advise
from auricle.curation.report.charts import Fall, Flow, flow, text
from auricle.curation.report.figures import (
    LISTED,
    TROUBLES,
    Figures,
    Spread,
    gather,
    named,
)
from auricle.curation.report.markup import legend, section, table, words
from auricle.curation.report.players import data_uris
from auricle.curation.wording import percent, span
from auricle.files import write_atomic

REPORT = "report.html"
_REASONS = 5  # a step's that are shown by name


def write_report(folder: Path, *, sound: bool = True) -> Path:
    """Write the report of the finished run in a folder, and give its path.

    Args:
        folder: The output of a run.
        sound: Whether the worst items are put into the page as players.

    Raises:
        ConfigError: There is no finished run.
    """
    figures = gather(folder)
    clips = data_uris([w.row for w in figures.worst], folder) if sound and figures.worst else ()
    frame = (
        resources.files("auricle.curation.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    name = figures.summary.get("name", folder.name)
    page = Template(frame).substitute(
        title=f"{text(name)}: curation", body=body(figures, clips or [None] * len(figures.worst))
    )
    return write_atomic(folder / REPORT, page)


def body(figures: Figures, clips: Sequence[str | None]) -> str:
    """All of the page between header and footer; `clips` are the sounds of the worst items."""
    beside = [
        section("Word error rate", quality.word_errors(figures)) if len(figures.wer) else "",
        section("Duration", quality.durations(figures)) if len(figures.durations) else "",
        section("Models", speed.models(figures)) if figures.models else "",
        section("Memory", speed.memory(figures.memory)) if figures.memory else "",
    ]
    found = [
        _header(figures),
        _tiles(figures),
        section("What to do", _advice(figures)),
        section("From read to kept", _flow(figures)),
        f'<div class="two">{"".join(beside)}</div>' if any(beside) else "",
        section("Steps", speed.steps(figures)),
        section("Languages", speed.languages(figures)) if len(figures.languages) > 1 else "",
        section("Worst items", quality.worst(figures, clips)) if figures.worst else "",
        section("Quarantine and deaths", _quarantine(figures)),
        section("How it was made", _made(figures)),
    ]
    return "\n".join(part for part in found if part)


def _header(figures: Figures) -> str:
    name = text(figures.summary.get("name", "curation"))
    told = [f"Auricle {text(__version__)}"]
    if figures.ended is not None:
        told.append(f"ended {datetime.fromtimestamp(figures.ended, UTC):%Y-%m-%d %H:%M} UTC")
    if figures.elapsed:
        runs = figures.events["start"]
        told.append(f"took {span(figures.elapsed)}{f' in {runs} runs' if runs > 1 else ''}")
    if figures.workers:
        told.append(f"{figures.workers} worker{'s' * (figures.workers > 1)}")
    return f"<header><h1>{name}</h1><p>{' · '.join(told)}</p></header>"


def _tiles(figures: Figures) -> str:
    summary = figures.summary
    seconds = summary.get("seconds", {})
    fates = ("kept", "filtered", "quarantined")
    whole = max(sum(summary.get(fate, 0) for fate in fates), 1)
    # Rows do not always say how long they are before a step has found out.
    audio = seconds.get("read") or sum(seconds.get(fate, 0.0) for fate in fates)
    found = [_tile("", f"{summary.get('read', 0):,}", "items read", audio or None)]
    if summary.get("made"):
        cut = f"made by cutting {summary.get('cut', 0):,}"
        found.append(_tile("", f"{summary['made']:,}", cut, None))
    for fate in fates:
        number = summary.get(fate, 0)
        found.append(
            _tile(fate, f"{number:,}", f"{fate}, {percent(number / whole)}", seconds.get(fate))
        )
    if (spread := Spread.of(figures.wer.all)) is not None:
        found.append(_tile("", percent(spread.median), "median WER", None))
    if figures.elapsed and audio:
        speed = f"{audio / figures.elapsed:,.1f}"
        found.append(_tile("", speed, "RTFx of the whole job", None))
    return f'<div class="tiles">{"".join(found)}</div>'


def _tile(kind: str, figure: str, what: str, seconds: float | None) -> str:
    length = f"<span>{span(seconds)} of audio</span>" if seconds is not None else ""
    return f'<div class="tile {kind}"><b>{text(figure)}</b><span>{text(what)}</span>{length}</div>'


def _advice(figures: Figures) -> str:
    found = [
        f'<li class="{advice.kind}"><b>{text(advice.title)}</b>'
        f"<p>{_code(text(advice.because, 2000))}</p></li>"
        for advice in advise(figures)
    ]
    if not found:
        return '<p class="soft">Nothing stands out.</p>'
    return f'<ul class="advice">{"".join(found)}</ul>'


def _code(escaped: str) -> str:
    """What stands between backticks, as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def _flow(figures: Figures) -> str:
    """Steps that changed nothing are left to the table of steps."""
    steps = []
    for step in figures.trunk:
        falls = [*_falls(step, "filtered"), *_falls(step, "quarantined")]
        made, cut = step.get("made", 0), step.get("cut", 0)
        note = f"{cut:,} cut into {made:,}" if made or cut else ""
        if falls or note:
            steps.append(Flow(str(step["step"]), step["in"], step["out"], falls, note))
    if not steps:
        kept = figures.summary.get("kept", 0)
        return f'<p class="soft">All {kept:,} items went through unchanged in number.</p>'
    colours = legend([(fate, fate) for fate in ("kept", "filtered", "quarantined")])
    return f'<div class="wide">{flow(steps, "read", "kept")}</div>{colours}'


def _falls(step: Mapping[str, Any], fate: str) -> list[Fall]:
    reasons = sorted(step.get(fate, {}).items(), key=lambda pair: (-pair[1], pair[0]))
    shown = reasons if len(reasons) <= _REASONS else reasons[: _REASONS - 1]
    found = [Fall(fate, str(reason), int(items)) for reason, items in shown]
    if len(reasons) > len(shown):
        rest = reasons[len(shown) :]
        found.append(Fall(fate, f"{len(rest)} other reasons", sum(n for _, n in rest)))
    return found


def _quarantine(figures: Figures) -> str:
    found = []
    if figures.quarantined:
        rows = []
        for row in figures.quarantined:
            told = row.get("quarantined")
            why = told if isinstance(told, Mapping) else {}
            cells = (str(why.get(part, "")) for part in ("step", "reason", "detail"))
            rows.append(words(named(row), *cells))
        total = figures.summary.get("quarantined", len(rows))
        shown = f" (the first {LISTED} of {total:,})" if total > len(rows) else ""
        listed = table(("item", "step", "reason", "detail"), rows, names=4)
        found.append(f"<h3>Quarantined{shown}</h3>{listed}")
    if figures.deaths:
        total = sum(figures.events[event] for event in TROUBLES)
        shown = f" (the first {LISTED} of {total:,})" if total > len(figures.deaths) else ""
        found.append(f"<h3>Deaths and retries{shown}</h3>{_events(figures)}")
    return "".join(found) or '<p class="soft">No item was quarantined, and no worker died.</p>'


def _events(figures: Figures) -> str:
    columns = ("event", "stage", "reason", "items")
    rows = []
    for record in figures.deaths:
        others = (
            f"{key} {value}" for key, value in record.items() if key not in (*columns, "time")
        )
        rows.append(words(*(record.get(column, "") for column in columns), ", ".join(others)))
    return table((*columns, "details"), rows, names=5)


def _made(figures: Figures) -> str:
    resolved = yaml.safe_dump(
        figures.curation, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    lines = "\n".join(text(line, 2000) for line in resolved.splitlines())
    return (
        "<details><summary>The pipeline as it was resolved, versions and budgets "
        f"(curation.json)</summary><pre>{lines}</pre></details>"
    )
