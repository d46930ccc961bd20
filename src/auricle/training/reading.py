"""Recipes from YAML files and `key=value` overrides; what is not in the schema is refused.

A recipe is found by the name of a file in `auricle/recipes`, or by its path. It may say `extends:`
with another one's name or path: then it only says what differs. Mappings are merged key by key,
anything else takes the place of what was there. What contradicts itself `consistency` refuses.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from auricle.errors import ConfigError
from auricle.training.automodel import changed, is_automodel, translate
from auricle.training.consistency import check_recipe
from auricle.training.recipe import Recipe
from auricle.training.schema import validated

MAX_BYTES = 2**18
MAX_DEPTH = 32
MAX_CHAIN = 8
SUFFIXES = (".yaml", ".yml")

Values = dict[str, Any]

log = logging.getLogger("auricle")

# What other toolkits call a key, where the names are too different to be near.
TERMS = {
    "accumulate_grad_batches": "train.accumulate",
    "batch_duration": "data.batch_seconds",
    "batch_size": "data.max_batch",
    "gradient_clip_val": "train.clip",
    "learning_rate": "optimizer.lr",
    "manifest_filepath": "data.train.0.manifest",
    "max_epochs": "train.epochs",
    "max_steps": "train.steps",
    "num_workers": "data.workers",
    "optim": "optimizer",
    "preprocessor": "model.features",
    "sched": "schedule",
    "spec_augment": "augment.spec",
    "tarred_audio_filepaths": "data.train.0.tar",
    "train_ds": "data.train",
    "trainer": "train",
    "validation_ds": "data.validation",
    "vocab_size": "tokenizer.size",
    "warmup_steps": "schedule.warmup",
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `no` is a text, 1e-5 a number, a date a text."""


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML takes for something else than a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _PLAIN
}
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
        )


@dataclass(frozen=True)
class _Found:
    """A recipe's file, and the folder that its relative paths start from."""

    where: str
    name: str
    file: Path | Traversable
    folder: Path


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with Auricle."""
    files = (Path(file.name) for file in _packaged().iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix in SUFFIXES))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe with everything resolved: `extends`, defaults, overrides and relative paths.

    Relative paths start from the folder of the file that says them; those of packaged recipes and
    of overrides from the working folder. The recipe's name is that of its file unless it says one.
    A file of NeMo AutoModel's is translated; what has no meaning here is named in warnings.

    Args:
        name_or_path: A packaged recipe's name, or a file; `./x` is always a file.
        overrides: `key=value` each, the value in YAML: `optimizer.lr=0.01`,
            `data.train.0.manifest=a.jsonl`, `model.heads=[ctc, rnnt]`, `augment.spec=null`. The
            number behind the last entry of a list adds one. With `--` before it, as AutoModel has
            them, an override is in the keys of its file, whoever's they are.

    Raises:
        ConfigError: No such recipe, no YAML, a key that is unknown or a value that does not fit it,
            or a recipe that contradicts itself. One line, with the file and the key.
    """
    found = _find(str(name_or_path), Path.cwd())
    values = _translated(found, [text[2:] for text in overrides if text.startswith("--")])
    if values is None:
        values = {"name": found.name, **_extended(found, ())}
        overrides = [text.removeprefix("--") for text in overrides]
    for text in overrides:
        if not text.startswith("--"):
            _override(values, text, found.where)
    if values.get("init_from") is not None:
        values.setdefault("tokenizer", None)  # the model brings its own
    try:
        recipe = validated(Recipe, values, terms=TERMS)
    except ConfigError as error:
        raise ConfigError(f"{found.where}: {error}") from None
    check_recipe(recipe, where=found.where)
    return recipe


def to_yaml(recipe: Recipe) -> str:
    """All of a recipe as YAML, which reads back as an equal one."""
    values = _plain(asdict(recipe))
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def _translated(found: _Found, changes: Sequence[str]) -> Values | None:
    """What a recipe of AutoModel's says, in our keys; None where it is none of its."""
    written = _read(found)
    if not is_automodel(written):
        return None
    try:
        translation = translate(changed(written, changes), found.name)
    except ConfigError as error:
        raise ConfigError(f"{found.where}: {error}") from None
    for note in translation.notes:
        log.warning("%s: %s", found.where, note)
    values: Values = _with_paths(translation.recipe, Path.cwd())
    return values


def _packaged() -> Traversable:
    return resources.files("auricle").joinpath("recipes")


def _find(name: str, folder: Path) -> _Found:
    """By path if it looks like one, else by name."""
    path = folder / Path(name).expanduser()
    if Path(name).suffix in SUFFIXES or "/" in name or "\\" in name:
        if not path.is_file():
            what = "is a folder, not a recipe" if path.is_dir() else "does not exist"
            raise ConfigError(f"{name} {what}; {_near_names(Path(name).stem)}")
        return _Found(name, path.stem, path, path.resolve().parent)
    if name not in recipe_names():
        raise ConfigError(f"there is no recipe {name!r}; {_near_names(name)}")
    return _Found(name, name, _packaged().joinpath(f"{name}.yaml"), Path.cwd())


def _near_names(name: str) -> str:
    near = difflib.get_close_matches(name, recipe_names(), n=3, cutoff=0.4)
    return f"near to it are {', '.join(near)}" if near else "auricle train --list shows them all"


def _extended(found: _Found, above: tuple[str, ...]) -> Values:
    """The file's values over those that it extends; paths in it made absolute."""
    if str(found.file) in above or len(above) == MAX_CHAIN:
        raise ConfigError(f"{found.where}: extends goes on without end; break the circle")
    written = _read(found)
    parent = written.pop("extends", None)
    values: Values = _with_paths(written, found.folder)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{found.where}: extends is {parent!r}; it takes a recipe's name")
    base = _extended(_find(parent, found.folder), (*above, str(found.file)))
    base.pop("name", None)
    return _merged(base, values)


def _read(found: _Found) -> Values:
    try:
        with found.file.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{found.where} is no text in UTF-8, and so no recipe") from None
    except OSError as error:
        raise ConfigError(f"{found.where}: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{found.where} has more than {MAX_BYTES} bytes; that is no recipe")
    values = _parsed(text, found.where)
    if not isinstance(values, dict):
        raise ConfigError(f"{found.where} holds no mapping of keys to values, and so no recipe")
    return values


def _parsed(text: str, where: str) -> Any:
    """The plain values of one YAML document.

    Aliases are refused, for with them a few lines can mean gigabytes.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                what = "has an alias (*)" if depth <= MAX_DEPTH else "nests too deeply"
                raise ConfigError(f"{where}{_line(event.start_mark)} {what}; write the values out")
        _refuse_doubled(yaml.compose(text, Loader=_Loader), where)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of absurd length
        if isinstance(error, ConfigError):
            raise
        line = _line(getattr(error, "problem_mark", None))
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}{line} is no plain YAML: {problem[:200]}") from None


def _line(mark: Any) -> str:
    return f", line {mark.line + 1}," if mark else ""


def _refuse_doubled(node: yaml.Node | None, where: str) -> None:
    """PyYAML would quietly take the last of two equal keys."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubled(item, where)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = _line(key.start_mark)
            if key.tag != "tag:yaml.org,2002:str":
                raise ConfigError(f"{where}{line} has a key that is no text; put it in quotes")
            if key.value in seen:
                raise ConfigError(f"{where}{line} says {key.value} a second time")
            seen.add(key.value)
            _refuse_doubled(value, where)


def _merged(base: Values, over: Values) -> Values:
    """`over` on top of `base`; a tokenizer that is there displaces one that was to be built."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        displaced = key == "tokenizer" and isinstance(value, dict) and value.get("path")
        if isinstance(before, dict) and isinstance(value, dict) and not displaced:
            value = _merged(before, value)
        merged[key] = value
    return merged


def _override(values: Values, text: str, where: str) -> None:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ConfigError(f"{text!r} is no override; write key=value, as in optimizer.lr=0.01")
    parsed = _with_paths(_parsed(value, f"the value of {name}"), Path.cwd(), name)
    if name == "tokenizer.path" and parsed is not None:
        values["tokenizer"] = {}  # what was to be built
    path = name.split(".")
    node: Any = values
    for i, step in enumerate(path):
        so_far = ".".join(path[:i])
        if isinstance(node, list):
            at: Any = _index(node, step, so_far, where)
        elif isinstance(node, dict):
            at = step
        else:
            raise ConfigError(f"{where}: {so_far} is {node!r}, and has no {step} to set")
        if i == len(path) - 1:
            node[at] = parsed
        elif (node[at] if isinstance(node, list) else node.get(at)) is None:
            node[at] = [] if path[i + 1].isdecimal() else {}
        node = node[at]


def _index(node: list[Any], step: str, name: str, where: str) -> int:
    """The number of an entry, which is added if it is the one behind the last."""
    if not step.isdecimal() or int(step) > len(node):
        raise ConfigError(
            f"{where}: {name}.{step} is no entry of a list of {len(node)}; the next is "
            f"{name}.{len(node)}"
        )
    if int(step) == len(node):
        node.append(None)
    return int(step)


# Where files are named; what may be a name of the hub too is one unless it is there as a file.
_PATHS = re.compile(
    r"tokenizer\.path|augment\.(noise|room)\.manifest"
    r"|data\.(train|validation)\.\d+\.(manifest|tar|cuts)(\.\d+)?"
)
_MAYBE_PATHS = re.compile(r"init_from|data\.(train|validation)\.\d+\.dataset")


def _with_paths(value: Any, folder: Path, name: str = "") -> Any:
    """`value`, which stands at `name`, with relative paths in it made absolute."""
    prefix = f"{name}." if name else ""
    if isinstance(value, dict):
        return {key: _with_paths(item, folder, f"{prefix}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_with_paths(item, folder, f"{prefix}{i}") for i, item in enumerate(value)]
    if not isinstance(value, str) or "://" in value or value.startswith("pipe:"):
        return value
    path = folder / Path(value).expanduser()
    if _PATHS.fullmatch(name) and value:
        return str(path)
    if _MAYBE_PATHS.fullmatch(name) and (value.startswith((".", "~")) or path.exists()):
        return str(path)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
