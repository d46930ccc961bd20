"""From a hypothesis to tokens, words and segments with times in seconds.

A word starts with its first token and ends with its last spoken one: what a punctuation mark adds
is often a pause. The other style, NeMo's own numbers, is in `nemo_times`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from auricle import text as writing
from auricle.decoding import Hypothesis, nemo_times
from auricle.decoding.confidence import least, mean
from auricle.tokenizers import Tokenizer
from auricle.types import Segment, Token, Word

Style = Literal["auricle", "nemo"]
Seconds = Callable[[int], float]

# A silence after which a segment ends even inside a sentence: longer than a speaker's breath, and
# so short that a subtitle does not stand over it.
PAUSE = 1.5


def decode_text(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, str | None]:
    """The text of `ids` and its language, where tags or an aggregate vocabulary tell.

    NeMo's rule holds: one space before each mark of the vocabulary is taken out.
    """
    text = writing.close_up(tokenizer.decode(ids), writing.marks(tokenizer.pieces))
    text, language = writing.split_language_tags(text)
    return text, language or tokenizer.language_of(ids)


def begins_word(id: int, before: int, tokenizer: Tokenizer) -> bool:
    """Whether token `id` begins a new word behind token `before`; a mark ends the word before."""
    text, marks = tokenizer.decode([id]), writing.marks(tokenizer.pieces)
    return _opens(id, text, tokenizer.decode([before]), tokenizer) and (
        text.lstrip()[:1] not in marks
    )


def tokens_words_segments(
    hypothesis: Hypothesis,
    tokenizer: Tokenizer,
    seconds_per_step: float,
    *,
    style: Style = "auricle",
    lead: float = 0.0,
    duration: float | None = None,
) -> tuple[tuple[Token, ...], tuple[Word, ...], tuple[Segment, ...]]:
    """Give every token, word and segment its time and confidence.

    A word's confidence is the least of its tokens', a segment's the mean of its words'.

    Args:
        hypothesis: What a decoder returned.
        tokenizer: The vocabulary of its ids.
        seconds_per_step: Length of an encoder step.
        style: "nemo" for the numbers of NeMo's `transcribe(timestamps=True)`, quirks included;
            those are never clipped.
        lead: Seconds of silence that were put before the clip; times count from its start.
        duration: Seconds that no time may exceed.
    """
    if style == "nemo":
        return nemo_times.tokens_words_segments(hypothesis, tokenizer, seconds_per_step)

    def seconds(step: int) -> float:
        time = max(0.0, step * seconds_per_step - lead)
        return time if duration is None else min(time, duration)

    tokens = tuple(
        Token(id, tokenizer.pieces[id], seconds(start), seconds(end), sure)
        for id, start, end, sure in zip(
            hypothesis.ids,
            hypothesis.starts,
            hypothesis.ends,
            hypothesis.confidences,
            strict=True,
        )
    )
    spans = _spans(hypothesis.ids, tokenizer)
    words = tuple(_word(span, tokens) for span in spans)
    return tokens, words, tuple(_segments(spans, words, hypothesis.ids, tokenizer))


@dataclass(frozen=True)
class _Span:
    """The tokens `first` to `last` (exclusive) that make up a word, and those that are spoken."""

    text: str
    first: int
    last: int
    spoken: tuple[int, ...]


def _spans(ids: Sequence[int], tokenizer: Tokenizer) -> list[_Span]:
    """Words as ranges of tokens; joined by spaces they are the text of `decode_text`."""
    marks = writing.marks(tokenizer.pieces)
    texts = [tokenizer.decode([id]) for id in ids]
    opens = [i for i in range(1, len(ids)) if _opens(ids[i], texts[i], texts[i - 1], tokenizer)]
    spans: list[_Span] = []
    for first, last in pairwise([0, *opens, len(ids)]):
        text, _ = writing.split_language_tags(tokenizer.decode(ids[first:last]))
        if not text:  # a space of a character vocabulary, or a tag
            continue
        spoken = tuple(i for i in range(first, last) if _is_spoken(texts[i]))
        if spans and text[0] in marks:
            before = spans.pop()
            text, first, spoken = before.text + text, before.first, before.spoken + spoken
        spans.append(_Span(writing.close_up(text, marks), first, last, spoken))
    return spans


def _opens(id: int, text: str, before: str, tokenizer: Tokenizer) -> bool:
    """Whether a token begins a word behind `before`: by a space, or in a script that has none."""
    if tokenizer.starts_word(id) or text[:1].isspace() or before[-1:].isspace():
        return True
    unspaced = writing.is_unspaced(text) or writing.is_unspaced(before)
    return unspaced and not writing.continues(text)


def _is_spoken(text: str) -> bool:
    """Neither a space, nor marks, nor a language tag."""
    bare, _ = writing.split_language_tags(text)
    return bool(bare) and not writing.is_punctuation(bare)


def _word(span: _Span, tokens: Sequence[Token]) -> Word:
    last = span.spoken[-1] if span.spoken else span.first
    own = tokens[span.first : span.last]
    return Word(
        span.text,
        own[0].start,
        max(own[0].start, tokens[last].end),
        least(t.confidence for t in own),
    )


def _segments(
    spans: Sequence[_Span], words: Sequence[Word], ids: Sequence[int], tokenizer: Tokenizer
) -> list[Segment]:
    segments: list[Segment] = []
    first = 0
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else None
        if (
            following is None
            or writing.ends_sentence(word.text)
            or following.start - word.end >= PAUSE
        ):
            own = tuple(words[first : i + 1])
            text, _ = decode_text(ids[spans[first].first : spans[i].last], tokenizer)
            segments.append(
                Segment(text, own[0].start, word.end, own, mean(w.confidence for w in own))
            )
            first = i + 1
    return segments
