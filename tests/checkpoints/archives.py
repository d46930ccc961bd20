"""Small `.nemo` files put together by hand, well-formed and not."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from auricle.checkpoints.nemo_archive import CONFIG, WEIGHTS, open_archive


def pickled(state: object, *, legacy: bool = False) -> bytes:
    """As `torch.save` writes it, today or before torch 1.6."""
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def tar_of(members: Mapping[str, bytes], *, prefix: str = "./") -> bytes:
    """A plain tar; names get `prefix`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as tar:
        for name, content in members.items():
            item = tarfile.TarInfo(prefix + name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


def with_item(item: tarfile.TarInfo) -> bytes:
    """A plain tar of one member without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as tar:
        tar.addfile(item)
    return buffer.getvalue()


def members_of(path: Path) -> dict[str, bytes]:
    """All members of a `.nemo`, by name."""
    with open_archive(path) as archive:
        return {name: archive.read(name) for name in archive.names}


def rewritten(path: Path, target: Path, **changes: bytes | None) -> Path:
    """A copy of `path` with its config or weights replaced, or left out where None."""
    members = members_of(path)
    names = {"config": CONFIG, "weights": WEIGHTS}
    for key, content in changes.items():
        if content is None:
            del members[names[key]]
        else:
            members[names[key]] = content
    target.write_bytes(tar_of(members))
    return target


def gzipped(content: bytes) -> bytes:
    """The form of old archives."""
    return gzip.compress(content, mtime=0)


def state_of(path: Path) -> dict[str, Tensor]:
    """The weights of a `.nemo`, in NeMo's names."""
    with open_archive(path) as archive:
        return {key: value.clone() for key, value in archive.weights().items()}
