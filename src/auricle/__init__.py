"""Auricle: speech recognition with NVIDIA's open models, without NeMo.

Importing this module costs nothing: torch and the rest arrive with the first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auricle.decoding import Greedy
    from auricle.errors import (
        AudioError,
        AuricleError,
        CheckpointError,
        ConfigError,
        ManifestError,
        MissingExtra,
        ModelNotFound,
        Overloaded,
    )
    from auricle.formats import SubtitleOptions
    from auricle.recognizer import Recognizer, load
    from auricle.streaming.events import Final, Partial
    from auricle.streaming.stream import StreamState
    from auricle.streaming.utterances import Endpointing
    from auricle.training.automodels import (
        AutoModelForCTC,
        AutoModelForRNNT,
        AutoModelForSpeechSeq2Seq,
        AutoModelForTDT,
    )
    from auricle.transcribe import Failure
    from auricle.types import Segment, Token, Transcript, Word

__version__ = "0.1.0"

_HOMES = {
    "auricle.decoding": ("Greedy",),
    "auricle.errors": (
        "AudioError",
        "AuricleError",
        "CheckpointError",
        "ConfigError",
        "ManifestError",
        "MissingExtra",
        "ModelNotFound",
        "Overloaded",
    ),
    "auricle.formats": ("SubtitleOptions",),
    "auricle.recognizer": ("Recognizer", "load"),
    "auricle.streaming.events": ("Final", "Partial"),
    "auricle.streaming.stream": ("StreamState",),
    "auricle.streaming.utterances": ("Endpointing",),
    "auricle.training.automodels": (
        "AutoModelForCTC",
        "AutoModelForRNNT",
        "AutoModelForSpeechSeq2Seq",
        "AutoModelForTDT",
    ),
    "auricle.transcribe": ("Failure",),
    "auricle.types": ("Segment", "Token", "Transcript", "Word"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AudioError",
    "AuricleError",
    "AutoModelForCTC",
    "AutoModelForRNNT",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForTDT",
    "CheckpointError",
    "ConfigError",
    "Endpointing",
    "Failure",
    "Final",
    "Greedy",
    "ManifestError",
    "MissingExtra",
    "ModelNotFound",
    "Overloaded",
    "Partial",
    "Recognizer",
    "Segment",
    "StreamState",
    "SubtitleOptions",
    "Token",
    "Transcript",
    "Word",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'auricle' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
