"""A new tokenizer for a model that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from auricle.checkpoints import Checkpoint, build, load, save
from auricle.models.asr import ASR
from auricle.tokenizers import CharTokenizer, SentencePieceTokenizer
from auricle.training.recipe import TokenizerRecipe
from auricle.training.tokenizing import build as build_tokenizer
from auricle.training.vocabulary import in_common, with_tokenizer
from tests.checkpoints.goldens import HUGGINGFACE, nemo

TEXTS = ("the sun is out and all of them are here to see it", "ein tag am see, schön und hell")
MODELS = {
    **{name: nemo(name) for name in ("fastconformer_ctc", "hybrid_rnnt_ctc", "hybrid_tdt_ctc")},
    **{name: nemo(name) for name in ("parakeet_tdt", "stateless_rnnt", "quartznet_char")},
    **{path.name: path for path in HUGGINGFACE if "parakeet" in path.name},
}


def other(checkpoint: Checkpoint) -> CharTokenizer:
    """Some pieces of the model's, in another order, among ones that it does not have."""
    pieces = list(checkpoint.tokenizer.pieces)
    return CharTokenizer(("ä", *reversed(pieces[2:9]), "ß", pieces[0], "ẞ"))


def joint_logits(model: ASR, encodings: Tensor, tokens: Sequence[int]) -> Tensor:
    """[T, U + 1, outputs] of one row of encodings [1, T, D]."""
    assert model.predictor is not None
    assert model.joint is not None
    read = torch.tensor([[model.blank_id, *tokens]])
    predictions, _ = model.predictor(read)
    f = model.joint.project_encodings(encodings[0])[:, None]
    logits: Tensor = model.joint(f, model.joint.project_predictions(predictions[0])[None])
    return logits


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_pieces_in_common_keep_their_logits(name: str) -> None:
    start = load(MODELS[name])
    tokenizer = other(start)
    renewed = with_tokenizer(start, tokenizer, seed=0)
    # In float64: products of another width are added up in another order.
    before, after = build(start).double(), build(renewed).double()
    assert after.config.vocab_size == len(tokenizer.pieces)
    assert before.heads == after.heads
    known = [p for p in tokenizer.pieces if p in start.tokenizer.pieces]
    assert len(known) == 8
    # The blank and what comes after it, from the end.
    extra = 1 + len(start.config.transducer.durations if start.config.transducer else ())
    old = [start.tokenizer.pieces.index(p) for p in known]
    new = [tokenizer.pieces.index(p) for p in known]
    generator = torch.Generator().manual_seed(0)
    encodings = torch.randn(1, 9, before.encoder.d_out, generator=generator, dtype=torch.float64)
    if before.ctc is not None and after.ctc is not None:
        ours, theirs = after.ctc(encodings), before.ctc(encodings)
        assert_close(ours[..., [*new, -1]], theirs[..., [*old, -1]])
    if before.joint is not None:
        ours = joint_logits(after, encodings, new[:3])
        theirs = joint_logits(before, encodings, old[:3])
        last = list(range(-extra, 0))
        assert_close(ours[..., [*new, *last]], theirs[..., [*old, *last]])


@torch.no_grad()
def test_new_pieces_are_neither_favoured_nor_ruled_out() -> None:
    start = load(nemo("hybrid_tdt_ctc"))
    after = build(with_tokenizer(start, CharTokenizer(tuple("äöü")), seed=0))
    before = build(start)
    encodings = torch.randn(1, 9, before.encoder.d_out)
    assert before.ctc is not None
    assert after.ctc is not None
    mean = before.ctc(encodings)[..., :-1].mean(-1)
    assert_close(after.ctc(encodings)[..., :-1], mean[..., None].expand(1, 9, 3))
    assert before.predictor is not None
    assert after.predictor is not None
    old, new = (m.predictor.embed.weight[:-1] for m in (before, after))  # type: ignore[union-attr]
    assert 0.5 < float(new.std() / old.std()) < 2
    assert not torch.equal(new[0], new[1])


def test_a_seed_is_a_model() -> None:
    start = load(nemo("hybrid_tdt_ctc"))
    one, same, another = (with_tokenizer(start, other(start), seed).tensors for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert [n for n in one if not torch.equal(one[n], another[n])] == ["predictor.embed.weight"]


def test_the_space_of_characters_is_sentencepieces() -> None:
    pieces = build_tokenizer(TEXTS, TokenizerRecipe(kind="char", size=64))
    assert isinstance(pieces, SentencePieceTokenizer)
    assert in_common(CharTokenizer((" ", "e", "?")), pieces) == 2


@pytest.mark.parametrize("name", ["hybrid_tdt_ctc", "prompt_hybrid", "citrinet"])
def test_it_can_be_saved_in_every_format(tmp_path: Path, name: str) -> None:
    start = load(nemo(name))
    tokenizer = build_tokenizer(TEXTS, TokenizerRecipe(kind="bpe", size=40))
    renewed = with_tokenizer(start, tokenizer, seed=0)
    for path in (tmp_path / "ours", tmp_path / "theirs.nemo"):
        save(renewed, path)
        again = load(path)
        assert again.tokenizer.pieces == tokenizer.pieces
        assert again.config == renewed.config
        assert all(torch.equal(again.tensors[n], renewed.tensors[n]) for n in again.tensors)
