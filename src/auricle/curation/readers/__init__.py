"""Where items come from: manifests, folders, tars, data sets, cuts. Nothing of them is lost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auricle.curation.readers.cuts import Cuts
    from auricle.curation.readers.dataset import Dataset
    from auricle.curation.readers.folder import Folder
    from auricle.curation.readers.manifest import Manifest
    from auricle.curation.readers.reader import BadRow, Reader
    from auricle.curation.readers.tar import Tar

__all__ = ["BadRow", "Cuts", "Dataset", "Folder", "Manifest", "Reader", "Tar"]


def __getattr__(name: str) -> Any:
    """Import a reader where it is asked for: some need NumPy, and the driver does not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "reader" if name == "BadRow" else name.lower()
    return getattr(import_module(f"{__name__}.{home}"), name)
