"""What a pipeline comes to: stages, each with a name that stands for its content.

A stage is a run of steps whose results are kept together. A costly step is one by itself, so that
what it gave outlives an edit of the steps behind it; so are a whole step and the end of branches.
Stage 0 reads. Names depend on the steps alone, not on their number in the pipeline.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from auricle.curation.conditions import Conditions, compiled
from auricle.curation.graph import Branches, Composite, Node, When
from auricle.curation.items import digest
from auricle.curation.pipeline import Pipeline
from auricle.curation.step import Needs, Step, WholeStep
from auricle.errors import ConfigError

Kind = Literal["read", "work", "whole", "merge"]
READ = "read"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]")
_NAME_LENGTH = 40


@dataclass(frozen=True)
class Labelled:
    """A step, its name in reports ("3-filter", "4.fast.1-transcribe"), and its condition."""

    label: str
    step: Step | WholeStep
    when: Conditions | None = None

    @property
    def identity(self) -> list[Any]:
        """Values that are the same for steps that do the same."""
        step = self.step
        said = [step.name, step.version, step.options(), self.when]
        if not type(step).__module__.startswith("auricle."):
            said.append(_source(type(step)))
        return said


@dataclass(frozen=True)
class Stage:
    """A run of steps whose results are kept together.

    Args:
        name: That of its folder: the steps' names and a digest of what they do.
        kind: How it is done.
        steps: One for a whole step, none for reading and for the end of branches.
        parents: Numbers of the stages that it takes items from.
        ways: For the end of branches, the numbers of each branch's stages, in order.
        labels: What the numbers of steps in its records stand for; for the end of branches, those
            of all that they hold, and its own.
        in_branch: Whether it is part of a branch; what it drops is told by the branches' end.
    """

    name: str
    kind: Kind
    steps: tuple[Labelled, ...] = ()
    parents: tuple[int, ...] = ()
    ways: tuple[tuple[int, ...], ...] = ()
    labels: tuple[str, ...] = ()
    in_branch: bool = False

    @property
    def counted(self) -> tuple[str, ...]:
        """The labels of its counts."""
        return tuple(each.label for each in self.steps) or self.labels[-1:]

    @property
    def needs(self) -> Needs:
        """What all its steps take together."""
        needs = [each.step.needs for each in self.steps if isinstance(each.step, Step)]
        memory = sum(n.memory_gb for n in needs)
        return Needs(memory, any(n.accelerator for n in needs))


@dataclass(frozen=True)
class Plan:
    """All that will be done, in an order in which it can be done."""

    pipeline: Pipeline
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """The pipeline's."""
        return self.pipeline.name

    def children(self, number: int) -> Iterator[int]:
        """The stages that take items from this one."""
        return (i for i, stage in enumerate(self.stages) if number in stage.parents)

    def lines(self) -> Iterator[str]:
        """The plan in words, a line for each reader, stage, step and writer."""
        yield f"pipeline {self.name}: shards of up to {self.pipeline.shard.items} items"
        for reader in self.pipeline.read:
            yield f"read {called(reader)} {_options(reader.options())}"
        for stage in self.stages[1:]:
            yield f"stage {stage.name}"
            if stage.kind == "merge":
                yield "  unite the branches by item"
            for each in stage.steps:
                when = f" when {each.when}" if each.when is not None else ""
                yield f"  {each.label} {_options(each.step.options())}{when}"
        for writer in self.pipeline.write:
            yield f"write {called(writer)} {_options(writer.options())}"

    def to_dict(self) -> dict[str, Any]:
        """The same for `curation.json`."""
        pipeline = self.pipeline
        steps = [each for stage in self.stages for each in stage.steps]
        return {
            "name": pipeline.name,
            "read": [{called(r): r.options()} for r in pipeline.read],
            "shard": {"items": pipeline.shard.items},
            "timeout": pipeline.timeout,
            "steps": [
                {"step": e.label, "version": e.step.version, "options": e.step.options()}
                | ({} if e.when is None else {"when": dict(e.when)})
                for e in steps
            ],
            "write": [{called(w): w.options()} for w in pipeline.write],
        }


def planned(pipeline: Pipeline) -> Plan:
    """The stages of a pipeline.

    Raises:
        ConfigError: No reader, a condition that cannot be, branches that add the same key, or a
            step whose options are no JSON.
    """
    if not pipeline.read:
        raise ConfigError(f"{pipeline.name}: a pipeline needs a reader")
    stages = [Stage(READ, "read", labels=(READ,))]
    _Line(stages, at=0).lay(pipeline.steps)
    return Plan(pipeline, tuple(stages))


class _Line:
    """Lays stages one behind the other, from the stage `at` on."""

    def __init__(self, stages: list[Stage], at: int, *, in_branch: bool = False) -> None:
        self.stages = stages
        self.at = at
        self.in_branch = in_branch
        self.laid: list[int] = []
        self.waiting: list[Labelled] = []

    def lay(self, nodes: Sequence[Node], prefix: str = "") -> None:
        for number, node in enumerate(nodes, 1):
            self._node(node, f"{prefix}{number}")
        self._flush()

    def _node(self, node: Node, number: str) -> None:
        when: Conditions | None = None
        if isinstance(node, When):
            when = node.conditions
            node = node.step
            compiled(when, where=f"{number}-{node.name}, when")
        if isinstance(node, Composite):
            for place, inner in enumerate(node.nodes(), 1):
                self._node(inner, f"{number}.{place}")
        elif isinstance(node, Branches):
            self._flush()
            self._branches(node, number)
        elif isinstance(node, WholeStep):
            self._flush()
            self.waiting.append(Labelled(f"{number}-{node.name}", node, when))
            self._flush()
        elif isinstance(node, Step):
            if node.costly:
                self._flush()
            self.waiting.append(Labelled(f"{number}-{node.name}", node, when))
            if node.costly:
                self._flush()
        else:
            raise ConfigError(f"step {number} is a {type(node).__name__}, and no step")

    def _flush(self) -> None:
        if not self.waiting:
            return
        steps = tuple(self.waiting)
        self.waiting = []
        whole = isinstance(steps[0].step, WholeStep)
        name = _stage_name([s.step.name for s in steps], [_checked(s) for s in steps])
        labels = tuple(s.label for s in steps)
        kind: Kind = "whole" if whole else "work"
        self._add(Stage(name, kind, steps, (self.at,), labels=labels, in_branch=self.in_branch))

    def _add(self, stage: Stage) -> None:
        self.stages.append(stage)
        self.at = len(self.stages) - 1
        self.laid.append(self.at)

    def _branches(self, node: Branches, number: str) -> None:
        _refuse_same_outputs(node, number)
        fork = self.at
        ways = []
        for way, nodes in node.ways.items():
            line = _Line(self.stages, fork, in_branch=True)
            line.lay(nodes, f"{number}.{way}.")
            ways.append(tuple(line.laid))
        inner = [i for way in ways for i in way]
        labels = tuple(label for i in inner for label in self.stages[i].labels)
        own = f"{number}-branches"
        names = [
            [way, [self.stages[i].name for i in w]] for way, w in zip(node.ways, ways, strict=True)
        ]
        self._add(
            Stage(
                _stage_name(["branches"], names),
                "merge",
                parents=(fork, *inner),
                ways=tuple(ways),
                labels=(*labels, own),
                in_branch=self.in_branch,
            )
        )


def _stage_name(names: Sequence[str], identity: Sequence[Any]) -> str:
    said = _UNSAFE.sub("_", "+".join(names))[:_NAME_LENGTH]
    return f"{said}-{digest(list(identity))[:12]}"


def _checked(each: Labelled) -> list[Any]:
    """A step's identity, once it is sure that it can be written down."""
    try:
        identity = each.identity
        digest(identity)
    except OSError:
        raise ConfigError(
            f"{each.label}: its source cannot be read: write the step into a file"
        ) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{each.label}: its options cannot be written as JSON: {error}") from None
    return identity


def _refuse_same_outputs(node: Branches, number: str) -> None:
    owners: dict[str, str] = {}
    for way, nodes in node.ways.items():
        for key in set(_outputs(nodes)):
            if key in owners:
                raise ConfigError(
                    f"{number}-branches: {owners[key]} and {way} both give {key}: give it another "
                    "name in one of them"
                )
            owners[key] = way


def _outputs(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, When):
            yield from node.step.outputs
        elif isinstance(node, (Step, WholeStep)):
            yield from node.outputs
        elif isinstance(node, Composite):
            yield from _outputs(node.nodes())
        else:
            for way in node.ways.values():
                yield from _outputs(way)


def _source(kind: type) -> str:
    """Stands for what a class of the user's does: its text, where that is known."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def called(value: object) -> str:
    """The name of a reader or a writer, in messages."""
    return type(value).__name__.lower()


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items() if value is not None)
