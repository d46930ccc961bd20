"""How steps stand together in a pipeline: one after another, under a condition, in branches.

A composite is a name for several of them. What is done with all this is the business of `plan`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from auricle.curation.conditions import Conditions
from auricle.curation.step import Step, WholeStep


@dataclass(frozen=True)
class When:
    """A step for some items only; those for which the conditions do not hold pass it unchanged."""

    step: Step | WholeStep
    conditions: Conditions


@dataclass(frozen=True)
class Branches:
    """Ways that every item goes side by side, by name; what each adds is then united.

    An item that one branch drops is dropped. None may cut items, and no two may add one key.
    """

    ways: Mapping[str, Sequence[Node]]


class Composite:
    """Stands for several steps; a frozen dataclass whose fields are its options in YAML."""

    @property
    def name(self) -> str:
        """What pipelines and reports call it."""
        return type(self).__name__.lower()

    def nodes(self) -> Sequence[Node]:
        """What it stands for; every step in it has a label of its own, such as `2.1-transcribe`."""
        raise NotImplementedError


Node: TypeAlias = Step | WholeStep | When | Branches | Composite
