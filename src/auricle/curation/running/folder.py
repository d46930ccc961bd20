"""The folder of a job: one process at a time, and what must be the same when it goes on.

`curation.json` has the pipeline as resolved, the versions of what ran it, and the choices that
were made once: threads for each worker, and batches that were measured.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from auricle import __version__
from auricle.curation.plan import Plan
from auricle.curation.running.store import STAGES
from auricle.curation.step import Batch
from auricle.errors import ConfigError, MissingExtra
from auricle.files import UNFINISHED, write_atomic

CURATION = "curation.json"
LOCK = "lock"
_PACKAGES = ("torch", "numpy", "av", "onnxruntime", "ctranslate2", "silero-vad")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a job's folder; the system lets go of it when the process ends, however it does.

    Raises:
        ConfigError: Another process holds it, or it is something else than a job's folder.
        MissingExtra: filelock is not installed.
        OSError: It cannot be made.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise MissingExtra("curating needs an extra: pip install 'auricle[curate]'") from None
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose a folder for the output")
    ours = any((folder / name).exists() for name in (LOCK, CURATION, STAGES))
    if folder.is_dir() and not ours and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds something, but no job: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0, thread_local=False):
            yield
    except Timeout:
        raise ConfigError(
            f"another process is at work in {folder}: wait for it, or choose another folder"
        ) from None


def tidy(folder: Path) -> None:
    """Remove what those who were killed had begun to write."""
    for path in folder.rglob(UNFINISHED):
        path.unlink(missing_ok=True)


@dataclass
class Choices:
    """What was chosen once for a job.

    Attributes:
        threads: For each worker.
        budgets: Batches, by stage and kind of device.
    """

    threads: int = 1
    budgets: dict[str, Batch] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Those of a job that has begun; None if none has."""
        path = folder / CURATION
        if not path.exists():
            return None
        try:
            said = json.loads(path.read_bytes())
            budgets = {name: Batch(**batch) for name, batch in said["budgets"].items()}
            return cls(int(said["threads"]), budgets)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError(f"{path} is damaged: remove it, and choices are made anew") from None

    def write(self, folder: Path, plan: Plan, facts: Mapping[str, Any]) -> None:
        """Write them, with all that a reader of the folder may want to know.

        Raises:
            OSError: The disk is full.
        """
        said = {
            "pipeline": plan.to_dict(),
            "versions": _versions(),
            **facts,
            "threads": self.threads,
            "budgets": {
                name: {"items": batch.items, "seconds": batch.seconds}
                for name, batch in sorted(self.budgets.items())
            },
        }
        write_atomic(folder / CURATION, json.dumps(said, ensure_ascii=False, indent=2) + "\n")


def _versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    versions = {"auricle": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
