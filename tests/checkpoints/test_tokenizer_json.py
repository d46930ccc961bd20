from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece

from auricle import tokenizers
from auricle.checkpoints.sentencepiece_model import (
    BPE,
    BYTE,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    parse,
    serialise,
)
from auricle.checkpoints.tokenizer_json import to_sentencepiece, to_tokenizer_json
from auricle.errors import CheckpointError
from auricle.tokenizers import CharTokenizer, HFTokenizer, SentencePieceTokenizer, from_files

SOURCE = Path(tokenizers.__file__).read_text(encoding="utf-8")
SAMPLES = [
    *(line.replace("<", "").strip() for line in SOURCE.split("\n") if line),
    "na\u00efve \ufb01ne \u00bd",
    "  two  spaces ",
    "",
]


def trained(algorithm: str, **options: object) -> SentencePieceTokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SAMPLES),
        model_writer=model,
        vocab_size=options.pop("vocab_size", 300),
        model_type=algorithm,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return SentencePieceTokenizer(model.getvalue())


KINDS = {
    "bpe": lambda: trained("bpe"),
    "unigram": lambda: trained("unigram"),
    "bytes": lambda: trained("bpe", byte_fallback=True, vocab_size=500),
    "no bos": lambda: trained("bpe", bos_id=-1, eos_id=-1, user_defined_symbols=["<en-US>"]),
    "identity": lambda: trained("unigram", normalization_rule_name="identity"),
}


@pytest.fixture(params=list(KINDS), scope="module")
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return KINDS[request.param]()


def test_the_parsed_model_is_what_sentencepiece_says(tokenizer: SentencePieceTokenizer) -> None:
    model = parse(tokenizer.model)
    assert tuple(piece.text for piece in model.pieces) == tokenizer.pieces
    assert [piece.score for piece in model.pieces] == tokenizer.scores()
    assert sum(piece.kind == UNKNOWN for piece in model.pieces) == 1


def test_serialised_and_parsed_again_is_the_same(tokenizer: SentencePieceTokenizer) -> None:
    model = parse(tokenizer.model)
    again = serialise(model)
    assert parse(again) == model
    rebuilt = SentencePieceTokenizer(again)
    assert all(rebuilt.encode(line) == tokenizer.encode(line) for line in SAMPLES)


def test_kinds_of_pieces_are_read() -> None:
    assert {p.kind for p in parse(KINDS["bytes"]().model).pieces} >= {BYTE}
    assert {p.kind for p in parse(KINDS["no bos"]().model).pieces} >= {USER_DEFINED}
    assert parse(KINDS["unigram"]().model).algorithm == UNIGRAM
    assert parse(KINDS["bpe"]().model).algorithm == BPE


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\x0a\x10abc", b"\x0b"])
def test_other_bytes_are_refused(content: bytes) -> None:
    if content:
        with pytest.raises(CheckpointError, match="cannot be read"):
            parse(content)
    else:
        assert parse(content).pieces == ()


def test_tokenizer_json_gives_the_same_ids_and_text(tokenizer: SentencePieceTokenizer) -> None:
    size = len(tokenizer.pieces)
    theirs = HFTokenizer(to_tokenizer_json(tokenizer, "<pad>"), size=size)
    assert theirs.pieces == tokenizer.pieces
    unknown = tokenizer.pieces.index("<unk>")
    for line in SAMPLES:
        ids = tokenizer.encode(line)
        assert theirs.encode(line) == ids, line
        if unknown not in ids:
            assert theirs.decode(ids) == tokenizer.decode(ids)


def test_sentencepiece_made_from_tokenizer_json_is_the_same(
    tokenizer: SentencePieceTokenizer,
) -> None:
    theirs = HFTokenizer(to_tokenizer_json(tokenizer, "<blank>"), size=len(tokenizer.pieces))
    again = to_sentencepiece(theirs)
    assert again.pieces == tokenizer.pieces
    for line in SAMPLES:
        ids = tokenizer.encode(line)
        assert again.encode(line) == ids
        assert again.decode(ids) == tokenizer.decode(ids)


def test_the_blank_takes_the_next_id() -> None:
    tokenizer = KINDS["bpe"]()
    size = len(tokenizer.pieces)
    theirs = HFTokenizer(to_tokenizer_json(tokenizer, "<blank>"), size=size + 1)
    assert theirs.pieces[size] == "<blank>"
    own = HFTokenizer(theirs.files()["tokenizer.json"], size=size)
    again = HFTokenizer(to_tokenizer_json(own, "<pad>"), size=size + 1)
    assert again.pieces[size] == "<pad>"


def test_kinds_without_such_a_form_are_refused() -> None:
    with pytest.raises(CheckpointError, match="char tokenizer"):
        to_tokenizer_json(CharTokenizer("abc"), "<pad>")
    words = (
        b'{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "version": "1.0"}'
    )
    with pytest.raises(CheckpointError, match="no sentencepiece"):
        to_sentencepiece(from_files({"kind": "huggingface", "size": 1}, {"tokenizer.json": words}))  # type: ignore[arg-type]
