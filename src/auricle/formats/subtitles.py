"""From timed words to cues: what stands on the screen, when, and on which line.

A segment's words are cut into cues, and a cue's words into lines, each by the cheapest set of
breaks (a shortest path over the gaps between words): ends of sentences and clauses and pauses are
cheap places, the place after a short function word is a dear one. Knows no file format.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Protocol

from auricle.errors import ConfigError

_SENTENCE_END = tuple(".?!…。？！।؟")
_CLAUSE_END = tuple(",;:，、；：،–—")
_CLOSING = "\"'”’»)]}」』"
_SHORT_PAUSE = 0.3
_SHORT_WORD = 3


class Spoken(Protocol):
    """A word with its times."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def start(self) -> float: ...  # noqa: D102
    @property
    def end(self) -> float: ...  # noqa: D102


class Passage(Spoken, Protocol):
    """A segment: a stretch of speech, with its words where they are known."""

    @property
    def speaker(self) -> str | None: ...  # noqa: D102
    @property
    def words(self) -> Sequence[Spoken]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SubtitleOptions:
    """How subtitles are cut; widths in columns (a wide East Asian character is two), seconds.

    A pause of `max_pause` always ends a cue; a cue shorter than `min_duration` stays longer on
    the screen where the next one leaves it room.
    """

    max_line_width: int = 42
    max_line_count: int = 2
    highlight_words: bool = False
    min_duration: float = 1.0
    max_duration: float = 7.0
    max_pause: float = 1.5

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.min_duration <= self.max_duration:
            raise ConfigError(
                "subtitles need 0 <= min_duration <= max_duration, "
                f"got {self.min_duration} and {self.max_duration}"
            )


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, or a part of a very long one; `glue` is what stands between it and its forerunner."""

    text: str
    start: float
    end: float
    glue: str = " "


@dataclass(frozen=True, slots=True)
class Cue:
    """What stands on the screen from `start` to `end`."""

    start: float
    end: float
    lines: tuple[tuple[Piece, ...], ...]
    speaker: str | None = None
    named: bool = True  # whether it begins what this speaker says, or others speak meanwhile


def cues(
    passages: Sequence[Passage],
    options: SubtitleOptions,
    label: Callable[[str | None], str] = lambda speaker: "",
) -> list[Cue]:
    """Cut `passages` into cues; `label` gives the text that a named cue's first line opens with."""
    made: list[Cue] = []
    ordered = sorted(passages, key=lambda passage: passage.start)
    for before, passage, after in zip(
        [None, *ordered], ordered, [*ordered[1:], None], strict=False
    ):
        indent = columns(label(passage.speaker))
        always = _meet(before, passage) or _meet(passage, after)
        opens = before is None or before.speaker != passage.speaker
        for run in _runs(_pieces(passage, options.max_line_width), options.max_pause):
            for lines in _Layout(run, options, indent, opens=opens, always=always).cues():
                times = lines[0][0].start, lines[-1][-1].end
                made.append(Cue(*times, lines, passage.speaker, named=opens or always))
                opens = False
    made.sort(key=lambda cue: cue.start)
    return _timed(made, options.min_duration)


def _meet(one: Passage | None, other: Passage | None) -> bool:
    """Whether two speakers speak at once."""
    if one is None or other is None or one.speaker == other.speaker:
        return False
    return other.start < one.end


def columns(text: str) -> int:
    """The width of `text` on the screen, as a fixed-width font would show it."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def join(pieces: Sequence[Piece]) -> str:
    """The text of one line."""
    return "".join(p.text if i == 0 else p.glue + p.text for i, p in enumerate(pieces))


class _Layout:
    """Where one run of words breaks; `indent` columns of a named cue's first line are taken."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        options: SubtitleOptions,
        indent: int,
        *,
        opens: bool,
        always: bool,
    ) -> None:
        self.pieces = pieces
        self.options = options
        self._indents = {0: indent if opens or always else 0}
        self._indent = indent if always else 0
        self.wide = [columns(piece.text) for piece in pieces]
        self.glue = [columns(piece.glue) for piece in pieces]
        inner = [_badness(before, after) for before, after in pairwise(pieces)]
        self.badness = [0.0, *inner, 0.0]  # of a break before each piece, and at the end

    def cues(self) -> Iterator[tuple[tuple[Piece, ...], ...]]:
        """The lines of each cue."""
        for start, stop in _cheapest(0, len(self.pieces), self._cue_prices):
            spans = _cheapest(start, stop, partial(self._line_prices, start))
            yield tuple(tuple(self.pieces[i:j]) for i, j in spans)

    def _cue_prices(self, start: int, end: int) -> Iterator[tuple[int, float]]:
        """What a cue from `start` costs, for each place where it may stop."""
        width, room = self.options.max_line_width, self.options.max_line_count
        latest = self.pieces[start].start + self.options.max_duration
        lines, used, total = 1, self._indents.get(start, self._indent), 0
        for stop in range(start + 1, end + 1):
            added = self._added(start, stop - 1)
            total += added
            if used + added > width and stop - start > 1:
                lines, used = lines + 1, self.wide[stop - 1]
            else:
                used += added
            too_long = lines > room or self.pieces[stop - 1].end > latest
            if too_long and stop - start > 1:
                return
            emptiness = max(0.0, 1 - total / (width * room))
            alone = self._loneliness(start, stop)
            yield stop, 4 + 3 * emptiness**2 + alone + self.badness[stop]

    def _line_prices(self, first: int, start: int, end: int) -> Iterator[tuple[int, float]]:
        """What a line from `start` costs: few lines, of about the same length."""
        width = self.options.max_line_width
        used = self._indents.get(first, self._indent) if start == first else 0
        for stop in range(start + 1, end + 1):
            used += self._added(start, stop - 1)
            if used > width and stop - start > 1:
                return
            slack = 4 * max(0.0, 1 - used / width) ** 2
            ragged = 0.0 if stop == end else self.badness[stop] / 3
            # Twelve is more than any slack and badness together: fewer lines come first.
            yield stop, 12 + slack + self._loneliness(start, stop) / 4 + ragged

    def _added(self, start: int, index: int) -> int:
        return self.wide[index] + (self.glue[index] if index > start else 0)

    def _loneliness(self, start: int, stop: int) -> float:
        return 6.0 if stop - start == 1 and self.wide[start] <= 2 * _SHORT_WORD else 0.0


def _cheapest(
    start: int, end: int, prices: Callable[[int, int], Iterator[tuple[int, float]]]
) -> list[tuple[int, int]]:
    """Cut start..end into spans of the least summed price; any single piece has a price."""
    best = {start: (0.0, start)}
    for at in range(start, end):
        so_far = best[at][0]
        for stop, price in prices(at, end):
            if stop not in best or so_far + price < best[stop][0]:
                best[stop] = (so_far + price, at)
    spans: list[tuple[int, int]] = []
    while end > start:
        spans.append((best[end][1], end))
        end = best[end][1]
    return spans[::-1]


def _badness(before: Piece, after: Piece) -> float:
    """How bad a break between two pieces is."""
    if not after.glue and len(before.text) > 1:
        return 4.0  # inside a word, or in a script without spaces
    text = before.text.rstrip(_CLOSING)
    if text.endswith(_SENTENCE_END):
        return 0.0
    if text.endswith(_CLAUSE_END) or after.start - before.end >= _SHORT_PAUSE:
        return 1.0
    return 5.0 if len(text) <= _SHORT_WORD else 3.0


def _runs(pieces: list[Piece], max_pause: float) -> Iterator[list[Piece]]:
    """Stretches without a long pause."""
    start = 0
    for index, (before, after) in enumerate(pairwise(pieces), start=1):
        if after.start - before.end >= max_pause:
            yield pieces[start:index]
            start = index
    if pieces:
        yield pieces[start:]


def _pieces(passage: Passage, width: int) -> list[Piece]:
    """The words as the passage spells and spaces them; one wider than a line is cut."""
    found: list[Piece] = []
    at = 0
    text = " ".join(passage.text.split())
    for word in passage.words or _guessed_words(passage):
        spelled = " ".join(word.text.split())
        if not spelled:
            continue
        where = text.find(spelled, at)
        glued = where == at and bool(found)
        if where >= 0:
            at = where + len(spelled)
        found += _narrow(Piece(spelled, word.start, word.end, "" if glued else " "), width)
    return found


def _guessed_words(passage: Passage) -> list[Piece]:
    """Words of a passage that came without: its time shared out by their length."""
    texts = passage.text.split()
    total = sum(map(len, texts)) or 1
    rate = (passage.end - passage.start) / total
    edges = [0]
    for text in texts:
        edges.append(edges[-1] + len(text))
    return [
        Piece(t, passage.start + rate * a, passage.start + rate * b)
        for t, (a, b) in zip(texts, pairwise(edges), strict=True)
    ]


def _narrow(piece: Piece, width: int) -> Iterator[Piece]:
    if columns(piece.text) <= width:
        yield piece
        return
    parts = [""]
    for character in piece.text:
        if parts[-1] and columns(parts[-1] + character) > width:
            parts.append("")
        parts[-1] += character
    step = (piece.end - piece.start) / len(piece.text)
    at = 0
    for index, part in enumerate(parts):
        start = piece.start + step * at
        at += len(part)
        yield Piece(part, start, piece.start + step * at, "" if index else piece.glue)


def _timed(made: list[Cue], min_duration: float) -> list[Cue]:
    """Short cues prolonged up to their speaker's next one, which none outlasts."""
    timed: list[Cue] = []
    following: dict[str | None, float] = {}  # where each speaker's next cue begins
    for cue in reversed(made):
        end = max(cue.end, cue.start + min_duration)
        end = min(end, following.get(cue.speaker, end))
        following[cue.speaker] = cue.start
        timed.append(replace(cue, end=max(end, cue.start)))
    return timed[::-1]
