"""Recipes from YAML files and `key=value` overrides; what is not in the schema is refused.

A recipe is found by the name of a file in `auricle/recipes`, or by its path. It may say `extends:`
with another one's name or path: then it only says what differs. Mappings are merged key by key,
anything else takes the place of what was there. What contradicts itself `consistency` refuses.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from auricle.config import nearest
from auricle.errors import ConfigError
from auricle.training.automodel import changed, is_automodel, translate
from auricle.training.consistency import check_recipe
from auricle.training.documents import (
    Dumper,
    Values,
    parsed,
    read_document,
    set_value,
    split_override,
)
from auricle.training.recipe import Recipe
from auricle.training.schema import validated

MAX_CHAIN = 8
SUFFIXES = (".yaml", ".yml")

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
    return str(yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100))


def _translated(found: _Found, changes: Sequence[str]) -> Values | None:
    """What a recipe of AutoModel's says, in our keys; None where it is none of its."""
    written = read_document(found.file, where=found.where, what="recipe")
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
    near = nearest(name, recipe_names(), 3)
    return f"near to it are {', '.join(near)}" if near else "auricle train --list shows them all"


def _extended(found: _Found, above: tuple[str, ...]) -> Values:
    """The file's values over those that it extends; paths in it made absolute."""
    if str(found.file) in above or len(above) == MAX_CHAIN:
        raise ConfigError(f"{found.where}: extends goes on without end; break the circle")
    written = read_document(found.file, where=found.where, what="recipe")
    parent = written.pop("extends", None)
    values: Values = _with_paths(written, found.folder)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{found.where}: extends is {parent!r}; it takes a recipe's name")
    base = _extended(_find(parent, found.folder), (*above, str(found.file)))
    base.pop("name", None)
    return _merged(base, values)


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
    name, value = split_override(text, "optimizer.lr=0.01")
    setting = _with_paths(parsed(value, f"the value of {name}"), Path.cwd(), name)
    if name == "tokenizer.path" and setting is not None:
        values["tokenizer"] = {}  # what was to be built
    set_value(values, name, setting, where=where)


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
    try:
        path = folder / Path(value).expanduser()
    except RuntimeError:  # a home that nobody has
        return value
    if _PATHS.fullmatch(name) and value:
        return str(path)
    if _MAYBE_PATHS.fullmatch(name) and (value.startswith((".", "~")) or _exists(path)):
        return str(path)
    return value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no name that a file can have
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
