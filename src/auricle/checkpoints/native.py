"""Auricle's own folder: `config.json`, `model.safetensors`, and the tokenizer's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auricle.checkpoints.checkpoint import Checkpoint, check
from auricle.checkpoints.reading import read_bytes, read_json, read_safetensors
from auricle.checkpoints.writing import folder_beside, write_json, write_safetensors
from auricle.config import fitted, shown, shown_name
from auricle.errors import CheckpointError, ConfigError
from auricle.models.asr import ModelConfig
from auricle.tokenizers import Tokenizer, from_files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ORIGIN = "origin.json"
FORMAT = "auricle"
VERSION = 1


def is_native(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of this format."""
    return config.get("format") == FORMAT


def load_native(path: Path, *, name: str) -> Checkpoint:
    """Read a folder that `save_native` wrote; tensors are views of the mapped file.

    Raises:
        CheckpointError: A file is missing or damaged, or of a newer version.
    """
    config = read_json(path / CONFIG)
    if config.get("version") != VERSION:
        raise CheckpointError(
            f"{path / CONFIG} is of version {shown(config.get('version'))}, and this Auricle reads "
            f"version {VERSION}; upgrade auricle"
        )
    try:
        model = ModelConfig.from_dict(config.get("model", {}))
        tokenizer = _tokenizer(path, config.get("tokenizer", {}))
    except ConfigError as error:
        raise CheckpointError(f"{path / CONFIG}: {error}; fetch it again") from None
    origin = read_json(path / ORIGIN, missing_ok=True)
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


def _tokenizer(path: Path, values: Any) -> Tokenizer:
    spec = fitted(values, Mapping[str, Any], "tokenizer")
    files = fitted(spec.get("files"), tuple[str, ...], "tokenizer.files")
    for file in files:
        if Path(file).name != file:
            raise CheckpointError(
                f"{path / CONFIG} points elsewhere ({shown_name(file)}); do not use it"
            )
    return from_files(spec, {file: read_bytes(path / file) for file in files})
