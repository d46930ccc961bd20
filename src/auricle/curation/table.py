"""The names that pipelines may say, and where each is to be found: a closed list.

Nothing is imported before a pipeline asks for it. A name is a class, a frozen dataclass whose
fields are its options; `Class.field` says that what stands behind the name is that one field.
A class may name fields that hold paths, which start from the pipeline's folder: `paths`, and
`maybe_paths` where a value is a path only if there is such a file, or it starts with `.` or `~`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, NamedTuple

from auricle.config import hint, shown
from auricle.errors import ConfigError

_STEPS = "auricle.curation.steps."

# Subclasses of `Step` and of `WholeStep`.
STEPS = {
    "align": _STEPS + "align:Align",
    "audio_language": _STEPS + "audio_language:AudioLanguage",
    "charset": _STEPS + "charset:Charset",
    "convert": _STEPS + "convert:Convert",
    "cut": _STEPS + "cut:Cut",
    "filter": _STEPS + "filter:Filter.conditions",
    "fingerprint": _STEPS + "duplicates:Fingerprint",
    "hallucination": _STEPS + "hallucination:Hallucination",
    "normalise": _STEPS + "normalise:Normalise",
    "probe": _STEPS + "probe:Probe",
    "rates": _STEPS + "rates:Rates",
    "replace": _STEPS + "replace:Replace",
    "segment": _STEPS + "segment:Segment",
    "select": _STEPS + "select:Select",
    "split": _STEPS + "split:Split",
    "text_language": _STEPS + "text_language:TextLanguage",
    "transcribe": _STEPS + "transcribe:Transcribe",
    "trim": _STEPS + "trim:Trim",
    "vote": _STEPS + "vote:Vote",
    "wer": _STEPS + "wer:Wer",
}

# Subclasses of `Composite`: they stand for several steps.
COMPOSITES = {
    "cascade": _STEPS + "cascade:Cascade",
    "duplicates": _STEPS + "duplicates:Duplicates",
    "ensemble": _STEPS + "ensemble:Ensemble",
}

# Subclasses of `readers.Reader`.
READERS = {
    "cuts": "auricle.curation.readers:Cuts",
    "dataset": "auricle.curation.readers:Dataset",
    "folder": "auricle.curation.readers:Folder",
    "manifest": "auricle.curation.readers:Manifest",
    "tar": "auricle.curation.readers:Tar",
}

# Subclasses of `writers.Writer`.
WRITERS = {
    "huggingface": "auricle.curation.writers:HuggingFace",
    "lhotse": "auricle.curation.writers:Lhotse",
    "manifest": "auricle.curation.writers:Manifest",
    "tar": "auricle.curation.writers:Tar",
}


class Entry(NamedTuple):
    """What a name stands for."""

    kind: type[Any]
    field: str | None = None  # which takes the whole of what stands behind the name

    def options(self, said: Any) -> Mapping[str, Any]:
        """The options as a mapping of fields, of what a pipeline says behind the name.

        What is no mapping is the value of the first field: `manifest: rows.jsonl`.
        """
        if self.field is not None:
            return {self.field: said}
        if said is None:
            return {}
        names = [f.name for f in fields(self.kind)]
        return said if isinstance(said, Mapping) or not names else {names[0]: said}


def found(name: str, table: Mapping[str, str], *, where: str, what: str = "step") -> Entry:
    """What a name of one of the tables stands for; imports its module.

    Raises:
        ConfigError: It is in none; names the nearest that is.
    """
    if name not in table:
        raise ConfigError(f"{where}: {shown(name)} is no {what}; {hint(name, table)}")
    module, _, place = table[name].partition(":")
    kind, _, field = place.partition(".")
    return Entry(getattr(import_module(module), kind), field or None)
