"""Models at rest: the only room where NeMo's and Hugging Face's names are known.

`load` reads any format into a `Checkpoint`, `build` makes the networks, `save` writes a format.
The names are imported at their first use, because Whisper's files need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auricle.checkpoints.checkpoint import Checkpoint, build, check
    from auricle.checkpoints.storage import FORMATS, load, save

__all__ = ["FORMATS", "Checkpoint", "build", "check", "load", "save"]


def __getattr__(name: str) -> Any:
    """Import a name of this room at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "storage" if name in ("FORMATS", "load", "save") else "checkpoint"
    return getattr(import_module(f"{__name__}.{home}"), name)
