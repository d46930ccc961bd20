"""Curating speech data: pipelines of steps over manifest rows, run exactly once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auricle.curation.graph import Branches, When
    from auricle.curation.items import Filtered, Quarantined, child
    from auricle.curation.pipeline import Pipeline, Shard, load_pipeline, load_steps
    from auricle.curation.running.results import Summary
    from auricle.curation.running.runner import check, run
    from auricle.curation.step import Batch, Example, Needs, Place, Step, WholeStep

_HOMES = {
    "graph": ("Branches", "When"),
    "items": ("Filtered", "Quarantined", "child"),
    "pipeline": ("Pipeline", "Shard", "load_pipeline", "load_steps"),
    "running.results": ("Summary",),
    "running.runner": ("check", "run"),
    "step": ("Batch", "Example", "Needs", "Place", "Step", "WholeStep"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Branches",
    "Example",
    "Filtered",
    "Needs",
    "Pipeline",
    "Place",
    "Quarantined",
    "Shard",
    "Step",
    "Summary",
    "When",
    "WholeStep",
    "check",
    "child",
    "load_pipeline",
    "load_steps",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import a name where it is first asked for: a worker must not wait for what it never uses."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
