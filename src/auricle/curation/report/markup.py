"""Of a report: the few pieces of HTML that its parts share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auricle.curation.report.charts import short, text
from auricle.curation.report.figures import Work


def section(title: str, content: str) -> str:
    """A card of the page; `content` is HTML."""
    return f"<section><h2>{text(title)}</h2>{content}</section>"


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """What colours mean: pairs of a CSS class and a name."""
    found = [f'<span><i class="{kind}"></i>{text(name)}</span>' for kind, name in entries]
    return f'<div class="key">{"".join(found)}</div>'


def table(head: Sequence[str], rows: Sequence[str], *, names: int = 1) -> str:
    """A table of whole rows; the first `names` columns hold words, the others numbers."""
    cells = [
        f"<th>{text(cell)}</th>" if i < names else f'<th class="n">{text(cell)}</th>'
        for i, cell in enumerate(head)
    ]
    content = "".join(f"<tr>{row}</tr>" for row in ("".join(cells), *rows))
    return f'<div class="wide"><table>{content}</table></div>'


def words(*cells: object) -> str:
    """Cells of words."""
    return "".join(f'<td class="name">{text(cell)}</td>' for cell in cells)


def numbers(*cells: str) -> str:
    """Cells of numbers."""
    return "".join(f'<td class="n">{text(cell)}</td>' for cell in cells)


def paces(work: Work) -> Iterator[str]:
    """Items a second, and RTFx."""
    for value in (work.pace, work.rtfx):
        if value is None:
            yield "–"
        else:
            yield f"{value:,.1f}" if value < 1000 else short(value)
