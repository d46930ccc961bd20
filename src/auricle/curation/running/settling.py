"""What a pipeline leaves open until its rows are known (`model: auto`), settled once per job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from auricle.curation.choosing import Facts
from auricle.curation.graph import Branches, Node, When
from auricle.curation.items import Item
from auricle.curation.pipeline import Pipeline


def settle(
    pipeline: Pipeline, items: Callable[[], Iterable[Item]], devices: Sequence[str]
) -> tuple[Pipeline, tuple[str, ...]]:
    """The pipeline with every model named, and a line for each that was chosen.

    A step or composite takes part by `unsettled`, and `settled(facts)`, which gives it anew with
    the reason. `items` is called, and gone through once, only if one does.

    Raises:
        ConfigError: No model suits.
    """
    if not is_open(pipeline):
        return pipeline, ()
    facts = Facts.of(items(), devices)
    reasons: list[str] = []
    steps = tuple(_settled(node, facts, reasons) for node in pipeline.steps)
    return replace(pipeline, steps=steps), tuple(reasons)


def is_open(pipeline: Pipeline) -> bool:
    """Whether a pipeline leaves something open."""
    return any(_is_unsettled(node) for node in _flat(pipeline.steps))


def _is_unsettled(node: Node) -> bool:
    return bool(getattr(node, "unsettled", False))


def _flat(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, When):
            yield node.step
        elif isinstance(node, Branches):
            for way in node.ways.values():
                yield from _flat(way)
        else:
            yield node


def _settled(node: Node, facts: Facts, reasons: list[str]) -> Node:
    if isinstance(node, When):
        step: Any = _settled(node.step, facts, reasons)
        return replace(node, step=step)
    if isinstance(node, Branches):
        return Branches(
            {
                name: tuple(_settled(inner, facts, reasons) for inner in way)
                for name, way in node.ways.items()
            }
        )
    if not _is_unsettled(node):
        return node
    whole: Any = node
    made, reason = whole.settled(facts)
    reasons.append(f"{node.name}: {reason}")
    settled: Node = made
    return settled
