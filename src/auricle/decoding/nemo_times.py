"""NeMo's own times, as `transcribe(timestamps=True)` gives them, for those who compare.

What differs from `times`, and why, is told in `docs/differences.md`. Offsets are whole encoder
steps until the end, where they become seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from auricle import text as writing
from auricle.decoding import Hypothesis
from auricle.decoding.confidence import least, mean
from auricle.tokenizers import Tokenizer
from auricle.types import Segment, Token, Word

SENTENCE_ENDS = (".", "?", "!")
SPACES = (" ", "_", "\u2581")


@dataclass(frozen=True)
class _Piece:
    """A token: as the vocabulary spells it, as it decodes alone, and its offsets."""

    id: int
    spelled: str
    text: str
    start: int
    end: int
    confidence: float


@dataclass
class _Found:
    """A word while it is being put together; `tokens` are indices of its pieces."""

    text: str
    start: int
    end: int
    tokens: list[int]


def tokens_words_segments(
    hypothesis: Hypothesis, tokenizer: Tokenizer, seconds_per_step: float
) -> tuple[tuple[Token, ...], tuple[Word, ...], tuple[Segment, ...]]:
    """What NeMo calls char, word and segment."""
    marks = writing.marks(tokenizer.pieces)
    texts = [tokenizer.decode([id]) for id in hypothesis.ids]
    pieces = [
        _Piece(id, tokenizer.pieces[id], text, start, end, sure)
        for id, text, (start, end), sure in zip(
            hypothesis.ids,
            texts,
            _offsets(hypothesis, texts, marks),
            hypothesis.confidences,
            strict=True,
        )
    ]
    tokens = tuple(
        Token(p.id, p.spelled, p.start * seconds_per_step, p.end * seconds_per_step, p.confidence)
        for p in pieces
    )
    words = tuple(
        Word(
            w.text,
            w.start * seconds_per_step,
            w.end * seconds_per_step,
            least(pieces[i].confidence for i in w.tokens),
        )
        for w in _words(pieces, marks, tokenizer)
    )
    return tokens, words, tuple(_segments(words))


def _offsets(
    hypothesis: Hypothesis, texts: Sequence[str], marks: Collection[str]
) -> list[tuple[int, int]]:
    if hypothesis.head == "ctc":
        return _ctc_offsets(hypothesis.starts, texts, marks)
    if hypothesis.head == "rnnt":
        return [(start, start + 1) for start in hypothesis.starts]
    offsets: list[tuple[int, int]] = []
    for start, far, text in zip(hypothesis.starts, hypothesis.durations, texts, strict=True):
        if text in marks and offsets:
            offsets.append((offsets[-1][1], offsets[-1][1]))
        else:
            offsets.append((start, start + far))
    return offsets


def _ctc_offsets(
    onsets: Sequence[int], texts: Sequence[str], marks: Collection[str]
) -> list[tuple[int, int]]:
    """A token lasts from the onset of the one before to its own; the first begins a step early."""
    befores = [max(0, onset - 1) for onset in onsets[:1]] + list(onsets[:-1])
    return [
        (before, before if i > 0 and text[:1] in marks else onset)
        for i, (before, onset, text) in enumerate(zip(befores, onsets, texts, strict=True))
    ]


def _words(pieces: Sequence[_Piece], marks: Collection[str], tokenizer: Tokenizer) -> list[_Found]:
    words: list[_Found] = []
    open_word: list[int] = []
    first = 0

    def close(last: int) -> None:
        text = tokenizer.decode([pieces[i].id for i in open_word])
        if tokenizer.spec["kind"] == "wordpiece":
            text = writing.close_up(text, ".,?!")  # BERT's own decoder does so
        words.append(_Found(text, pieces[first].start, pieces[last].end, list(open_word)))

    for i, piece in enumerate(pieces):
        is_mark = piece.text in marks and piece.text != " "
        if not is_mark and _starts_word(pieces, i, marks, tokenizer):
            if open_word:
                close(i - 1)
            open_word = [] if piece.text == " " else [i]
            first = i if open_word else first
        elif is_mark and words and not open_word:
            words[-1].text = words[-1].text.removesuffix(" ") + piece.text
            words[-1].end = piece.end
            words[-1].tokens.append(i)
        else:
            if not open_word:
                first = i
            elif is_mark and pieces[open_word[-1]].spelled in SPACES:
                open_word.pop()
            open_word.append(i)
    if words:
        words[0].start = pieces[0].start
    else:
        first = 0
    if open_word:
        close(len(pieces) - 1)
    return words


def _starts_word(
    pieces: Sequence[_Piece], i: int, marks: Collection[str], tokenizer: Tokenizer
) -> bool:
    piece = pieces[i]
    if piece.text == " ":
        following = next((p.text for p in pieces[i + 1 :] if p.text not in ("", " ")), None)
        return following not in marks
    kind = tokenizer.spec["kind"]
    if kind == "char":
        return False
    if kind == "wordpiece":
        return bool(piece.text) and not piece.text.startswith("##")
    return piece.spelled != piece.text


def _segments(words: Sequence[Word]) -> list[Segment]:
    segments: list[Segment] = []
    own: list[Word] = []
    for i, word in enumerate(words):
        own.append(word)
        if word.text.endswith(SENTENCE_ENDS) or i == len(words) - 1:
            text = " ".join(w.text for w in own)
            sure = mean(w.confidence for w in own)
            segments.append(Segment(text, own[0].start, own[-1].end, tuple(own), sure))
            own = []
    return segments
