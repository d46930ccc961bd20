"""Hugging Face's `tokenizer.json` made from a sentencepiece model, and the way back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from auricle.checkpoints.sentencepiece_model import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
    parse,
    serialise,
)
from auricle.errors import CheckpointError
from auricle.tokenizers import SPACE, HFTokenizer, SentencePieceTokenizer, Tokenizer

UNKNOWN_TEXT = "<unk>"


def to_tokenizer_json(tokenizer: Tokenizer, blank: str) -> bytes:
    """The file, with the blank as a special token behind the pieces.

    Raises:
        CheckpointError: A kind that has no such form.
    """
    if isinstance(tokenizer, HFTokenizer):
        return _with_blank(tokenizer, blank)
    if not isinstance(tokenizer, SentencePieceTokenizer):
        kind = tokenizer.spec["kind"]
        raise CheckpointError(
            f"a {kind} tokenizer has no form in tokenizer.json; save in another format"
        )
    model = parse(tokenizer.model)
    pieces = model.pieces
    added = [
        _added(i, p) for i, p in enumerate(pieces) if p.kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    added.append(_added(len(pieces), Piece(blank, 0.0, CONTROL)))
    prepend = "always" if model.add_dummy_prefix else "never"
    space = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": prepend, "split": True}
    return _dumped(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": _normaliser(model),
            "pre_tokenizer": space,
            "post_processor": None,
            "decoder": _decoder(model, space),
            "model": _bpe(model) if model.algorithm == BPE else _unigram(model),
        }
    )


def to_sentencepiece(tokenizer: HFTokenizer) -> SentencePieceTokenizer:
    """The sentencepiece model that a `tokenizer.json` was made from, or one of equal effect.

    Raises:
        CheckpointError: The file is no sentencepiece-like BPE or unigram.
    """
    document = json.loads(tokenizer.files()["tokenizer.json"])
    model = document["model"]
    if model.get("type") not in ("BPE", "Unigram") or "Metaspace" not in json.dumps(
        [document.get("pre_tokenizer"), document.get("decoder")]
    ):
        raise CheckpointError(
            "the tokenizer is no sentencepiece model in disguise, and NeMo takes no other; "
            "save in Auricle's or Hugging Face's format"
        )
    special = {row["content"]: row["special"] for row in document.get("added_tokens", ())}
    unknown = _unknown(model)
    scores = _unigram_scores(model) if model["type"] == "Unigram" else _bpe_scores(model)
    pieces = []
    for number, text in enumerate(tokenizer.pieces):
        kind = NORMAL
        if text == unknown:
            kind = UNKNOWN
        elif text in special:
            kind = CONTROL if special[text] else USER_DEFINED
        elif model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
            kind = BYTE
        pieces.append(Piece(text, scores.get(text, -float(number)), kind))
    return SentencePieceTokenizer(
        serialise(
            SentencePieceModel(
                pieces=tuple(pieces),
                algorithm=UNIGRAM if model["type"] == "Unigram" else BPE,
                byte_fallback=bool(model.get("byte_fallback")),
                charsmap=_charsmap(document.get("normalizer")),
                add_dummy_prefix='"never"' not in json.dumps(document.get("pre_tokenizer")),
            )
        )
    )


def _with_blank(tokenizer: HFTokenizer, blank: str) -> bytes:
    content = tokenizer.files()["tokenizer.json"]
    size = len(tokenizer.pieces)
    if tokenizer.spec["blank"] != size:
        raise CheckpointError(
            "the tokenizer's file numbers its blank before other pieces; save in Auricle's format"
        )
    document = json.loads(content)
    rows = [row for row in document["added_tokens"] if row["id"] != size]
    document["added_tokens"] = [*rows, _added(size, Piece(blank, 0.0, CONTROL))]
    return _dumped(document)


def _added(number: int, piece: Piece) -> dict[str, Any]:
    return {
        "id": number,
        "content": piece.text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": piece.kind != USER_DEFINED,
    }


def _normaliser(model: SentencePieceModel) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return {"type": "Sequence", "normalizers": steps} if steps else None


def _decoder(model: SentencePieceModel, space: Mapping[str, Any]) -> dict[str, Any]:
    if not model.byte_fallback:
        return dict(space)
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if model.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _bpe(model: SentencePieceModel) -> dict[str, Any]:
    """Sentencepiece joins any neighbours whose union is a piece, best score first."""
    vocabulary = {piece.text: i for i, piece in enumerate(model.pieces)}
    joined = {p.text for p in model.pieces if p.kind == NORMAL}
    ranked = sorted(
        (p for p in model.pieces if p.kind == NORMAL and len(p.text) > 1), key=lambda p: -p.score
    )
    merges = [
        [piece.text[:cut], piece.text[cut:]]
        for piece in ranked
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in joined and piece.text[cut:] in joined
    ]
    unknown = next((p.text for p in model.pieces if p.kind == UNKNOWN), UNKNOWN_TEXT)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
    }


def _unigram(model: SentencePieceModel) -> dict[str, Any]:
    unknown = next((i for i, p in enumerate(model.pieces) if p.kind == UNKNOWN), None)
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": [[piece.text, piece.score] for piece in model.pieces],
        "byte_fallback": model.byte_fallback,
    }


def _unknown(model: Mapping[str, Any]) -> str | None:
    if model["type"] == "Unigram":
        number = model.get("unk_id")
        return None if number is None else str(model["vocab"][number][0])
    return model.get("unk_token")


def _unigram_scores(model: Mapping[str, Any]) -> dict[str, float]:
    return {text: float(score) for text, score in model["vocab"]}


def _bpe_scores(model: Mapping[str, Any]) -> dict[str, float]:
    """A piece's score falls with the rank of the first merge that gives it."""
    scores: dict[str, float] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        scores.setdefault(left + right, -float(rank))
    lowest = -float(len(model["merges"]))
    return {**{text: lowest - number for text, number in model["vocab"].items()}, **scores}


def _charsmap(normaliser: Any) -> bytes:
    if isinstance(normaliser, dict):
        if normaliser.get("type") == "Precompiled":
            return base64.b64decode(normaliser["precompiled_charsmap"])
        for step in normaliser.get("normalizers", ()):
            if found := _charsmap(step):
                return found
    return b""


def _dumped(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
