"""Where items go: manifests, tars, Hugging Face data sets, Lhotse. Whole or not at all."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auricle.curation.writers.huggingface import HuggingFace
    from auricle.curation.writers.lhotse import Lhotse
    from auricle.curation.writers.manifest import Manifest
    from auricle.curation.writers.tar import Tar
    from auricle.curation.writers.writer import Writer

__all__ = ["HuggingFace", "Lhotse", "Manifest", "Tar", "Writer"]


def __getattr__(name: str) -> Any:
    """Import a writer where it is asked for: some need NumPy, and the driver does not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)
