"""Auricle's own folder: `config.json`, `model.safetensors`, and the tokenizer's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from auricle.checkpoints.checkpoint import Checkpoint, check
from auricle.checkpoints.writing import folder_beside
from auricle.errors import CheckpointError, ConfigError, first_line
from auricle.models.asr import ModelConfig
from auricle.tokenizers import Tokenizer, from_files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ORIGIN = "origin.json"
FORMAT = "auricle"
VERSION = 1
MAX_CONFIG = 32 * 2**20  # bytes


def is_native(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of this format."""
    return config.get("format") == FORMAT


def load_native(path: Path, *, name: str) -> Checkpoint:
    """Read a folder that `save_native` wrote; tensors are views of the mapped file.

    Raises:
        CheckpointError: a file is missing or damaged, or of a newer version.
    """
    config = read_json(path / CONFIG)
    if config.get("version") != VERSION:
        raise CheckpointError(
            f"{path / CONFIG} is of version {config.get('version')}, and this Auricle reads "
            f"version {VERSION}; upgrade auricle"
        )
    try:
        model = ModelConfig.from_dict(config["model"])
        tokenizer = _tokenizer(path, config["tokenizer"])
    except KeyError as error:
        raise CheckpointError(f"{path / CONFIG}: {error} is missing; fetch it again") from None
    except ConfigError as error:
        raise CheckpointError(f"{path / CONFIG}: {error}; fetch it again") from None
    origin = read_json(path / ORIGIN) if (path / ORIGIN).exists() else {}
    checkpoint = Checkpoint(
        config=model,
        tokenizer=tokenizer,
        tensors=read_safetensors(path / WEIGHTS),
        name=name,
        origin=origin,
    )
    check(checkpoint)
    return checkpoint


def save_native(checkpoint: Checkpoint, path: Path) -> None:
    """Write the folder; it appears whole or not at all, and equal checkpoints give equal bytes.

    Raises:
        CheckpointError: `path` is there already and is no checkpoint folder.
    """
    check(checkpoint)
    files = checkpoint.tokenizer.files()
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": checkpoint.config.to_dict(),
        "tokenizer": {**checkpoint.tokenizer.spec, "files": sorted(files)},
    }
    with folder_beside(path) as folder:
        for file, content in files.items():
            (folder / file).write_bytes(content)
        write_json(folder / CONFIG, config)
        if checkpoint.origin:
            write_json(folder / ORIGIN, checkpoint.origin)
        write_safetensors(folder / WEIGHTS, checkpoint.tensors)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: missing, not JSON, or no object.
    """
    try:
        value = json.loads(_read(path))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is no JSON; fetch it again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch it again")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON, in the order of the keys."""
    path.write_bytes((json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors as views of the mapped file.

    Raises:
        CheckpointError: missing, truncated, or not of the format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or damaged; fetch it again ({first_line(error)})"
        ) from None


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Tensors that share memory are written apart: the format has no aliases."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    apart = {}
    for key, value in tensors.items():
        shared = value.data_ptr() in seen
        seen.add(value.data_ptr())
        apart[key] = value.clone() if shared else value.contiguous()
    save_file(apart, path, metadata=dict(metadata) if metadata else None)


def _tokenizer(path: Path, spec: Mapping[str, Any]) -> Tokenizer:
    for file in spec["files"]:
        if Path(file).name != file:
            raise CheckpointError(f"{path / CONFIG} points elsewhere ({file}); do not use it")
    return from_files(spec, {file: _read(path / file) for file in spec["files"]})


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    if path.name in (CONFIG, ORIGIN) and path.stat().st_size > MAX_CONFIG:
        raise CheckpointError(f"{path} is too large for what it is; do not use it")
    return path.read_bytes()
