"""Words and segments from tokens, in our own style and in NeMo's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle.decoding import Head, Hypothesis
from auricle.decoding.times import PAUSE, decode_text, tokens_words_segments
from auricle.tokenizers import AggregateTokenizer, CharTokenizer, Tokenizer, WordPieceTokenizer
from auricle.types import Segment, Token, Word

STEP = 0.1
S = "\u2581"


class Pieces(CharTokenizer):
    """Decodes as sentencepiece does: space marks become spaces, none in front."""

    @property
    def spec(self) -> dict[str, Any]:
        return {"kind": "sentencepiece"}

    def decode(self, ids: Sequence[int]) -> str:
        text = "".join(self.pieces[i] for i in ids)
        return text.replace(S, " ").removeprefix(" ").replace("<unk>", " \u2047 ")

    def starts_word(self, id: int) -> bool:
        return self.pieces[id].startswith(S)


Result = tuple[tuple[Token, ...], tuple[Word, ...], tuple[Segment, ...]]


def _times(
    *tokens: tuple[str, int, int],
    head: Head = "tdt",
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> Result:
    """Words of (piece, start, end) tokens; confidences go down from 1 by hundredths."""
    tokenizer = tokenizer or Pieces([*{piece: None for piece, _, _ in tokens}, "."])
    ids = tuple(tokenizer.pieces.index(piece) for piece, _, _ in tokens)
    hypothesis = Hypothesis(
        ids,
        tuple(start for _, start, _ in tokens),
        tuple(end for _, _, end in tokens),
        tuple(1 - i / 100 for i in range(len(ids))),
        0.0,
        tuple(end - start for _, start, end in tokens) if head == "tdt" else (),
        head=head,
    )
    return tokens_words_segments(hypothesis, tokenizer, STEP, **options)


def _spans(words: Sequence[Word]) -> list[tuple[str, float, float]]:
    return [(w.text, round(w.start / STEP, 3), round(w.end / STEP, 3)) for w in words]


def test_words_from_pieces() -> None:
    tokens, words, segments = _times((f"{S}hel", 2, 4), ("lo", 4, 5), (f"{S}world", 8, 9))
    assert _spans(words) == [("hello", 2, 5), ("world", 8, 9)]
    assert [w.confidence for w in words] == [0.99, 0.98]
    assert [(t.text, t.id) for t in tokens] == [(f"{S}hel", 0), ("lo", 1), (f"{S}world", 2)]
    assert [t.start for t in tokens] == pytest.approx([0.2, 0.4, 0.8])
    (segment,) = segments
    assert (segment.text, segment.start, segment.end) == ("hello world", words[0].start, 0.9)
    assert segment.confidence == pytest.approx((0.99 + 0.98) / 2)
    assert segment.words == words


def test_a_mark_does_not_stretch_a_word_over_the_pause() -> None:
    """The full stop comes a second after the word, and lasts into the next."""
    _, words, segments = _times(
        (f"{S}Yes", 2, 4), (".", 14, 18), (f"{S}No", 18, 20), ("!", 30, 34), ("\u201d", 40, 41)
    )
    assert _spans(words) == [("Yes.", 2, 4), ("No!\u201d", 18, 20)]
    assert [s.text for s in segments] == ["Yes.", "No!\u201d"]
    assert [s.end for s in segments] == pytest.approx([0.4, 2.0])


def test_marks_inside_and_before_words() -> None:
    _, words, _ = _times(
        (f"{S}don", 0, 1), ("'", 1, 2), ("t", 3, 4), (f"{S}\u00bf", 6, 7), ("qu\u00e9", 7, 9)
    )
    assert _spans(words) == [("don't", 0, 4), ("\u00bfqu\u00e9", 6, 9)]


def test_a_mark_with_its_own_space_joins_the_word_before() -> None:
    """As the text does: NeMo takes the space out before the vocabulary's marks."""
    tokenizer = Pieces([f"{S}so", S, ",", f"{S}it", "."])
    tokens = ((f"{S}so", 0, 1), (S, 3, 4), (",", 4, 5), (f"{S}it", 6, 7), (S, 8, 9), (".", 9, 10))
    _, words, _ = _times(*tokens, tokenizer=tokenizer)
    assert _spans(words) == [("so,", 0, 1), ("it.", 6, 7)]
    ids = [tokenizer.pieces.index(piece) for piece, _, _ in tokens]
    assert decode_text(ids, tokenizer) == ("so, it.", None)


def test_only_a_mark() -> None:
    _, words, segments = _times((".", 3, 5))
    assert _spans(words) == [(".", 3, 5)]
    assert len(segments) == 1


def test_nothing() -> None:
    assert _times() == ((), (), ())
    assert _times(style="nemo") == ((), (), ())


def test_decimals_and_thousands_are_inside_a_word() -> None:
    pieces = [f"{S}3", ".", "14", f"{S}is", f"{S}pi", "."]
    tokens = [(piece, i, i + 1) for i, piece in enumerate(pieces)]
    _, words, segments = _times(*tokens)
    assert [w.text for w in words] == ["3.14", "is", "pi."]
    assert [s.text for s in segments] == ["3.14 is pi."]


def test_a_long_pause_ends_a_segment() -> None:
    gap = int(PAUSE / STEP)
    near = _times((f"{S}a", 0, 1), (f"{S}b", gap, gap + 1))[2]
    far = _times((f"{S}a", 0, 1), (f"{S}b", gap + 1, gap + 2))[2]
    assert [s.text for s in near] == ["a b"]
    assert [s.text for s in far] == ["a", "b"]


def test_full_width_marks_end_sentences() -> None:
    pieces = [f"{S}今日", "は", "。", "元気", "？", "はい"]
    tokens = [(piece, 2 * i, 2 * i + 1) for i, piece in enumerate(pieces)]
    _, words, segments = _times(*tokens)
    assert [w.text for w in words] == ["今日", "は。", "元気？", "はい"]
    assert [s.text for s in segments] == ["今日は。", "元気？", "はい"]
    assert _spans(words)[1] == ("は。", 2, 3)


def test_unspaced_scripts_beside_spaced_ones() -> None:
    pieces = [f"{S}OK", "我", "用", "Py", "thon", "写"]
    _, words, _ = _times(*[(piece, i, i + 1) for i, piece in enumerate(pieces)])
    assert [w.text for w in words] == ["OK", "我", "用", "Python", "写"]


def test_characters() -> None:
    tokenizer = CharTokenizer([" ", "a", "b", "'", "."])
    script = "ab a'b  b."
    tokens = [(c, 2 * i, 2 * i + 1) for i, c in enumerate(script)]
    _, words, segments = _times(*tokens, tokenizer=tokenizer, head="rnnt")
    assert _spans(words) == [("ab", 0, 3), ("a'b", 6, 11), ("b.", 16, 17)]
    assert segments[0].text == "ab a'b  b."


def test_word_pieces() -> None:
    tokenizer = WordPieceTokenizer(["hel", "##lo", "world", ","])
    tokens = [("hel", 0, 1), ("##lo", 1, 2), (",", 5, 6), ("world", 8, 9)]
    _, words, _ = _times(*tokens, tokenizer=tokenizer, head="rnnt")
    assert _spans(words) == [("hello,", 0, 2), ("world", 8, 9)]
    _, words, _ = _times(*tokens, tokenizer=tokenizer, head="rnnt", style="nemo")
    assert _spans(words) == [("hello,", 0, 6), ("world", 8, 9)]


def test_an_unknown_token_is_a_word() -> None:
    _, words, _ = _times((f"{S}a", 0, 1), ("<unk>", 2, 3), ("b", 4, 5))
    assert _spans(words) == [("a", 0, 1), ("\u2047", 2, 3), ("b", 4, 5)]


def test_language_tags_are_no_words() -> None:
    pieces = [f"{S}Hola", ".", "<es-ES>", f"{S}<es-ES>", f"{S}Hi", "<en-US>", f"{S}all"]
    tokens = [(piece, 4 * i, 4 * i + 2) for i, piece in enumerate(pieces)]
    tokenizer = Pieces(dict.fromkeys(pieces))
    found, words, segments = _times(*tokens, tokenizer=tokenizer)
    assert _spans(words) == [("Hola.", 0, 2), ("Hi", 16, 18), ("all", 24, 26)]
    assert [s.text for s in segments] == ["Hola.", "Hi all"]
    assert len(found) == len(pieces)
    ids = [tokenizer.pieces.index(piece) for piece in pieces]
    assert decode_text(ids, tokenizer) == ("Hola. Hi all", "es-ES")


def test_the_language_of_an_aggregate_vocabulary() -> None:
    tokenizer = AggregateTokenizer({"en": Pieces([f"{S}yes"]), "es": Pieces([f"{S}si", f"{S}no"])})
    assert decode_text([1, 0, 2], tokenizer) == ("si yes no", "es")


def test_times_are_clipped_to_the_clip() -> None:
    """0.25 s of silence before it, 0.5 s long: steps beyond both ends exist."""
    tokens = ((f"{S}a", 0, 2), (f"{S}b", 3, 5), (f"{S}c", 9, 12))
    found, words, segments = _times(*tokens, lead=0.25, duration=0.5)
    assert [(w.start, w.end) for w in words] == [
        (0.0, 0.0),
        (pytest.approx(0.05), pytest.approx(0.25)),
        (0.5, 0.5),
    ]
    assert segments[-1].end == found[-1].end == 0.5


def test_nemos_style_for_ctc() -> None:
    """A token's end is its own onset, its start the onset before; marks last no time."""
    tokens = [(f"{S}a", 3, 5), ("b", 7, 8), (".", 9, 10), (f"{S}c", 20, 21)]
    found, words, segments = _times(*tokens, head="ctc", style="nemo")
    assert [(round(t.start / STEP), round(t.end / STEP)) for t in found] == [
        (2, 3),
        (3, 7),
        (7, 7),
        (9, 20),
    ]
    assert _spans(words) == [("ab.", 2, 7), ("c", 9, 20)]
    assert [s.text for s in segments] == ["ab.", "c"]


def test_nemos_style_for_tdt() -> None:
    """A mark is put at the end of the token before it."""
    tokens = [(f"{S}a", 3, 5), (".", 9, 13), (f"{S}b", 20, 20)]
    found, words, _ = _times(*tokens, style="nemo")
    assert [(round(t.start / STEP), round(t.end / STEP)) for t in found] == [
        (3, 5),
        (5, 5),
        (20, 20),
    ]
    assert _spans(words) == [("a.", 3, 5), ("b", 20, 20)]


ALPHABET = [f"{S}a", "b", f"{S}", ".", ",", f"{S}c", "'", "<en-US>", "漢", "<unk>", f"{S}(", "!"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ALPHABET), st.integers(0, 4), st.integers(1, 4))),
    st.sampled_from(["auricle", "nemo"]),
)
def test_times_never_go_back(script: list[tuple[str, int, int]], style: str) -> None:
    tokens, now = [], 0
    for piece, wait, length in script:
        now += wait
        tokens.append((piece, now, now + length))
        now += length
    tokenizer = Pieces(ALPHABET)
    found, words, segments = _times(*tokens, tokenizer=tokenizer, style=style, head="rnnt")
    assert [t.text for t in found] == [piece for piece, _, _ in tokens]
    for items in (found, words, segments):
        assert all(item.start <= item.end for item in items)
        assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(items))
    if style == "auricle":
        assert sum((s.words for s in segments), ()) == words
        text, _ = decode_text([t.id for t in found], tokenizer)
        assert "".join(w.text for w in words) == "".join(text.split())
        assert all(w.text for w in words)
