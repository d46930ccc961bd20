"""Whisper's networks, which are those of transformers: opened to be trained, and written again.

All that lies beside the weights in a Hugging Face folder goes along untouched, so that what is
written is as complete as what was read. Heavy packages are imported where they are used.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.checkpoints.reading import read_json
from auricle.checkpoints.whisper import cached_huggingface, check_huggingface, folder_kind
from auricle.checkpoints.whisper_tensors import EMBEDDING_TENSOR
from auricle.checkpoints.whisper_tokenizer import read_tokenizer, special_ids
from auricle.checkpoints.writing import folder_beside, write_json, write_safetensors
from auricle.errors import CheckpointError, MissingExtra, first_line

if TYPE_CHECKING:
    from torch import Tensor

POSITIONS = "model.encoder.embed_positions.weight"
HEAD = "proj_out.weight"  # the embedding once more, in every Whisper that was published
_NOT_BESIDE = ("config.json", "model.safetensors.index.json")
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class WhisperCheckpoint:
    """A Whisper at rest: `config` is its `config.json`, `beside` the other small files by name.

    `tensors` have Hugging Face's names; `fixed` are those of them that no training may have cut or
    changed, which are written in their place.
    """

    name: str
    config: Mapping[str, Any]
    beside: Mapping[str, bytes]
    tensors: Mapping[str, Tensor]
    fixed: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def tokenizer(self) -> str:
        """The text of `tokenizer.json`."""
        return self.beside["tokenizer.json"].decode()

    @property
    def special(self) -> dict[str, int]:
        """Every special token but the timestamps, by its spelling."""
        return special_ids(self.tokenizer)

    @property
    def generation(self) -> dict[str, Any]:
        """How it is to be decoded; old folders say it in `config.json`."""
        own = self.beside.get("generation_config.json")
        return dict(self.config) if own is None else dict(json.loads(own))

    def fingerprint(self) -> str:
        """Tells models apart: a digest of the configuration and of some numbers of every tensor."""
        from auricle.checkpoints.checkpoint import fingerprint

        return fingerprint(self.config, self.tensors)


def load_whisper(path: Path, *, name: str) -> WhisperCheckpoint:
    """Read a Whisper folder of either form; one of CTranslate2 is converted once, into the cache.

    Raises:
        CheckpointError: No Whisper, or a damaged one.
        MissingExtra: transformers is not installed.
    """
    from auricle.checkpoints.checkpoint import check_finite

    kind = folder_kind(path)
    if kind is None:
        raise CheckpointError(
            f"{path} holds no Whisper, neither in CTranslate2 nor in Hugging Face form"
        )
    folder = cached_huggingface(path) if kind == "ctranslate2" else path
    model = open_whisper(folder)
    small = [f for end in ("*.json", "*.txt") for f in folder.glob(end) if f.is_file()]
    beside = {
        file.name: file.read_bytes()
        for file in sorted(small)
        if file.name not in _NOT_BESIDE and file.stat().st_size <= _MOST_BYTES
    }
    beside["tokenizer.json"] = read_tokenizer(folder).encode()
    tensors = model.state_dict()
    check_finite(tensors, name)
    return WhisperCheckpoint(name, read_json(folder / "config.json"), beside, tensors)


def open_whisper(folder: Path) -> Any:
    """The networks of a Hugging Face folder, float32, in training mode and without dropped layers.

    The encoder's positions are sines and stay as they are.

    Raises:
        CheckpointError: What is there is no Whisper.
        MissingExtra: transformers is not installed.
    """
    networks, _ = _transformers()
    import torch

    try:
        check_huggingface(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{folder} is not a readable Whisper model: {error}") from None
    try:
        with quiet():
            model = networks.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
    except Exception as error:  # whatever a damaged folder makes transformers raise
        raise CheckpointError(
            f"{folder} is not a readable Whisper model: {first_line(error)}"
        ) from None
    return _trainable(model)


def build_whisper(config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Any:
    """The networks that `config` describes, with these tensors or with random ones.

    Raises:
        CheckpointError: The tensors are not those of such a model.
        MissingExtra: transformers is not installed.
    """
    networks, configuration = _transformers()
    import torch

    with quiet():
        model = networks(configuration.from_dict({**config, "dtype": "float32"}))
    if tensors is not None:
        given = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        if model.config.tie_word_embeddings:
            given.setdefault(HEAD, given[EMBEDDING_TENSOR])
        try:
            model.load_state_dict(given)
        except RuntimeError as error:
            raise CheckpointError(f"not the weights of this Whisper: {error}") from None
        model.tie_weights()
    return _trainable(model)


def save_whisper(checkpoint: WhisperCheckpoint, path: Path) -> None:
    """Write a Hugging Face folder; it appears whole or not at all."""
    tensors = {**checkpoint.tensors, **checkpoint.fixed}
    if checkpoint.config.get("tie_word_embeddings", True):
        tensors.pop(HEAD, None)
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    with folder_beside(path) as folder:
        write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
        for name, content in checkpoint.beside.items():
            (folder / name).write_bytes(content)
        write_json(
            folder / "config.json", {**checkpoint.config, "dtype": dtype, "torch_dtype": dtype}
        )


def shortened(model: Any, positions: int) -> None:
    """Cut the encoder's positions, so that it hears a shorter window than 30 s.

    What is trained so is written with all of them: each position means the same as before.
    """
    import torch

    encoder = model.model.encoder
    table = encoder.embed_positions.weight[:positions].detach().clone()
    encoder.embed_positions = torch.nn.Embedding(
        len(table), table.shape[1], _weight=table, _freeze=True
    )
    model.config.max_source_positions = encoder.max_source_positions = len(table)


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, warnings or progress bars: what stderr says is the caller's choice."""
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _transformers() -> tuple[Any, Any]:
    try:
        from transformers import WhisperConfig, WhisperForConditionalGeneration
    except ImportError:
        raise MissingExtra(
            "training a Whisper needs an extra: pip install 'auricle[finetune]'"
        ) from None
    return WhisperForConditionalGeneration, WhisperConfig


def _trainable(model: Any) -> Any:
    # `from_pretrained` thaws what `__init__` has frozen.
    model.model.encoder.embed_positions.requires_grad_(False)
    # Masks are the recipe's, and a dropped layer would leave ranks out of step.
    model.config.apply_spec_augment = False
    for part in (model.model.encoder, model.model.decoder):
        part.layerdrop = 0.0
    return model.train()
