"""NeMo's `.nemo`: read into a checkpoint, and written so that NeMo itself loads it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auricle.checkpoints.checkpoint import Checkpoint, check, feature_tensors
from auricle.checkpoints.nemo_archive import CONFIG, NemoArchive, open_archive, write_archive
from auricle.checkpoints.nemo_compose import compose
from auricle.checkpoints.nemo_config import Translation, translate
from auricle.checkpoints.nemo_families import CTC_CLASSES, family_of
from auricle.checkpoints.nemo_keys import from_nemo, to_nemo
from auricle.checkpoints.nemo_tokenizer import read_tokenizer, write_tokenizer
from auricle.checkpoints.nemo_yaml import fed_from, read_yaml, write_yaml
from auricle.checkpoints.sections import Section
from auricle.models.asr import ModelConfig
from auricle.tokenizers import CharTokenizer, Tokenizer, WordPieceTokenizer


def load_nemo(path: Path, *, name: str) -> Checkpoint:
    """Read a `.nemo` file, or the folder one was unpacked into.

    Raises:
        CheckpointError: Damaged, hostile, incomplete, of a family that is not run, or with a key
            or tensor that has no place; the message names it.
    """
    with open_archive(path) as archive:
        content = archive.read(CONFIG)
        values = read_yaml(content, f"{path}: {CONFIG}")
        where = f"{path}: {CONFIG}"
        family_of(values, where)  # before the weights: a refusal should be quick and say why
        translation, tokenizer = _translated(values, where, archive, fed_from(content))
        tensors = from_nemo(archive.weights())
    checkpoint = Checkpoint(
        config=translation.config,
        tokenizer=tokenizer,
        tensors=_completed(tensors, translation.config),
        name=name,
        origin={"nemo": values},
    )
    check(checkpoint)
    return checkpoint


def save_nemo(checkpoint: Checkpoint, path: Path) -> None:
    """Write a `.nemo` that NeMo restores and transcribes with; equal checkpoints, equal bytes.

    Raises:
        CheckpointError: The tokenizer, or an option of the model, has no form in NeMo.
    """
    check(checkpoint)
    section, artefacts = write_tokenizer(checkpoint.tokenizer)
    values = compose(checkpoint.config, checkpoint.tokenizer, section, checkpoint.origin)
    state = to_nemo(checkpoint.tensors, checkpoint.config)
    predictor = checkpoint.config.transducer and checkpoint.config.transducer.predictor
    if predictor and not predictor.blank_as_pad:
        state = {k: v[:-1] if ".prediction.embed" in k else v for k, v in state.items()}
    write_archive(path, write_yaml(values), _compact(state), artefacts)


def _translated(
    values: Mapping[str, Any], where: str, archive: NemoArchive, feeds: Collection[str]
) -> tuple[Translation, Tokenizer]:
    section = Section(values, "", where).section("tokenizer")
    if not section.values:
        translation = translate(values, where, vocab_size=None, feeds=feeds)
        return translation, CharTokenizer(translation.labels)
    tokenizer = read_tokenizer(section, archive)
    if isinstance(tokenizer, WordPieceTokenizer):
        tokenizer = _with_added_pieces(tokenizer, values, where)
    size = len(tokenizer.pieces)
    return translate(values, where, vocab_size=size, feeds=feeds), tokenizer


def _with_added_pieces(
    tokenizer: WordPieceTokenizer, values: Mapping[str, Any], where: str
) -> WordPieceTokenizer:
    """NeMo appends BERT's special tokens that `vocab.txt` lacks; its own list then has them."""
    ctc = family_of(values, where) in CTC_CLASSES
    root = Section(values, "", where)
    section, key = (root.section("decoder"), "vocabulary") if ctc else (root, "labels")
    listed = section.take(key, (), tuple[Any, ...])
    known = len(tokenizer.pieces)
    if listed and tuple(listed[:known]) == tokenizer.pieces:
        return WordPieceTokenizer([str(piece) for piece in listed])
    return tokenizer


def _completed(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Add what older files leave out and what follows from the rest."""
    if not {"features.window", "features.filterbank"} <= tensors.keys():
        tensors = {**feature_tensors(config), **tensors}
    predictor = config.transducer and config.transducer.predictor
    if predictor and not predictor.blank_as_pad:
        for key in [k for k in tensors if k.startswith("predictor.embed") and tensors[k].ndim]:
            row = torch.zeros_like(tensors[key][:1])
            tensors[key] = torch.cat([tensors[key], row])  # the blank's row: NeMo feeds zeros
    return tensors


def _compact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with a storage of its own size, for torch saves whole storages; in one order."""
    return {
        key: value.contiguous()
        if value.untyped_storage().nbytes() == value.nbytes
        else value.clone(memory_format=torch.contiguous_format)
        for key, value in sorted(state.items())
    }
