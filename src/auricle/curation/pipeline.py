"""Pipelines as values, made in Python or read from YAML files; nothing in them has run yet.

A file is found by its path, or by its name in `auricle/pipelines`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.config import hint, nearest, shown_name
from auricle.curation.graph import Branches, Node, When
from auricle.curation.items import digest
from auricle.curation.step import FunctionStep, Step, WholeStep
from auricle.curation.table import COMPOSITES, READERS, STEPS, WRITERS, Entry, found
from auricle.errors import ConfigError, first_line

if TYPE_CHECKING:
    from auricle.curation.readers import Reader
    from auricle.curation.writers import Writer

_BRANCHES = "branches"
_WHEN = "when"
_MODULE = re.compile(r"\W")
_SUFFIXES = (".yaml", ".yml")
_UNWRITABLE = re.compile(r"[\ud800-\udfff]")  # what Python makes of names that are not UTF-8
# Where changes on a command line name files, and where they may.
_PATHS = re.compile(r"read(\.\d+)?\.\w+\.(path|manifest)(\.\d+)?|steps\..+\.adapter")
_MAYBE_PATHS = re.compile(r"read(\.\d+)?\.\w+\.name|steps\..+\.model")


@dataclass(frozen=True)
class Shard:
    """How many items are kept together, at most; what changes in one leaves the others alone."""

    items: int = 256

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"a shard has 1 item or more, not {self.items}")


@dataclass(frozen=True)
class Pipeline:
    """What to read, what to do with it, what to write.

    Args:
        name: For reports.
        read: Where items come from, one after the other.
        steps: In order.
        write: At the end, beside the manifest that is always written.
        shard: How items are kept together.
        timeout: Seconds that a batch may take, and an item on its own; who takes longer hangs.
        step_files: Python files that workers import, for steps that are defined in them.
    """

    name: str
    read: Sequence[Reader]
    steps: Sequence[Node]
    write: Sequence[Writer] = ()
    shard: Shard = Shard()
    timeout: float = 600.0
    step_files: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if not self.name.strip(". ") or any(c in self.name for c in "/\\\0"):
            raise ConfigError(f"name is {self.name!r}; it names a folder, so leave slashes out")
        refuse_unwritable(self.name, "name")
        for reader in self.read:
            for key in (*reader.paths, *reader.maybe_paths):
                value = getattr(reader, key)
                for path in [value] if isinstance(value, str) else value or ():
                    # Rows name recordings from the root.
                    refuse_unwritable(os.path.abspath(path), f"{key} of the reader")  # noqa: PTH100
        if not self.timeout > 0:
            raise ConfigError(f"timeout must be more than 0 seconds, got {self.timeout}")


@dataclass(frozen=True)
class _Document:
    """The keys of a pipeline's file."""

    read: Any
    name: str = ""
    shard: Shard = Shard()
    steps: list[Any] = field(default_factory=list)
    write: list[Any] = field(default_factory=list)
    timeout: float = 600.0


def refuse_unwritable(path: str | Path, what: str) -> None:
    """Raise for a name that no row can hold, because it is not UTF-8.

    Raises:
        ConfigError: It is not.
    """
    if _UNWRITABLE.search(str(path)):
        raise ConfigError(f"{what} is {path}, which is not UTF-8: rename it, or make a link to it")


def pipeline_names() -> tuple[str, ...]:
    """The pipelines that come with Auricle."""
    files = (Path(file.name) for file in _packaged().iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix in _SUFFIXES))


def load_pipeline(
    name_or_path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step_files: Sequence[str | Path] = (),
) -> Pipeline:
    """A pipeline from a YAML file.

    Relative paths start from the file's folder; those of packaged pipelines and of overrides from
    the working folder.

    Args:
        name_or_path: A packaged pipeline's name, or a file; `./x` is always a file.
        overrides: `key=value` each, the value in YAML: `steps.transcribe.model=tiny`, or with the
            step's number where several have that name, `steps.1.filter.duration.le=30`.
        step_files: Python files whose steps the pipeline may use by name.

    Raises:
        ConfigError: No such file, no YAML, a step or key that is unknown (names the nearest), or a
            value that does not fit. One line, with the file and the key.
        MissingExtra: A step or reader needs a package that is not installed.
    """
    from auricle.training.documents import parsed, read_document, set_value, split_override
    from auricle.training.schema import validated

    where = str(name_or_path)
    file, folder = _find(where)
    values = read_document(file, where=where, what="pipeline")
    for text in overrides:
        key, value = split_override(text, "shard.items=64")
        key = _numbered(values, key, where)
        refuse_unwritable(text, "a change")
        changed = _from_here(parsed(value, f"the value of {key}"), key)
        set_value(values, key, changed, where=where)
    files = [Path(file).expanduser().resolve() for file in step_files]
    own = {name: step for file in files for name, step in load_steps(file).items()}
    try:
        document = validated(_Document, values, what="a pipeline", extra="curate")
        reading = _Reading(folder, own)
        readers = [reading.made(*entry, READERS, "reader") for entry in _entries(document.read)]
        if not readers:
            raise ConfigError("read names no reader")
        writers = [reading.made(*entry, WRITERS, "writer") for entry in _entries(document.write)]
        return Pipeline(
            name=document.name or _UNWRITABLE.sub("_", Path(file.name).stem),
            read=readers,
            steps=reading.nodes(document.steps, "steps"),
            write=writers,
            shard=document.shard,
            timeout=document.timeout,
            step_files=tuple(files),
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _packaged() -> Traversable:
    return resources.files("auricle").joinpath("pipelines")


def _find(name: str) -> tuple[Path | Traversable, Path]:
    """A file by its path if it looks like one, else by name; and where its paths start."""
    path = Path(name).expanduser()
    if path.suffix in _SUFFIXES or "/" in name or "\\" in name or path.is_file():
        return path, path.resolve().parent
    if name in pipeline_names():
        return _packaged().joinpath(f"{name}.yaml"), Path.cwd()
    near = nearest(name, pipeline_names(), 3)
    cure = f"near to it are {', '.join(near)}" if near else "auricle curate --list shows them all"
    raise ConfigError(f"there is no pipeline {name!r}; {cure}")


def _numbered(values: dict[str, Any], key: str, where: str) -> str:
    """`key` with the number of the entry that it names: `steps.wer.by` becomes `steps.4.wer.by`.

    Raises:
        ConfigError: No entry has that name, or several have.
    """
    table, _, rest = key.partition(".")
    name, _, option = rest.partition(".")
    entries = values.get(table)
    if not isinstance(entries, list) or not name or name.isdecimal():
        return key
    names = [next(iter(e), None) if isinstance(e, dict) else e for e in entries]
    places = [i for i, known in enumerate(names) if known == name]
    if not places:
        there = [known for known in names if isinstance(known, str)]
        raise ConfigError(f"{where}: {table} has no {shown_name(name)}; {hint(name, there)}")
    if len(places) > 1:
        several = " or ".join(f"{table}.{i}.{name}" for i in places)
        raise ConfigError(f"{where}: {table}.{name} is ambiguous; write {several}")
    if entries[places[0]] == name:  # a step without options
        entries[places[0]] = {name: {}}
    return f"{table}.{places[0]}.{name}" + (f".{option}" if option else "")


def _from_here(value: Any, name: str) -> Any:
    """What an override says at `name`, with paths from the working folder made absolute."""
    if isinstance(value, dict):
        return {key: _from_here(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_from_here(item, f"{name}.{i}") for i, item in enumerate(value)]
    sure = bool(_PATHS.fullmatch(name))
    if isinstance(value, str) and value and (sure or _MAYBE_PATHS.fullmatch(name)):
        return _path(value, Path.cwd(), sure)
    return value


def load_steps(path: str | Path) -> dict[str, FunctionStep | type[Step] | type[WholeStep]]:
    """Import a Python file; its steps by name: functions under `@step`, and classes in lower case.

    Raises:
        ConfigError: There is no such file, or it cannot be imported.
    """
    path = Path(path).resolve()
    module_name = f"_steps_{_MODULE.sub('_', path.stem)}_{digest(str(path))[:8]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ConfigError(f"{path} is no Python file, and so has no steps")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # its dataclasses look for it there
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[module_name]
            if not isinstance(error, Exception):
                raise
            kind = type(error).__name__
            raise ConfigError(f"{path} cannot be imported: {kind}: {first_line(error)}") from error
    steps: dict[str, FunctionStep | type[Step] | type[WholeStep]] = {}
    for name, value in vars(module).items():
        if isinstance(value, FunctionStep):
            steps[value.name] = value
        elif isinstance(value, type) and value.__module__ == module_name and _is_step(value):
            steps[name.lower()] = value
    return steps


def _is_step(kind: type) -> bool:
    return is_dataclass(kind) and issubclass(kind, (Step, WholeStep))


@dataclass(frozen=True)
class _Reading:
    """Makes values of what a file says."""

    folder: Path
    own: Mapping[str, FunctionStep | type[Step] | type[WholeStep]]

    def nodes(self, said: Any, where: str) -> tuple[Node, ...]:
        """Steps one after another."""
        if not isinstance(said, list):
            raise ConfigError(f"{where} must be a list of steps")
        return tuple(self.node(entry, f"{where}.{i}") for i, entry in enumerate(said))

    def node(self, said: Any, where: str) -> Node:
        """A step, a composite or branches, perhaps under a condition."""
        said = {said: None} if isinstance(said, str) else said
        names = [name for name in said if name != _WHEN] if isinstance(said, dict) else []
        if len(names) != 1:
            raise ConfigError(
                f"{where} must be a step's name, or a mapping of it to its options"
                + (f"; it names {' and '.join(names)}" if len(names) > 1 else "")
            )
        name = names[0]
        if name == _BRANCHES:
            node: Any = self.branches(said[name], f"{where}.{name}")
        elif isinstance(own := self.own.get(name), FunctionStep):
            if said[name]:
                raise ConfigError(f"{where}.{name} takes no options")
            node = own
        else:
            entry = Entry(own) if own is not None else None
            names_of_all = {**STEPS, **COMPOSITES, **dict.fromkeys(self.own, ""), _BRANCHES: ""}
            node = self.made(name, said[name], names_of_all, "step", entry=entry, where=where)
        if _WHEN not in said:
            return node  # type: ignore[no-any-return]
        if not isinstance(node, (Step, WholeStep)):
            raise ConfigError(f"{where}: `when` stands at a single step, not at {name}")
        return When(node, said[_WHEN])

    def branches(self, said: Any, where: str) -> Branches:
        """Ways side by side."""
        if not isinstance(said, dict) or len(said) < 2:
            raise ConfigError(f"{where} must be a mapping of two names or more to lists of steps")
        return Branches({way: self.nodes(steps, f"{where}.{way}") for way, steps in said.items()})

    def made(
        self,
        name: str,
        said: Any,
        table: Mapping[str, str],
        what: str,
        *,
        entry: Entry | None = None,
        where: str = "",
    ) -> Any:
        """The value of a name of a table, with its options."""
        from auricle.training.schema import validated

        place = f"{where}.{name}" if where else name
        entry = entry or found(name, table, where=where or what, what=what)
        options = entry.options(said)
        made = validated(
            entry.kind, options, where=place, what=f"the {what} {name}", extra="curate"
        )
        return _with_paths(made, self.folder)


def _entries(said: Any) -> Iterator[tuple[str, Any]]:
    """Names and options of readers or writers: one mapping, or a list of them."""
    for one in said if isinstance(said, list) else [said]:
        one = {one: None} if isinstance(one, str) else one
        if not isinstance(one, Mapping):
            raise ConfigError(
                f"a reader or writer is a mapping of its name to options, not {one!r}"
            )
        yield from one.items()


def _with_paths(made: Any, folder: Path) -> Any:
    """A value whose paths start from a folder; those of the values in it too."""
    changes: dict[str, Any] = {}
    for name in (*getattr(made, "paths", ()), *getattr(made, "maybe_paths", ())):
        value = getattr(made, name)
        sure = name in getattr(made, "paths", ())
        if isinstance(value, str):
            changes[name] = _path(value, folder, sure)
        elif isinstance(value, (list, tuple)):
            changes[name] = tuple(_path(one, folder, sure) for one in value)
    for each in fields(made):
        value = getattr(made, each.name)
        if isinstance(value, (list, tuple)) and any(is_dataclass(one) for one in value):
            changes[each.name] = tuple(_with_paths(one, folder) for one in value)
        elif isinstance(value, dict) and any(is_dataclass(one) for one in value.values()):
            changes[each.name] = {key: _with_paths(one, folder) for key, one in value.items()}
    return replace(made, **changes) if changes else made


def _path(value: str, folder: Path, sure: bool) -> str:
    if "://" in value or value.startswith("pipe:"):
        return value
    path = folder / Path(value).expanduser()
    return str(path) if sure or value.startswith((".", "~")) or path.exists() else value
