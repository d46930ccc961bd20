"""A new vocabulary for a model that is there: what is known of its old pieces is kept.

Letters in shapes: V pieces, D width, R durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from auricle.checkpoints import Checkpoint
from auricle.models.asr import ModelConfig
from auricle.tokenizers import SPACE, Tokenizer

# Rows of tokens; for the joint, durations come after them.
HEADS = ("ctc.weight", "ctc.bias", "joint.out.weight", "joint.out.bias")
EMBEDDINGS = ("predictor.embed.", "predictor.embeds.")


def with_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer, seed: int) -> Checkpoint:
    """The checkpoint with another tokenizer, and the rows of its heads and embeddings re-made.

    Rows of pieces that both tokenizers have are copied, as are those of the blank and of a TDT's
    durations. In a head a new piece begins as the mean of the old ones, so that it is neither
    favoured nor ruled out; in an embedding as one drawn like the old ones, to be told from others.

    Args:
        checkpoint: The model; it stays as it is.
        tokenizer: The new one.
        seed: Of what is drawn.
    """
    old = {
        _spelled(piece): i for i, piece in reversed(list(enumerate(checkpoint.tokenizer.pieces)))
    }
    kept = torch.tensor([old.get(_spelled(piece), -1) for piece in tokenizer.pieces])  # [V]
    generator = torch.Generator().manual_seed(seed)
    before = checkpoint.config.vocab_size
    tensors = dict(checkpoint.tensors)
    for name in remade(tensors):
        value, drawn = tensors[name], None if name in HEADS else generator
        tensors[name] = torch.cat([_rows(value[:before], kept, drawn), value[before:]])
    config = _sized(checkpoint.config, len(tokenizer.pieces))
    return replace(checkpoint, config=config, tokenizer=tokenizer, tensors=tensors)


def in_common(old: Tokenizer, new: Tokenizer) -> int:
    """How many pieces of the new tokenizer the old one has too."""
    known = set(map(_spelled, old.pieces))
    return sum(_spelled(piece) in known for piece in new.pieces)


def remade(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the tensors that `with_tokenizer` makes anew."""
    return tuple(name for name in tensors if name in HEADS or name.startswith(EMBEDDINGS))


def _rows(old: Tensor, kept: Tensor, drawn: torch.Generator | None) -> Tensor:
    """Rows [V, ...] for new pieces, those of `kept` from `old`."""
    numbers = old.float()
    made = numbers.mean(0).expand(len(kept), *old.shape[1:]).clone()
    if drawn is not None:
        made += numbers.std(0) * torch.randn(made.shape, generator=drawn)
    known = kept >= 0
    made[known] = numbers[kept[known]]
    return made.to(old.dtype)


def _spelled(piece: str) -> str:
    """Characters spell a space otherwise than sentencepiece does."""
    return SPACE if piece == " " else piece


def _sized(config: ModelConfig, size: int) -> ModelConfig:
    transducer = config.transducer
    if transducer is not None:
        outputs = transducer.joint.n_outputs - config.vocab_size + size
        transducer = replace(
            transducer,
            predictor=replace(transducer.predictor, vocab_size=size),
            joint=replace(transducer.joint, n_outputs=outputs),
        )
    return replace(config, vocab_size=size, transducer=transducer)
