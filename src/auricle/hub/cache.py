"""The hub's local cache: is a model there, and is it what the hub sent?

Reads the layout that huggingface_hub documents (refs, snapshots, blobs) without importing it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from auricle.errors import CheckpointError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def cache_folder() -> Path:
    """Where the hub library keeps its repositories; its variables are read at each call."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HOME", default)).expanduser() / "hub"


def cached(repository: str, *, revision: str | None = None) -> Path | None:
    """The `.nemo` file or folder in the cache's copy of `repository`; None if it is not complete.

    Args:
        repository: The hub id, "org/name".
        revision: A branch, tag or commit; None is the main branch.
    """
    folder = cache_folder() / f"models--{repository.replace('/', '--')}"
    commit = revision or ""
    # A name longer than any file system takes would be an OSError.
    if len(commit) < 256 and (reference := folder / "refs" / (revision or "main")).is_file():
        commit = reference.read_text(encoding="utf-8", errors="replace").strip()
    if not _COMMIT.fullmatch(commit):
        return None
    return _model_in(folder / "snapshots" / commit, repository)


def archive_among(names: Sequence[str], repository: str) -> str | None:
    """The one `.nemo` to use: the repository's namesake, or the only one there is."""
    archives = [name for name in names if name.endswith(".nemo") and "/" not in name]
    usual = f"{repository.rpartition('/')[2]}.nemo"
    if usual in archives:
        return usual
    return archives[0] if len(archives) == 1 else None


def check(path: Path) -> list[str]:
    """Compare a cached model's files with the sums that the hub gave; the names of those checked.

    The cache names a file by its sum: SHA-256 for large files, git's SHA-1 for small ones. Files
    outside the cache have no known sum and are not listed.

    Raises:
        CheckpointError: A file's content is not what the hub sent.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [file.name for file in files if _check(file)]


def _model_in(snapshot: Path, repository: str) -> Path | None:
    # A link whose blob is still being fetched points nowhere, and exists() says so.
    names = {p.name for p in snapshot.glob("*") if p.exists()}
    if archive := archive_among(sorted(names), repository):
        return snapshot / archive
    weights = next((name for name in WEIGHTS if name in names), None)
    if weights is None or "config.json" not in names:
        return None
    if weights.endswith(".index.json") and not _shards(snapshot / weights) <= names:
        return None
    return snapshot


def _shards(index: Path) -> set[str | None]:
    """The files that a map of weights names; None is among them where it is no such map."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name if isinstance(name, str) else None for name in places.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {None}


def _check(file: Path) -> bool:
    blob = file.resolve()
    expected = blob.name
    if blob.parent.name != "blobs" or not _SUM.fullmatch(expected):
        return False
    git = len(expected) == 40
    digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size) if git else hashlib.sha256()
    with blob.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise CheckpointError(
            f"{file} is damaged: its sum is {digest.hexdigest()[:12]}..., the hub's is "
            f"{expected[:12]}...; delete {blob} and pull again"
        )
    return True
