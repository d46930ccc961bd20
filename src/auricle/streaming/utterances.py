"""From tokens to events: what has been said so far, and where an utterance ends.

Every rule looks at the steps of tokens and never at how they came, so the same tokens give the
same Finals, whatever the cuts. Knows neither audio nor networks, and imports no torch.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from auricle.decoding import Head, Hypothesis
from auricle.decoding.confidence import mean
from auricle.decoding.times import begins_word, decode_text, tokens_words_segments
from auricle.errors import ConfigError
from auricle.streaming.events import Event, Final, Partial
from auricle.tokenizers import SPACE, Tokenizer
from auricle.types import Segment, Transcript

if TYPE_CHECKING:
    from auricle.streaming.stepping import Decoded

# What the end of a text may turn into as it goes on: a character of which not all bytes are there
# becomes that character, a language tag disappears.
_UNSETTLED = re.compile(r"(?:[\s\ufffd]|<[a-z]{0,3}|<[a-z]{2,3}-[A-Z]{0,2})+$")


@dataclass(frozen=True)
class Endpointing:
    """What ends an utterance.

    `silence_ms` is how long no token (with `vad`: no speech) may come; None is for ever. With
    `vad`, voice activity decides instead of the tokens. With `eou_token` the checkpoint's own
    `<EOU>` or `<EOB>`, if its vocabulary has one, ends an utterance too and is never seen; without
    it is a token like any other. An utterance that goes on for `max_seconds` is cut before its last
    word, which may be unfinished; None lets it grow, and memory with it.

    Raises:
        ConfigError: A length that is not positive, or `vad` without `silence_ms`.
    """

    silence_ms: int | None = 800
    vad: bool = False
    eou_token: bool = True
    max_seconds: float | None = 30.0

    def __post_init__(self) -> None:
        for name in ("silence_ms", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float):
                raise ConfigError(f"{name}={value!r}: it must be a number, or None")
        if self.silence_ms is not None and not self.silence_ms >= 1:
            raise ConfigError(f"silence_ms={self.silence_ms}: it must be at least 1, or None")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ConfigError(f"max_seconds={self.max_seconds}: it must be above 0, or None")
        if self.vad and self.silence_ms is None:
            raise ConfigError("vad=True needs silence_ms, the silence that ends an utterance")


class _Heard(NamedTuple):
    """A token and its steps; `duration` is a TDT head's own jump."""

    id: int
    start: int
    end: int
    confidence: float
    duration: int | None


class Utterances:
    """The tokens of one stream, and how far they have been handed out as utterances.

    An utterance has ended once decoding has passed the moment at which it must: after the silence,
    at the length, or at the token that `endpointing` names. What is decoded later begins the next
    one, even where it does not begin a word.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        seconds_per_step: float,
        endpointing: Endpointing,
        *,
        keep: bool = True,
    ) -> None:
        """Begin a stream; without `keep` an utterance is forgotten when it is handed out."""
        self._tokenizer = tokenizer
        self._step = seconds_per_step
        self._keep = keep
        self._vad = endpointing.vad
        self._enders = _enders(tokenizer.pieces) if endpointing.eou_token else frozenset()
        silence, longest = endpointing.silence_ms, endpointing.max_seconds
        # In steps. The small number forgives the rounding of what should be a whole count.
        self._silence = inf if silence is None else silence / 1000 / seconds_per_step - 1e-6
        self._longest = inf if longest is None else longest / seconds_per_step

        self._tokens: list[_Heard] = []
        self._open = 0  # the first token of the utterance that goes on
        self._word = 0  # the first token of its last word
        self._promised = 0  # the tokens before this one were shown as stable
        self._shown = ("", "")  # text and stable of the last Partial of this utterance
        self._tentative: tuple[int, ...] = ()
        self._changed = False  # whether there is anything that no Partial has told
        self._silences: deque[tuple[float, float]] = deque()  # in steps
        self._segments: list[Segment] = []
        self._steps = 0
        self._score = 0.0
        self._head: Head = "rnnt"

    @property
    def hypothesis(self) -> Hypothesis:
        """All tokens that are still held, as if decoded in one piece; none that ends utterances.

        Its score is that of the whole stream.
        """
        return self._hypothesis(self._tokens)

    def add(self, decoded: Decoded) -> list[Event]:
        """Take the tokens of the next chunk; Finals come before the next utterance's Partial.

        There is a Partial only when its text or its stable part has changed.
        """
        chunk = decoded.hypothesis
        durations: Sequence[int | None] = chunk.durations or (None,) * len(chunk.ids)
        columns = (chunk.ids, chunk.starts, chunk.ends, chunk.confidences, durations)
        tokens = [_Heard(*row) for row in zip(*columns, strict=True)]
        self._head = chunk.head
        self._score += chunk.score
        if chunk.continues:
            self._replace_last(tokens.pop(0))
        finals: list[Final] = []
        for token in tokens:
            finals += self._advance(token.start)
            if token.id in self._enders:
                finals += self._cut(len(self._tokens))
            else:
                self._append(token)
        self._steps = max(self._steps, chunk.steps)
        # A run of CTC that reaches the last step may go on, so its end is not known yet.
        closed = not self._tokens or self._tokens[-1].end < self._steps
        finals += self._advance(self._steps, closed=closed)
        self._forget_silences()
        tentative = tuple(i for i in decoded.tentative if i not in self._enders)
        return [*finals, *self._partial(tentative)]

    def silence(self, start: float, end: float) -> None:
        """No speech from `start` to `end`, in seconds of the stream; for voice activity alone.

        Spans come in their order, before the tokens of what follows them; one that touches the
        span before prolongs it. One that comes late still ends the utterance where it should have,
        but takes no word back that was shown as stable.
        """
        if not self._vad:
            return
        span = (start / self._step, end / self._step)
        if self._silences and span[0] <= self._silences[-1][1] + 1e-6:
            first, last = self._silences.pop()
            span = (min(first, span[0]), max(last, span[1]))
        self._silences.append(span)

    def finish(self, duration: float) -> list[Event]:
        """End the last utterance; no time in it exceeds `duration`, the stream's length."""
        finals = self._advance(self._steps, duration=duration)
        return [*finals, *self._cut(len(self._tokens), duration)]

    def transcript(self, duration: float, model: str) -> Transcript:
        """What is held, as offline; its segments are those of the Finals and what is still open.

        With `keep` it is the whole stream, else what has not been handed out as a Final.
        """
        tokens, words, _ = tokens_words_segments(
            self.hypothesis, self._tokenizer, self._step, duration=duration
        )
        text, language = decode_text([t.id for t in tokens], self._tokenizer)
        rest, _ = self._segment(self._tokens[self._open :], duration)
        segments = (*self._segments, *([rest] if rest else []))
        return Transcript(text, segments, words, tokens, language, duration, model)

    def state(self) -> dict[str, Any]:
        """Everything in it, as plain JSON; tokenizer and options are no part of it."""
        return {
            "tokens": [list(token) for token in self._tokens],
            "marks": [self._open, self._word, self._promised],
            "shown": list(self._shown),
            "tentative": list(self._tentative),
            "silences": [list(span) for span in self._silences],
            "segments": [segment.to_dict() for segment in self._segments],
            "steps": self._steps,
            "score": self._score,
            "head": self._head,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from another object's `state`.

        Raises:
            ValueError, TypeError, KeyError: It is not one of this tokenizer's.
        """
        tokens = [
            _Heard(int(id), int(start), int(end), float(sure), None if jump is None else int(jump))
            for id, start, end, sure, jump in state["tokens"]
        ]
        if any(not 0 <= token.id < len(self._tokenizer.pieces) for token in tokens):
            raise ValueError("a token is not in the vocabulary")
        first, word, promised = (int(mark) for mark in state["marks"])
        if not 0 <= first <= min(word, promised) <= max(word, promised) <= len(tokens):
            raise ValueError(f"utterances at {state['marks']} of {len(tokens)} tokens")
        text, stable = (str(part) for part in state["shown"])
        if state["head"] not in ("ctc", "rnnt", "tdt"):
            raise ValueError(f"head {state['head']!r}")
        self._tokens = tokens
        self._open, self._word, self._promised = first, word, promised
        self._shown = (text, stable)
        self._tentative = tuple(int(id) for id in state["tentative"])
        self._changed = False
        self._silences = deque((float(start), float(end)) for start, end in state["silences"])
        self._segments = [Segment.from_dict(segment) for segment in state["segments"]]
        self._steps, self._score = int(state["steps"]), float(state["score"])
        self._head = state["head"]

    def _append(self, token: _Heard) -> None:
        count = len(self._tokens)
        if count > self._open and begins_word(token.id, self._tokens[-1].id, self._tokenizer):
            self._word = count
        self._tokens.append(token)
        self._changed = True

    def _replace_last(self, token: _Heard) -> None:
        """Put in the last token's place what it has become; a token that is never seen has none."""
        if self._tokens and token.id not in self._enders:
            self._tokens[-1] = token

    def _advance(
        self, now: int, *, closed: bool = True, duration: float | None = None
    ) -> list[Final]:
        """End what must have ended by step `now`; not `closed`: the last token may go on."""
        finals: list[Final] = []
        while self._open < len(self._tokens):
            step, stop = self._next_end()
            if step > now or (stop == len(self._tokens) and not closed):
                break
            assert stop > self._open, "an utterance ended before its first token"
            finals += self._cut(stop, duration)
        return finals

    def _next_end(self) -> tuple[float, int]:
        """The step at which the open utterance must end, and the token before which it does.

        Computed from nothing but tokens that start before that step.
        """
        first, count = self._tokens[self._open].start, len(self._tokens)
        if self._vad:
            quiet = self._end_by_voice(first)
        else:
            quiet = (self._tokens[-1].end + self._silence, count)
        forced = (first + self._longest, self._word if self._word > self._open else count)
        return min(quiet, forced, key=itemgetter(0))

    def _end_by_voice(self, first: int) -> tuple[float, int]:
        for start, end in self._silences:
            # Tokens may come late, inside the silence: then it is counted from the first of them.
            step = max(start, first) + self._silence
            if step <= end:
                stop = bisect_left(self._tokens, step, self._open, key=attrgetter("start"))
                return step, max(stop, self._promised)
        return inf, len(self._tokens)

    def _forget_silences(self) -> None:
        """Of silences that can end no utterance any more; the last one may still grow."""
        first = self._tokens[self._open].start if self._open < len(self._tokens) else self._steps
        while len(self._silences) > 1 and self._silences[0][1] < first + self._silence:
            self._silences.popleft()

    def _cut(self, stop: int, duration: float | None = None) -> list[Final]:
        """End the utterance before token `stop`; one without words leaves no trace."""
        segment, language = self._segment(self._tokens[self._open : stop], duration)
        if not self._keep:
            del self._tokens[:stop]
            stop = 0
        # No cut lies before the last word: nothing but a late silence asks for one, and that word
        # was then shown as the first that is not stable.
        self._open = self._word = self._promised = stop
        self._changed = True
        if segment is None:
            return []
        self._shown = ("", "")
        if self._keep:
            self._segments.append(segment)
        return [Final(segment, language)]

    def _partial(self, tentative: tuple[int, ...]) -> list[Partial]:
        if not self._changed and tentative == self._tentative:
            return []
        self._changed, self._tentative, self._promised = False, tentative, self._word
        ids = [token.id for token in self._tokens[self._open :]]
        text, _ = decode_text([*ids, *tentative], self._tokenizer)
        known, _ = decode_text(ids[: self._word - self._open], self._tokenizer)
        stable = _UNSETTLED.sub("", known)
        while not text.startswith(stable):
            stable = stable[:-1]
        if (text, stable) == self._shown:
            return []
        self._shown = (text, stable)
        return [Partial(text, stable)]

    def _segment(
        self, tokens: Sequence[_Heard], duration: float | None
    ) -> tuple[Segment | None, str | None]:
        """One segment of all words in `tokens`, and their language."""
        hypothesis = self._hypothesis(tokens)
        _, words, _ = tokens_words_segments(
            hypothesis, self._tokenizer, self._step, duration=duration
        )
        if not words:
            return None, None
        text, language = decode_text(hypothesis.ids, self._tokenizer)
        sure = mean(word.confidence for word in words)
        return Segment(text, words[0].start, words[-1].end, words, sure), language

    def _hypothesis(self, tokens: Sequence[_Heard]) -> Hypothesis:
        return Hypothesis(
            ids=tuple(t.id for t in tokens),
            starts=tuple(t.start for t in tokens),
            ends=tuple(t.end for t in tokens),
            confidences=tuple(t.confidence for t in tokens),
            score=self._score,
            durations=tuple(t.duration for t in tokens if t.duration is not None),
            steps=self._steps,
            head=self._head,
        )


@lru_cache(maxsize=32)
def _enders(pieces: Sequence[str]) -> frozenset[int]:
    """The ids by which a checkpoint itself says that an utterance or a short answer has ended."""
    return frozenset(
        id for id, piece in enumerate(pieces) if piece.removeprefix(SPACE) in ("<EOU>", "<EOB>")
    )
