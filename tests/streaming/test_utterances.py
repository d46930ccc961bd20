"""Utterances: the same tokens give the same Finals and transcript, however they come."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle import text as writing
from auricle.decoding import Head, Hypothesis
from auricle.decoding.confidence import mean
from auricle.decoding.times import decode_text, tokens_words_segments
from auricle.errors import ConfigError
from auricle.streaming.events import Event, Final, Partial
from auricle.streaming.stepping import Decoded
from auricle.streaming.utterances import Endpointing, Utterances
from auricle.tokenizers import (
    SPACE,
    AggregateTokenizer,
    CharTokenizer,
    HFTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
)
from tests.counting import calls

STEP = 0.08
DEFAULT = Endpointing()
TAGS = ["<en-US>", "<de-DE>", "<EOU>", "<EOB>"]
CORPUS = ["hello world, how are you?", "we are here. yes we are!", "the quick brown fox 你好 世界"]


@cache
def _sentencepiece() -> Tokenizer:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 10),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        user_defined_symbols=TAGS,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue())


@cache
def _tokenizer(kind: str) -> Tokenizer:
    if kind == "sentencepiece":
        return _sentencepiece()
    if kind == "characters":
        return CharTokenizer([*" abcé.,'-<>USen你好ก้", "the", *TAGS])
    if kind == "wordpiece":
        return WordPieceTokenizer(["[UNK]", "he", "##llo", "wor", "##ld", ".", ",", "##s", *TAGS])
    if kind == "aggregate":
        return AggregateTokenizer({"en": _sentencepiece(), "de": CharTokenizer(" äöü.ß")})
    return _byte_level()


def _byte_level() -> Tokenizer:
    """Byte-level BPE, whose pieces may hold parts of characters."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    built = tokenizers.Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    built.train_from_iterator(CORPUS * 10, trainer)
    return HFTokenizer(built.to_str().encode(), size=built.get_vocab_size())


KINDS = ["sentencepiece", "characters", "wordpiece", "aggregate", "byte-level"]


def _ids(tokenizer: Tokenizer, *pieces: str) -> list[int]:
    return [tokenizer.pieces.index(piece) for piece in pieces]


def _whole(tokens: Iterable[tuple[int, int, int]], steps: int, head: Head = "rnnt") -> Hypothesis:
    """A stream's tokens (id, start, end) as decoded in one piece."""
    rows = list(tokens)
    return Hypothesis(
        ids=tuple(id for id, _, _ in rows),
        starts=tuple(start for _, start, _ in rows),
        ends=tuple(end for _, _, end in rows),
        confidences=tuple(round(1 - i % 97 / 100, 2) for i in range(len(rows))),
        score=-float(len(rows)),
        durations=tuple(end - start for _, start, end in rows) if head == "tdt" else (),
        steps=steps,
        head=head,
    )


def _chunks(whole: Hypothesis, cuts: Sequence[int]) -> list[Hypothesis]:
    """`whole` as a decoder gives it in chunks that end at `cuts` and at its end."""
    chunks = []
    for first, last in pairwise(
        [0, *sorted({c for c in cuts if 0 < c < whole.steps}), whole.steps]
    ):
        rows = range(len(whole.ids))
        old = [i for i in rows if whole.starts[i] < first < whole.ends[i]]
        new = [i for i in rows if first <= whole.starts[i] < last]
        own = [*old[-1:], *new] if whole.head == "ctc" else new
        ends = [min(whole.ends[i], last) if whole.head == "ctc" else whole.ends[i] for i in own]
        chunks.append(
            replace(
                whole,
                ids=tuple(whole.ids[i] for i in own),
                starts=tuple(whole.starts[i] for i in own),
                ends=tuple(ends),
                # What is known of a run that goes on is too good.
                confidences=tuple(
                    whole.confidences[i] if end == whole.ends[i] else 1.0
                    for i, end in zip(own, ends, strict=True)
                ),
                score=-float(len(new)),
                durations=tuple(whole.durations[i] for i in own) if whole.durations else (),
                steps=last,
                continues=len(own) > len(new),
            )
        )
    return chunks


@dataclass
class Run:
    """What a stream said and what it holds in the end."""

    events: list[Event]
    utterances: Utterances
    duration: float

    @property
    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def texts(self) -> list[str]:
        return [final.segment.text for final in self.finals]


def _run(
    tokenizer: Tokenizer,
    chunks: Iterable[Hypothesis],
    endpointing: Endpointing = DEFAULT,
    *,
    keep: bool = True,
    silences: Sequence[tuple[float, float]] = (),
    delay: float = 0.0,
    moves: bool = False,
) -> Run:
    """Feed chunks, each after the silences (in steps) of its time; `moves`: to a new object."""
    utterances = Utterances(tokenizer, STEP, endpointing, keep=keep)
    events: list[Event] = []
    steps, known = 0, 0.0
    for chunk in chunks:
        if moves:
            state = json.loads(json.dumps(utterances.state()))
            utterances = Utterances(tokenizer, STEP, endpointing, keep=keep)
            utterances.restore(state)
        steps, before, known = chunk.steps, known, chunk.steps - delay
        for start, end in silences:
            if before < end and start < known:
                utterances.silence(start * STEP, min(end, known) * STEP)
        events += utterances.add(Decoded(chunk))
    events += utterances.finish(steps * STEP)
    return Run(events, utterances, steps * STEP)


def _check_promises(events: Sequence[Event]) -> None:
    """Stable text stays, grows, and begins every later text of its utterance."""
    promised, last = "", ("", "")
    for event in events:
        if isinstance(event, Final):
            assert event.segment.text.startswith(promised)
            promised, last = "", ("", "")
            continue
        assert event.text.startswith(event.stable)
        assert event.stable.startswith(promised)
        assert (event.text, event.stable) != last
        promised, last = event.stable, (event.text, event.stable)


def _without_space(text: str) -> str:
    return "".join(text.split())


@st.composite
def streams(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> tuple[str, Hypothesis]:
    kind = draw(st.sampled_from(kinds))
    head = cast(Head, draw(st.sampled_from(["ctc", "rnnt", "tdt"])))
    size = len(_tokenizer(kind).pieces)
    common = st.integers(0, size - 1)
    if kind in ("sentencepiece", "aggregate"):  # bytes are 256 of its first ids
        ids = _sentencepiece().encode("hello, world. 你好 are é ü <en-US> yes <EOU> we")
        common = st.one_of(st.sampled_from(ids), common)
    gaps = st.one_of(st.integers(0, 2), st.sampled_from([9, 10, 11, 30]))
    tokens, at = [], 0
    for _ in range(draw(st.integers(0, 25))):
        at += draw(gaps)
        length = draw(st.integers(0 if head == "tdt" else 1, 4)) if head != "rnnt" else 1
        tokens.append((draw(common), at, at + max(length, 1)))
        at += length
    return kind, _whole(tokens, at + draw(st.integers(1, 15)), head)


CUTS = st.lists(st.integers(1, 120), max_size=30)
ENDPOINTINGS = st.sampled_from(
    [
        Endpointing(),
        Endpointing(silence_ms=240, max_seconds=0.8),
        Endpointing(silence_ms=None, max_seconds=0.4),
        Endpointing(silence_ms=400, eou_token=False, max_seconds=None),
    ]
)


@settings(max_examples=100, deadline=None)
@given(streams(), CUTS, ENDPOINTINGS)
def test_the_same_tokens_give_the_same_whatever_the_cuts(
    stream: tuple[str, Hypothesis], cuts: list[int], endpointing: Endpointing
) -> None:
    tokenizer = _tokenizer(stream[0])
    whole = _run(tokenizer, [stream[1]], endpointing)
    cut = _run(tokenizer, _chunks(stream[1], cuts), endpointing)
    every = _run(tokenizer, _chunks(stream[1], range(stream[1].steps)), endpointing, moves=True)
    assert cut.finals == every.finals == whole.finals
    assert cut.utterances.hypothesis == every.utterances.hypothesis == whole.utterances.hypothesis
    _check_promises(cut.events)
    _check_promises(every.events)
    forgetful = _run(tokenizer, _chunks(stream[1], cuts), endpointing, keep=False)
    assert forgetful.events == cut.events
    empty = forgetful.utterances.transcript(2.0, "m")
    assert (empty.text, empty.segments, empty.tokens, empty.duration) == ("", (), (), 2.0)


@settings(max_examples=80, deadline=None)
@given(streams(), CUTS, ENDPOINTINGS)
def test_the_transcript_is_the_offline_one(
    stream: tuple[str, Hypothesis], cuts: list[int], endpointing: Endpointing
) -> None:
    kind, whole = stream
    tokenizer = _tokenizer(kind)
    enders = {i for i, p in enumerate(tokenizer.pieces) if p in ("<EOU>", "<EOB>")}
    if endpointing.eou_token:  # the offline path shows them
        spoken = [i for i, id in enumerate(whole.ids) if id not in enders]
        columns = ("ids", "starts", "ends", "confidences", "durations")
        seen = {c: tuple(v[i] for i in spoken) for c in columns if (v := getattr(whole, c))}
        whole = replace(whole, **cast(Any, seen))
    duration = whole.steps * STEP - 0.03
    run = _run(tokenizer, _chunks(stream[1], cuts), endpointing)
    transcript = run.utterances.transcript(duration, "some/model")
    assert run.utterances.hypothesis == whole
    tokens, words, _ = tokens_words_segments(whole, tokenizer, STEP, duration=duration)
    assert (transcript.text, transcript.language) == decode_text(whole.ids, tokenizer)
    assert (transcript.tokens, transcript.words) == (tokens, words)
    assert transcript.segments == tuple(final.segment for final in run.finals)
    assert (transcript.duration, transcript.model) == (duration, "some/model")


@settings(max_examples=80, deadline=None)
@given(streams(), CUTS, st.sampled_from([80, 240, 800, 2400]))
def test_finals_are_the_groups_between_blank_runs(
    stream: tuple[str, Hypothesis], cuts: list[int], silence_ms: int
) -> None:
    """Text, words and confidences are those of the utterance's own tokens."""
    tokenizer, whole = _tokenizer(stream[0]), stream[1]
    endpointing = Endpointing(silence_ms=silence_ms, eou_token=False, max_seconds=None)
    finals = iter(_run(tokenizer, _chunks(whole, cuts), endpointing).finals)
    ends = [
        i
        for i in range(1, len(whole.ids))
        if whole.starts[i] - whole.ends[i - 1] >= silence_ms / 80
    ]
    for first, last in pairwise([0, *ends, len(whole.ids)]):
        columns = ("ids", "starts", "ends", "confidences", "durations")
        own = {c: tuple(v[first:last]) for c in columns if (v := getattr(whole, c))}
        group = replace(whole, **cast(Any, own))
        _, words, _ = tokens_words_segments(group, tokenizer, STEP, duration=whole.steps * STEP)
        text, language = decode_text(group.ids, tokenizer)
        if not words:
            assert text == ""
            continue
        final = next(finals)
        assert (final.segment.text, final.language) == (text, language)
        assert final.segment.words == words
        assert (final.segment.start, final.segment.end) == (words[0].start, words[-1].end)
        assert final.segment.confidence == mean(word.confidence for word in words)
    assert next(finals, None) is None


@settings(max_examples=80, deadline=None)
@given(streams(["characters", "wordpiece"]), CUTS, ENDPOINTINGS)
def test_nothing_is_lost_or_doubled(
    stream: tuple[str, Hypothesis], cuts: list[int], endpointing: Endpointing
) -> None:
    kind, whole = stream
    run = _run(_tokenizer(kind), _chunks(whole, cuts), endpointing)
    heard = run.utterances.transcript(run.duration, "m").text
    joined = _without_space("".join(run.texts)).replace("##", "")
    # A tag whose pieces lie in two utterances is no tag in either; none is written in one piece.
    pieces = TAGS[:2] if kind == "wordpiece" else ["<en-US>"]
    if not any(piece in joined for piece in pieces):
        assert joined == _without_space(heard).replace("##", "")


@settings(max_examples=80, deadline=None)
@given(st.data(), CUTS)
def test_finals_joined_and_closed_up_are_the_offline_text(
    data: st.DataObject, cuts: list[int]
) -> None:
    """Where pauses lie before words, or before the mark that ends the sentence."""
    tokenizer = _tokenizer(data.draw(st.sampled_from(["sentencepiece", "wordpiece"])))
    if isinstance(tokenizer, WordPieceTokenizer):
        ids = _ids(tokenizer, "he", "##llo", ",", "wor", "##ld", ".", "he", "##s", "wor", ".")
    else:
        ids = tokenizer.encode("hello world, how are you? we are here. yes! the fox.")
    tokens, at = [], 0
    for id in ids:
        word = tokenizer.starts_word(id) or tokenizer.pieces[id] in ".,?!"
        at += data.draw(st.sampled_from([0, 1, 2, 10, 12] if word else [0, 1]))
        tokens.append((id, at, at + 1))
        at += 1
    whole = _whole(tokens, at + 1)
    endpointing = data.draw(st.sampled_from([Endpointing(), Endpointing(max_seconds=1)]))
    run = _run(tokenizer, _chunks(whole, cuts), endpointing)
    joined = writing.close_up(" ".join(run.texts), writing.marks(tokenizer.pieces))
    assert joined == decode_text(whole.ids, tokenizer)[0]


@settings(max_examples=80, deadline=None)
@given(streams(), CUTS, st.data())
def test_voice_activity_gives_the_same_whatever_the_cuts(
    stream: tuple[str, Hypothesis], cuts: list[int], data: st.DataObject
) -> None:
    """It may know the whole stream's silences before any token, or just those so far."""
    tokenizer, whole = _tokenizer(stream[0]), stream[1]
    borders = sorted(data.draw(st.sets(st.integers(0, whole.steps + 5), max_size=12)))
    silences = list(zip(borders[::2], borders[1::2], strict=False))
    seconds = data.draw(st.sampled_from([None, 1.0]))
    endpointing = Endpointing(
        vad=True, silence_ms=data.draw(st.sampled_from([80, 240, 800])), max_seconds=seconds
    )
    whole_run = _run(tokenizer, [whole], endpointing, silences=silences)
    run = _run(tokenizer, _chunks(whole, cuts), endpointing, silences=silences)
    early = _run(tokenizer, _chunks(whole, cuts), endpointing, silences=silences, delay=-200)
    moved = _run(tokenizer, _chunks(whole, cuts), endpointing, silences=silences, moves=True)
    assert run.finals == early.finals == moved.finals == whole_run.finals
    _check_promises(run.events)
    _check_promises(early.events)
    late = _run(
        tokenizer,
        _chunks(whole, cuts),
        endpointing,
        silences=silences,
        delay=data.draw(st.integers(1, 40)),
    )
    _check_promises(late.events)
    assert late.utterances.hypothesis == run.utterances.hypothesis
    kept = _run(tokenizer, _chunks(whole, cuts), Endpointing(silence_ms=None, max_seconds=None))
    if stream[0] == "wordpiece":
        joined = [_without_space("".join(r.texts)).replace("##", "") for r in (late, kept)]
        assert joined[0] == joined[1]


# Scenes: what the rules mean, one by one.


class Pieces(CharTokenizer):
    """Decodes as sentencepiece does: space marks become spaces, none in front."""

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids).replace(SPACE, " ").removeprefix(" ")

    def starts_word(self, id: int) -> bool:
        return self.pieces[id].startswith(SPACE)


LABELS = [f"{SPACE}{word}" for word in ("hel", "we", "are", "you", "<en-US>")]
SCENE = Pieces([*LABELS, "lo", ".", "?", "<en-US>", "<de-DE>", "<EOU>", "<EOB>", "<", "en-", "US>"])
Rows = Sequence[tuple[str, int, int]]


def _scene(rows: Rows, steps: int, head: Head = "rnnt") -> Hypothesis:
    pieces = [piece.replace("_", SPACE) for piece, _, _ in rows]
    ids = _ids(SCENE, *pieces)
    return _whole([(id, *row[1:]) for id, row in zip(ids, rows, strict=True)], steps, head)


def _say(
    rows: Rows, steps: int, endpointing: Endpointing = DEFAULT, *, head: Head = "rnnt", **more: Any
) -> list[Event]:
    """The events of a scene that is fed step by step."""
    whole = _scene(rows, steps, head)
    return _run(SCENE, _chunks(whole, range(steps)), endpointing, **more).events


def _short(events: Sequence[Event]) -> list[str | tuple[str, str]]:
    """Partials as (text, stable), Finals as their text."""
    return [e.segment.text if isinstance(e, Final) else (e.text, e.stable) for e in events]


def test_text_is_stable_up_to_the_last_word() -> None:
    events = _say([("_hel", 0, 1), ("lo", 2, 3), ("_you", 4, 5), ("?", 6, 7)], 30)
    assert _short(events) == [
        ("hel", ""),
        ("hello", ""),
        ("hello you", "hello"),
        ("hello you?", "hello"),
        "hello you?",
    ]
    final = events[-1]
    assert isinstance(final, Final)
    assert [(w.text, w.confidence) for w in final.segment.words] == [
        ("hello", 0.99),
        ("you?", 0.97),
    ]
    assert (final.segment.start, final.segment.end) == (0.0, 5 * STEP)


def test_a_final_comes_with_the_chunk_that_ends_the_silence() -> None:
    utterances = Utterances(SCENE, STEP, Endpointing(silence_ms=800))
    whole = _scene([("_hel", 3, 4), ("lo", 5, 6)], 40)
    came = [
        chunk.steps
        for chunk in _chunks(whole, range(40))
        for event in utterances.add(Decoded(chunk))
        if isinstance(event, Final)
    ]
    assert came == [6 + 10]


def test_a_mark_after_the_pause_begins_the_next_utterance() -> None:
    events = _say(
        [("_hel", 0, 1), ("lo", 1, 2), (".", 20, 21), ("_we", 21, 22), ("_are", 22, 23)], 40
    )
    assert [t for t in _short(events) if isinstance(t, str)] == ["hello", ". we are"]
    assert writing.close_up("hello . we are", {"."}) == "hello. we are"


def test_the_rest_of_a_word_after_the_pause_is_kept() -> None:
    whole = _scene([("_hel", 0, 1), ("lo", 20, 21)], 40)
    run = _run(SCENE, _chunks(whole, range(40)))
    assert run.texts == ["hel", "lo"]
    transcript = run.utterances.transcript(3.2, "m")
    assert transcript.text == "hello"
    assert [word.text for word in transcript.words] == ["hello"]
    assert [segment.text for segment in transcript.segments] == ["hel", "lo"]


def test_an_utterance_that_is_too_long_is_cut_before_its_last_word() -> None:
    rows = [("_we", 0, 1), ("_are", 4, 5), ("_hel", 8, 9), ("lo", 12, 13), ("_you", 14, 15)]
    for endpointing in (
        Endpointing(max_seconds=0.8),
        Endpointing(silence_ms=None, max_seconds=0.8),
    ):
        events = _say(rows, 17, endpointing)
        assert [t for t in _short(events) if isinstance(t, str)] == ["we are", "hello you"]
        _check_promises(events)


def test_a_mark_is_not_cut_off_its_word() -> None:
    tokenizer = _tokenizer("wordpiece")
    ids = _ids(tokenizer, "he", "wor", "##ld", ".")
    whole = _whole([(id, 2 * i, 2 * i + 1) for i, id in enumerate(ids)], 20)
    run = _run(tokenizer, _chunks(whole, range(20)), Endpointing(silence_ms=None, max_seconds=0.6))
    assert run.texts == ["he", "world."]


@pytest.mark.parametrize("keep", [True, False])
def test_a_word_without_end_is_cut_all_the_same(keep: bool) -> None:
    rows = [("_hel", 0, 1), *[("lo", i, i + 1) for i in range(1, 100)]]
    run = _run(
        SCENE, _chunks(_scene(rows, 100), range(100)), Endpointing(max_seconds=0.8), keep=keep
    )
    assert run.texts == ["hel" + 9 * "lo", *["lo" * 10] * 9]


def test_a_run_that_goes_on_is_not_handed_out_before_it_ends() -> None:
    """CTC says more of its last token in the next chunk, even where time is up."""
    rows = [("_hel", 0, 1), ("lo", 6, 15)]
    endpointing = Endpointing(silence_ms=None, max_seconds=0.8)
    whole = _scene(rows, 20, "ctc")
    (final,) = _run(SCENE, _chunks(whole, range(20)), endpointing).finals
    assert final.segment.end == 15 * STEP
    assert final.segment.confidence == 0.99


def test_the_duration_of_a_tdt_token_is_no_silence() -> None:
    rows = [("_we", 0, 4), ("_are", 13, 17), ("_you", 27, 28)]
    assert [t for t in _short(_say(rows, 30, head="tdt")) if isinstance(t, str)] == [
        "we are",
        "you",
    ]


def test_the_checkpoints_own_end_of_utterance() -> None:
    rows = [("_we", 0, 1), ("<EOU>", 1, 2), ("<EOB>", 2, 3), ("_are", 3, 4), ("_you", 4, 5)]
    assert _short(_say(rows, 6)) == [("we", ""), "we", ("are", ""), ("are you", "are"), "are you"]
    run = _run(SCENE, [_scene(rows, 6, "ctc")])
    assert run.utterances.transcript(1.0, "m").text == "we are you"
    without = _run(SCENE, [_scene(rows, 6)], Endpointing(eou_token=False))
    assert without.texts == ["we<EOU><EOB> are you"]
    tentative = Decoded(_scene(rows[:1], 1), tuple(_ids(SCENE, "<EOU>")))
    assert Utterances(SCENE, STEP, Endpointing()).add(tentative) == [Partial("we", "")]


def test_the_end_of_utterance_may_last() -> None:
    """A run of it that reaches over a seam takes no word away, and ends nothing twice."""
    whole = _scene([("_we", 0, 2), ("<EOU>", 2, 7), ("_you", 9, 10)], 12, "ctc")
    run = _run(SCENE, _chunks(whole, [1, 3, 4, 6]))
    assert run.texts == ["we", "you"]
    assert run.utterances.hypothesis.ends == (2, 10)


def test_language_tags_are_neither_shown_nor_stable() -> None:
    rows = [("_hel", 0, 1), ("lo", 1, 2), ("<en-US>", 2, 3), ("_you", 3, 4), ("_<en-US>", 5, 6)]
    events = _say([*rows, ("<de-DE>", 30, 31), ("_we", 60, 61)], 70)
    assert _short(events) == [
        ("hel", ""),
        ("hello", ""),
        ("hello you", "hello"),
        ("hello you", "hello you"),
        "hello you",
        ("we", ""),
        "we",
    ]
    languages = [event.language for event in events if isinstance(event, Final)]
    assert languages == ["en-US", None]


def test_a_tag_in_pieces_is_never_stable() -> None:
    """Its beginning is text until it is whole, and a space is taken out of it before the mark."""
    tokenizer = CharTokenizer(["a", "<", "en", " ", "-", "US>", "b"])
    ids = _ids(tokenizer, "a", " ", "<", "en", " ", "-", "US>", " ", "b")
    whole = _whole([(id, i, i + 1) for i, id in enumerate(ids)], 10)
    events = _run(tokenizer, _chunks(whole, range(10))).events
    _check_promises(events)
    assert _short(events) == [
        ("a", ""),
        ("a", "a"),
        ("a <", "a"),
        ("a <en", "a"),
        ("a <en-", "a"),
        ("a", "a"),
        ("a b", "a"),
        "a b",
    ]


def test_half_a_character_is_never_stable() -> None:
    """A piece of bytes may end within a character, and the next one begin there."""
    import tokenizers
    from tokenizers import decoders, models

    pieces = ["å¥½ä", "½", "ł", "å¥½"]  # 好 and the first byte of 你, its other bytes, 好
    built = tokenizers.Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, []))
    built.decoder = decoders.ByteLevel()
    tokenizer = HFTokenizer(built.to_str().encode(), size=len(pieces))
    whole = _whole([(id, id, id + 1) for id in range(4)], 5)
    events = _run(tokenizer, _chunks(whole, range(5))).events
    _check_promises(events)
    assert _short(events) == [
        ("好\ufffd", ""),
        ("好\ufffd", "好"),
        ("好你", "好"),
        ("好你好", "好你"),
        "好你好",
    ]


def test_stable_begins_the_text_even_where_a_decoder_rewrites_it() -> None:
    import tokenizers
    from tokenizers import decoders, models

    built = tokenizers.Tokenizer(models.BPE({"do": 0, f"{SPACE}not": 1, f"{SPACE}go": 2}, []))
    steps = [decoders.Metaspace(), decoders.Fuse(), decoders.Replace("do not", "Don't")]
    built.decoder = decoders.Sequence(steps)
    tokenizer = HFTokenizer(built.to_str().encode(), size=3)
    whole = _whole([(id, id, id + 1) for id in range(3)], 4)
    run = _run(tokenizer, _chunks(whole, range(4)))
    _check_promises(run.events)
    assert _short(run.events) == [("do", ""), ("Don't", ""), ("Don't go", "Don't"), "Don't go"]


def test_tentative_words_are_shown_but_never_stable() -> None:
    utterances = Utterances(SCENE, STEP, Endpointing())
    are, you = _ids(SCENE, f"{SPACE}are", f"{SPACE}you")
    first = _scene([("_we", 0, 1)], 5)
    none = _scene([], 5)
    assert utterances.add(Decoded(first, (are, you))) == [Partial("we are you", "")]
    assert utterances.add(Decoded(none, (are, you))) == []
    assert utterances.add(Decoded(none, (are,))) == [Partial("we are", "")]
    second = _scene([("_are", 6, 7)], 10)
    assert utterances.add(Decoded(second)) == [Partial("we are", "we")]
    silent = replace(none, steps=20)
    events = utterances.add(Decoded(silent, (you,)))
    assert _short(events) == ["we are", ("you", "")]
    assert _short(utterances.add(Decoded(silent))) == [("", "")]
    assert utterances.finish(1.6) == []


def test_voice_activity_decides_instead_of_the_blank_run() -> None:
    endpointing = Endpointing(vad=True, silence_ms=400)
    rows = [("_we", 0, 1), ("_are", 15, 16), ("_you", 30, 31)]
    assert [t for t in _short(_say(rows, 50, endpointing)) if isinstance(t, str)] == ["we are you"]
    # "are" is heard while it is silent, before the silence is long enough; "you" long after.
    events = _say(rows, 50, endpointing, silences=[(12, 50)])
    assert [t for t in _short(events) if isinstance(t, str)] == ["we are", "you"]
    events = _say(rows, 50, endpointing, silences=[(2, 6), (7, 11)])
    assert [t for t in _short(events) if isinstance(t, str)] == ["we are you"]


def test_a_word_in_the_silence_does_not_wait_for_the_next_speech() -> None:
    utterances = Utterances(SCENE, STEP, Endpointing(vad=True, silence_ms=400))
    ended = []
    for chunk in _chunks(_scene([("_we", 0, 1), ("_you", 20, 21)], 60), range(60)):
        utterances.silence(2 * STEP, chunk.steps * STEP)
        events = utterances.add(Decoded(chunk))
        ended += [(chunk.steps, e.segment.text) for e in events if isinstance(e, Final)]
    assert ended == [(2 + 5, "we"), (20 + 5, "you")]


def test_a_silence_that_comes_late_ends_the_utterance_where_it_should_have() -> None:
    endpointing = Endpointing(vad=True, silence_ms=400)
    utterances = Utterances(SCENE, STEP, endpointing)
    events = utterances.add(Decoded(_scene([("_we", 0, 1), ("_you", 9, 10)], 10)))
    utterances.silence(2 * STEP, 8 * STEP)
    events += utterances.add(Decoded(_scene([], 11)))
    assert _short(events) == [("we you", "we"), "we", ("you", "")]
    utterances = Utterances(SCENE, STEP, endpointing)
    rows = [("_we", 0, 1), ("_are", 9, 10), ("_you", 10, 11)]
    events = utterances.add(Decoded(_scene(rows, 11)))
    utterances.silence(2 * STEP, 8 * STEP)
    events += utterances.add(Decoded(_scene([], 12)))
    assert _short(events) == [("we are you", "we are"), "we are", ("you", "")]
    utterances = Utterances(SCENE, STEP, endpointing)
    utterances.add(Decoded(_scene([("_we", 0, 1), ("_you", 9, 10)], 10)))
    utterances.silence(2 * STEP, 8 * STEP)
    assert _short(utterances.finish(0.8)) == ["we", "you"]


def test_silences_without_voice_activity_are_not_kept() -> None:
    utterances = Utterances(SCENE, STEP, Endpointing())
    utterances.silence(0.0, 5.0)
    assert utterances.state() == Utterances(SCENE, STEP, Endpointing()).state()


def test_the_transcript_of_a_stream_that_goes_on() -> None:
    rows = [("_we", 0, 1), ("_are", 20, 21), ("_you", 21, 22)]
    for keep, text, segments in (
        (True, "we are you", ["we", "are you"]),
        (False, "are you", ["are you"]),
    ):
        utterances = Utterances(SCENE, STEP, Endpointing(), keep=keep)
        utterances.add(Decoded(_scene(rows, 25)))
        transcript = utterances.transcript(2.0, "m")
        assert transcript.text == " ".join(word.text for word in transcript.words) == text
        assert [segment.text for segment in transcript.segments] == segments


def test_no_time_of_the_last_words_exceeds_the_stream() -> None:
    utterances = Utterances(SCENE, STEP, Endpointing())
    utterances.add(Decoded(_scene([("_we", 0, 1), ("_you", 9, 12)], 10, "tdt")))
    (final,) = utterances.finish(0.75)
    assert isinstance(final, Final)
    assert (final.segment.end, final.segment.words[-1].end) == (0.75, 0.75)
    assert utterances.transcript(0.75, "m").segments == (final.segment,)
    assert utterances.finish(0.75) == []


def test_an_empty_stream() -> None:
    for kind in KINDS:
        utterances = Utterances(_tokenizer(kind), STEP, Endpointing())
        assert utterances.add(Decoded(_whole([], 0))) == []
        assert utterances.finish(0.0) == []
        transcript = utterances.transcript(0.0, "m")
        assert (transcript.text, transcript.segments, transcript.language) == ("", (), None)


@pytest.mark.parametrize("vad", [False, True])
def test_memory_and_work_do_not_grow(vad: bool) -> None:
    """Ten hours in chunks of four seconds: state and work are those of the first hour."""
    utterances = Utterances(SCENE, STEP, Endpointing(vad=vad), keep=False)
    words = _ids(SCENE, f"{SPACE}we", f"{SPACE}are", f"{SPACE}you")
    sizes, work, finals = [], [], 0

    def hear(first: int, silent: bool) -> None:
        nonlocal finals
        heard = (
            [] if silent else [(w, first + 8 * i, first + 8 * i + 1) for i, w in enumerate(words)]
        )
        utterances.silence(first * STEP, (first + 4) * STEP)
        if silent:
            utterances.silence((first + 4) * STEP, (first + 50) * STEP)
        events = utterances.add(Decoded(_whole(heard, first + 50)))
        finals += sum(isinstance(event, Final) for event in events)

    for hour in range(10):
        largest, calls_made = 0, 0
        for chunk in range(900):
            first, silent = 50 * (900 * hour + chunk), chunk % 7 == 0
            if chunk < 70:
                calls_made += calls(partial(hear, first, silent))
            else:
                hear(first, silent)
            if chunk % 100 == 0:
                largest = max(largest, len(json.dumps(utterances.state())))
        sizes.append(largest)
        work.append(calls_made)
    assert finals > 1250
    assert max(sizes) < 1.2 * sizes[0] < 10_000
    assert max(work[1:]) < 1.1 * work[1]


def test_bad_options() -> None:
    for options in (
        {"silence_ms": 0},
        {"silence_ms": -800},
        {"max_seconds": 0},
        {"max_seconds": float("nan")},
        {"vad": True, "silence_ms": None},
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Endpointing(**options)


def test_importing_it_does_not_import_torch() -> None:
    program = "import sys, auricle.streaming.utterances; print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"
