"""`load` reads any format into a `Checkpoint`, `save` writes one; each format has its own file."""

from __future__ import annotations

from pathlib import Path

from auricle.checkpoints.adapters import CONFIG as ADAPTER_CONFIG
from auricle.checkpoints.adapters import RUN_ADAPTER
from auricle.checkpoints.checkpoint import Checkpoint
from auricle.checkpoints.huggingface import load_huggingface, save_huggingface
from auricle.checkpoints.native import is_native, load_native, save_native
from auricle.checkpoints.nemo import load_nemo, save_nemo
from auricle.checkpoints.nemo_archive import CONFIG as NEMO_CONFIG
from auricle.checkpoints.reading import read_json
from auricle.checkpoints.whisper_model import WhisperCheckpoint, save_whisper
from auricle.checkpoints.writing import RUN_MODEL
from auricle.config import shown_name
from auricle.errors import CheckpointError, ConfigError, ModelNotFound

FORMATS = ("auricle", "nemo", "huggingface")


def load(path: Path, *, name: str | None = None) -> Checkpoint:
    """Read a `.nemo` file or its unpacked folder, a Hugging Face folder, or Auricle's own.

    Of the folder of a training it is the best model so far.

    Args:
        path: The file or folder; its content tells the format.
        name: What to call the model; by default the file's or folder's name.

    Raises:
        ModelNotFound: There is nothing at `path`.
        CheckpointError: Damaged, hostile, incomplete, or of a family that is not run.
    """
    name = name or (path.stem if path.suffix == ".nemo" else path.resolve().name)
    if not path.exists():
        raise ModelNotFound(f"{path} does not exist; check the path, or give the model's hub name")
    if not path.is_dir() and not path.is_file():
        raise CheckpointError(f"{path} is a pipe or a device; give the file or folder of a model")
    if path.is_file() or (path / NEMO_CONFIG).exists():
        return load_nemo(path, name=name)
    if (path / ADAPTER_CONFIG).exists() and not (path / "config.json").exists():
        raise CheckpointError(_adapter(path))
    if (path / "config.json").exists():
        if is_native(read_json(path / "config.json")):
            return load_native(path, name=name)
        return load_huggingface(path, name=name)
    if (path / RUN_MODEL / "config.json").exists():
        return load_native(path / RUN_MODEL, name=name)
    archives = sorted(path.glob("*.nemo")) or [c.parent for c in path.glob(f"*/{NEMO_CONFIG}")]
    if len(archives) == 1:
        return load_nemo(archives[0], name=name)
    if (path / RUN_ADAPTER / ADAPTER_CONFIG).exists():
        raise CheckpointError(_adapter(path / RUN_ADAPTER))
    if (path / "recipe.yaml").exists():
        raise CheckpointError(f"{path} is a run that has no model yet; wait for a validation")
    found = f"{len(archives)} .nemo files" if archives else "neither config.json nor a .nemo file"
    raise CheckpointError(f"{path} holds {found}; name the file or folder of one model")


def _adapter(path: Path) -> str:
    base = read_json(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    named = shown_name(base) if isinstance(base, str) and base else "the model it was made for"
    return (
        f"{path} is an adapter (LoRA), not a model; load {named} and give the adapter to "
        "with_adapter, or put it into the weights with 'auricle convert --merge'"
    )


def save(
    checkpoint: Checkpoint | WhisperCheckpoint,
    path: Path,
    *,
    format: str | None = None,
    head: str | None = None,
) -> None:
    """Write `checkpoint`; it appears whole or not at all.

    Args:
        checkpoint: What to write.
        path: A file for NeMo, a folder for the others.
        format: One of `FORMATS`; by default `nemo` for a name that ends so, else `auricle`. A
            Whisper is written as `huggingface`.
        head: For `huggingface`, which holds one head: the one of a hybrid to write.

    Raises:
        ConfigError: No such format or head.
        CheckpointError: The model has an option that the format has no form of.
    """
    if isinstance(checkpoint, WhisperCheckpoint):
        if format not in (None, "huggingface"):
            raise ConfigError(f"a Whisper is written as huggingface, not as {format}")
        save_whisper(checkpoint, path)
        return
    format = format or ("nemo" if path.suffix == ".nemo" else "auricle")
    if head is not None and format != "huggingface":
        raise ConfigError(f"head is only for huggingface; {format} keeps every head of the model")
    if format == "nemo":
        save_nemo(checkpoint, path)
    elif format == "huggingface":
        save_huggingface(checkpoint, path, head=head)
    elif format == "auricle":
        save_native(checkpoint, path)
    else:
        raise ConfigError(f"format {format!r} is not one of {', '.join(FORMATS)}")
