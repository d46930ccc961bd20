"""A step that takes a model's place, in a file that workers import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from auricle.curation.items import Item
from auricle.curation.step import step


@step(inputs=["spoken"], outputs=["pred_text"])
def hear_well(items: Sequence[Item]) -> Iterable[Item]:
    """The perfect recogniser."""
    for item in items:
        yield {**item, "pred_text": item["spoken"]}
