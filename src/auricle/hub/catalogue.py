"""The catalogue: what published models are called, can do, and may be used for.

Read from `catalogue.yaml` beside this file; knows neither the disk nor the network.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from auricle import config

UNKNOWN_LICENCE = "see the model's page"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One published model.

    Attributes:
        name: The hub id; without an organisation for a model that only NGC has.
        family: The encoder's architecture, or "whisper".
        heads: The output heads, the model's default first.
        languages: ISO 639 codes; ("multi",) for more than a line can hold.
        source: A public document that shows that the model exists.
        licence: As the model's page gave it.
        parameters: In millions.
        download: In MB.
        streaming: Whether it was trained to hear a stream.
        latencies: Milliseconds of audio in a step, as trained.
        sample_rate: In samples per second.
        aliases: Other names that people use.
        version: NGC's, for a model that only NGC has.
        note: What else to know.
    """

    name: str
    family: str
    heads: tuple[str, ...]
    languages: tuple[str, ...]
    source: str = ""
    licence: str = UNKNOWN_LICENCE
    parameters: int | None = None
    download: int | None = None
    streaming: bool = False
    latencies: tuple[int, ...] = ()
    sample_rate: int = 16000
    aliases: tuple[str, ...] = ()
    version: str | None = None
    note: str = ""

    @property
    def on_hub(self) -> bool:
        """Whether it can be fetched by name."""
        return "/" in self.name

    @property
    def page(self) -> str:
        """The model's own page."""
        if self.on_hub:
            return f"https://huggingface.co/{self.name}"
        return f"https://catalog.ngc.nvidia.com/orgs/nvidia/teams/nemo/models/{self.name}"

    @property
    def by_hand(self) -> str:
        """How to get a model that cannot be fetched by name."""
        if self.version is None:
            return f"download its .nemo file from {self.page} and give that file's path"
        return (
            "download https://api.ngc.nvidia.com/v2/models/nvidia/nemo/"
            f"{self.name}/versions/{self.version}/files/{self.name}.nemo and give that file's path"
        )

    def speaks(self, language: str) -> bool:
        """Whether `language` (an ISO 639 code) is, or may be, one of the model's."""
        return language in self.languages or "multi" in self.languages


@functools.cache
def models() -> tuple[CatalogueEntry, ...]:
    """Every entry, in the catalogue's order."""
    return tuple(
        _entry({**_shared(group), **model})
        for group in _document()["groups"]
        for model in group["models"]
    )


def find(name: str) -> CatalogueEntry | None:
    """The entry called `name`: a hub id, a bare name or an alias, whatever the case.

    NVIDIA's models that only NGC has answer to `nvidia/NAME` too.
    """
    entry = _index().get(name.lower())
    if entry is None and name.lower().startswith("nvidia/"):
        entry = _index().get(_bare(name))
    return entry


def nearest(name: str, count: int = 3) -> tuple[str, ...]:
    """The names of the models that `name` may have meant, the likeliest first."""
    if real := _document()["invented"].get(_bare(name)):
        return (real,)
    bare = {_bare(key): entry.name for key, entry in _index().items()}
    close = config.nearest(_bare(name), bare, 4 * count)
    return tuple(dict.fromkeys(bare[key] for key in close))[:count]


def never_published(name: str) -> bool:
    """Whether `name` stands on a published page without ever having been published."""
    return _bare(name) in _document()["invented"]


def foreign(name: str) -> str | None:
    """What `name` is, if it is a published model of a family that is not run here."""
    return {_bare(k): str(v) for k, v in _document()["foreign"].items()}.get(_bare(name))


def _bare(name: str) -> str:
    return name.lower().rpartition("/")[2]


@functools.cache
def _document() -> dict[str, Any]:
    import yaml

    text = resources.files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


@functools.cache
def _index() -> dict[str, CatalogueEntry]:
    """By lower-case name, bare name and alias; the first entry that claims a name has it."""
    index: dict[str, CatalogueEntry] = {}
    for entry in models():
        for key in (entry.name, _bare(entry.name), *entry.aliases):
            index.setdefault(key.lower(), entry)
    return index


def _shared(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("about", "models")}


def _entry(values: Mapping[str, Any]) -> CatalogueEntry:
    frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    entry = CatalogueEntry(**frozen)
    return entry if entry.source else replace(entry, source=entry.page)
