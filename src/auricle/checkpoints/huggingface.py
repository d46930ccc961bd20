"""Hugging Face folders of the Parakeet and Nemotron streaming families, read and written.

`config.json`, safetensors (sharded or not), `tokenizer.json`, and the feature extractor's numbers
in `processor_config.json` or `preprocessor_config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from auricle.checkpoints.checkpoint import Checkpoint, check, feature_tensors, plain
from auricle.checkpoints.huggingface_config import (
    compose_config,
    compose_generation,
    compose_processor,
    translate_config,
)
from auricle.checkpoints.huggingface_keys import from_huggingface, to_huggingface
from auricle.checkpoints.reading import (
    read_bytes,
    read_json,
    read_pickle,
    read_safetensors,
    shards,
)
from auricle.checkpoints.sections import Section
from auricle.checkpoints.tokenizer_json import to_tokenizer_json
from auricle.checkpoints.writing import folder_beside, write_json, write_safetensors
from auricle.errors import CheckpointError, ConfigError
from auricle.tokenizers import HFTokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
TOKENIZER = "tokenizer.json"
PROCESSORS = ("processor_config.json", "preprocessor_config.json")


def load_huggingface(path: Path, *, name: str) -> Checkpoint:
    """Read a folder as `save_pretrained` writes it.

    Raises:
        CheckpointError: A file is missing or damaged, a family that is not run, or a key or tensor
            that has no place.
    """
    values = read_json(path / CONFIG)
    translation = translate_config(Section(values, "", str(path / CONFIG)), _processor(path))
    tokenizer = read_bytes(path / TOKENIZER)
    config = translation.config
    tensors = from_huggingface(read_weights(path), config, blank=translation.blank)
    checkpoint = Checkpoint(
        config=config,
        tokenizer=HFTokenizer(tokenizer, size=config.vocab_size, blank=translation.blank),
        tensors={**feature_tensors(config), **tensors},
        name=name,
    )
    check(checkpoint)
    return checkpoint


def save_huggingface(checkpoint: Checkpoint, path: Path, *, head: str | None = None) -> None:
    """Write a folder that transformers loads.

    Args:
        checkpoint: What to write.
        path: The folder; it appears whole or not at all.
        head: Which head of a hybrid to write: the format holds one.

    Raises:
        ConfigError: `head` is not one of the model's.
        CheckpointError: The model has an option that transformers has no form of.
    """
    check(checkpoint)
    config = checkpoint.config
    if head is not None and head not in config.heads:
        raise ConfigError(f"head {head!r} is not one of {', '.join(config.heads)}")
    head = head or config.default_head
    blank = "<pad>" if head == "ctc" else "<blank>"
    values = compose_config(config, head)
    tokenizer = to_tokenizer_json(checkpoint.tokenizer, blank)
    processor = compose_processor(config, head, blank)
    state = to_huggingface(checkpoint.tensors, config, head)
    values["dtype"] = str(state["encoder.subsampling.linear.weight"].dtype).removeprefix("torch.")
    with folder_beside(path) as folder:
        write_json(folder / CONFIG, values)
        write_json(folder / GENERATION, compose_generation(values))
        write_json(folder / PROCESSORS[0], processor)
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "ParakeetTokenizer",
                "processor_class": processor["processor_class"],
                "unk_token": "<unk>",
                "pad_token": blank,
                "clean_up_tokenization_spaces": False,
            },
        )
        (folder / TOKENIZER).write_bytes(tokenizer)
        write_safetensors(folder / WEIGHTS, state, metadata={"format": "pt"})


def _processor(path: Path) -> Mapping[str, Any]:
    """The processor's values, the feature extractor's under `feature_extractor`."""
    for file in PROCESSORS:
        if (path / file).is_file():
            values = read_json(path / file)
            return values if "feature_extractor" in values else {"feature_extractor": values}
    return {}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, sharded or not.

    Raises:
        CheckpointError: There are none, or they are damaged or more than tensors.
    """
    if (path / WEIGHTS).exists():
        return read_safetensors(path / WEIGHTS)
    if (path / INDEX).exists():
        state: dict[str, Tensor] = {}
        for shard in shards(path / INDEX):
            state.update(read_safetensors(path / shard))
        return state
    if (path / PICKLED).exists():
        return plain(read_pickle(path / PICKLED), str(path / PICKLED))
    raise CheckpointError(f"{path} has no {WEIGHTS}; fetch the checkpoint again")
