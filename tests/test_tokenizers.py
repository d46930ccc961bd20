from __future__ import annotations

import io
import json

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle.errors import CheckpointError, ConfigError
from auricle.tokenizers import (
    AggregateTokenizer,
    CharTokenizer,
    HFTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    from_files,
)

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "she sells sea shells by the sea shore, doesn't she?",
    "how much wood would a woodchuck chuck",
    "pack my box with five dozen liquor jugs",
] * 5


def trained(algorithm: str, size: int = 60) -> SentencePieceTokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=size,
        model_type=algorithm,
        hard_vocab_limit=False,
        user_defined_symbols=["<EOU>"],
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue())


BPE = trained("bpe")
UNIGRAM = trained("unigram")
CHARS = CharTokenizer([" ", *"abcdefghijklmnopqrstuvwxyz'"])
WORDS = WordPieceTokenizer(["[UNK]", "the", "quick", "##ly", "##s", "fox", ","])
BOTH = AggregateTokenizer({"en": BPE, "de": UNIGRAM})


@pytest.mark.parametrize("tokenizer", [BPE, UNIGRAM])
@given(words=st.lists(st.sampled_from(" ".join(SENTENCES).split()), max_size=8))
@settings(max_examples=25, deadline=None)
def test_sentencepiece_round_trip(tokenizer: SentencePieceTokenizer, words: list[str]) -> None:
    text = " ".join(words)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_sentencepiece_spells_an_unknown_piece_as_the_reference_does() -> None:
    unknown = BPE.pieces.index("<unk>")
    assert BPE.decode([unknown]) == " \u2047 "
    assert BPE.decode([*BPE.encode("sea"), unknown]) == "sea \u2047 "


def test_sentencepiece_decodes_user_defined_symbols() -> None:
    assert BPE.decode([*BPE.encode("the fox"), BPE.pieces.index("<EOU>")]) == "the fox<EOU>"


def test_sentencepiece_knows_where_words_start() -> None:
    ids = BPE.encode("lazy dog")
    starts = [BPE.starts_word(i) for i in ids]
    assert starts[0] and sum(starts) == 2
    assert not BPE.starts_word(BPE.pieces.index("<EOU>"))


def test_a_damaged_sentencepiece_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        SentencePieceTokenizer(b"nonsense")


def test_characters() -> None:
    ids = CHARS.encode("A fox's  den!")
    assert CHARS.decode(ids) == "a fox's  den"
    assert [CHARS.starts_word(i) for i in CHARS.encode("a b")] == [False, True, False]


def test_a_label_of_several_characters_is_a_word() -> None:
    tokenizer = CharTokenizer([" ", "a", "<b>"])
    assert tokenizer.encode("a <b> a") == [1, 0, 2, 0, 1]
    assert tokenizer.decode([1, 0, 2]) == "a <b>"


def test_word_pieces() -> None:
    assert WORDS.encode("the quickly foxs, ñ") == [1, 2, 3, 5, 4, 6, 0]
    assert WORDS.decode([1, 2, 3, 5, 4, 6, 0]) == "the quickly foxs , [UNK]"
    assert [WORDS.starts_word(i) for i in (1, 2, 3, 5)] == [True, True, False, True]


def test_aggregate_shifts_ids_and_strips_nothing() -> None:
    english = BOTH.encode("the fox", "en")
    german = BOTH.encode("lazy dog", "de")
    assert english == BPE.encode("the fox")
    assert min(german) >= len(BPE.pieces)
    assert BOTH.decode([*english, *german]) == " the fox lazy dog"
    assert BOTH.decode([BPE.pieces.index("<unk>")]) == "<unk>"
    assert BOTH.languages == ("en", "de")
    assert BOTH.language_of([*english, *german[:1]]) == "en"
    assert BOTH.language_of(german) == "de"
    assert BOTH.language_of([]) is None
    assert BPE.language_of([1]) is None


def test_aggregate_needs_a_language() -> None:
    with pytest.raises(ConfigError, match="en, de"):
        BOTH.encode("the fox")


def hugging_face(blank_first: bool = False) -> HFTokenizer:
    vocabulary = ["\u2581the", "\u2581fox", "es", "<unk>"]
    names = ["<blank>", *vocabulary] if blank_first else [*vocabulary, "<blank>"]
    blank = names.index("<blank>")
    space = {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": "always",
        "split": True,
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": name,
                "special": True,
                "normalized": False,
                "lstrip": False,
                "rstrip": False,
                "single_word": False,
            }
            for i, name in enumerate(names)
            if name.startswith("<")
        ],
        "normalizer": None,
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": space,
        "model": {
            "type": "Unigram",
            "unk_id": names.index("<unk>"),
            "vocab": [[name, -1.0] for name in names],
            "byte_fallback": False,
        },
    }
    return HFTokenizer(json.dumps(document).encode(), size=4, blank=blank)


@pytest.mark.parametrize("blank_first", [False, True])
def test_hugging_face_ids_have_the_blank_last(blank_first: bool) -> None:
    tokenizer = hugging_face(blank_first)
    assert tokenizer.pieces == ("\u2581the", "\u2581fox", "es", "<unk>")
    assert tokenizer.encode("the foxes") == [0, 1, 2]
    assert tokenizer.decode([0, 1, 2]) == "the foxes"
    assert [tokenizer.starts_word(i) for i in range(3)] == [True, True, False]


def test_a_damaged_tokenizer_json_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        HFTokenizer(b"{}", size=3)


@pytest.mark.parametrize(
    "tokenizer", [BPE, UNIGRAM, CHARS, WORDS, BOTH, hugging_face(), hugging_face(True)]
)
def test_what_is_stored_rebuilds_the_tokenizer(tokenizer: Tokenizer) -> None:
    spec = json.loads(json.dumps(tokenizer.spec))
    again = from_files(spec, tokenizer.files())
    assert again.pieces == tokenizer.pieces
    assert again.languages == tokenizer.languages
    assert again.files() == tokenizer.files()
    ids = list(range(len(tokenizer.pieces)))
    assert again.decode(ids) == tokenizer.decode(ids)


def test_a_missing_file_or_kind_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
        from_files({"kind": "sentencepiece"}, {})
    with pytest.raises(CheckpointError, match="'morse'"):
        from_files({"kind": "morse"}, {})
