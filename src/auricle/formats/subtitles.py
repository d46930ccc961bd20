"""From timed words to cues: what stands on the screen, when, and on which line.

A segment's words are cut into cues, and a cue's words into lines, each by the cheapest set of
breaks (a shortest path over the gaps between words): ends of sentences and clauses and pauses are
cheap places, the place after a short function word is a dear one. Knows no file format.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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


def cues(
    passages: Sequence[Passage],
    options: SubtitleOptions,
    label: Callable[[str | None], str] = lambda speaker: "",
) -> list[Cue]:
    """Cut `passages` into cues; `label` gives the text that each cue's first line opens with."""
    made: list[Cue] = []
    for passage in passages:
        layout = _Layout(options, columns(label(passage.speaker)))
        for run in _runs(_pieces(passage, options.max_line_width), options.max_pause):
            made += [
                Cue(words[0].start, words[-1].end, layout.lines(words), passage.speaker)
                for words in layout.cut(run)
            ]
    made.sort(key=lambda cue: cue.start)
    return _timed(made, options.min_duration)


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
    """Where one speaker's words break; `indent` columns of a cue's first line are taken."""

    def __init__(self, options: SubtitleOptions, indent: int) -> None:
        self.options = options
        self.indent = indent

    def cut(self, pieces: list[Piece]) -> list[list[Piece]]:
        """The words of each cue."""
        room = self.options.max_line_width * self.options.max_line_count

        def cost(i: int, j: int) -> float | None:
            words = pieces[i:j]
            if j - i > 1:
                if words[-1].end - words[0].start > self.options.max_duration:
                    return None
                if self._fewest_lines(words) > self.options.max_line_count:
                    return None
            emptiness = 1 - min(1.0, columns(join(words)) / room)
            last = j == len(pieces)
            return 4 + 3 * emptiness**2 + _loneliness(words) + (0 if last else _badness(pieces, j))

        return [pieces[i:j] for i, j in _cheapest(len(pieces), cost)]

    def lines(self, pieces: list[Piece]) -> tuple[tuple[Piece, ...], ...]:
        """The lines of one cue: as few as will do, of about the same length."""
        width = self.options.max_line_width

        def cost(i: int, j: int) -> float | None:
            line = pieces[i:j]
            used = columns(join(line)) + (self.indent if i == 0 else 0)
            if used > width and j - i > 1:
                return None
            # Twelve is more than any slack and badness together: fewer lines come first.
            slack = 4 * (1 - min(1.0, used / width)) ** 2
            ragged = 0 if j == len(pieces) else _badness(pieces, j) / 3
            return 12 + slack + _loneliness(line) / 4 + ragged

        return tuple(tuple(pieces[i:j]) for i, j in _cheapest(len(pieces), cost))

    def _fewest_lines(self, pieces: Sequence[Piece]) -> int:
        count, used = 1, self.indent
        for index, piece in enumerate(pieces):
            wide = columns(piece.text)
            glued = wide + (columns(piece.glue) if index else 0)
            if index and used + glued > self.options.max_line_width:
                count, used = count + 1, wide
            else:
                used += glued
        return count


def _cheapest(count: int, cost: Callable[[int, int], float | None]) -> list[tuple[int, int]]:
    """Cut 0..count into spans of the least summed cost; `cost` None says a span is too long."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for j in range(1, count + 1):
        choices = []
        for i in range(j - 1, -1, -1):
            price = cost(i, j)
            if price is None:
                break
            choices.append((best[i][0] + price, i))
        best.append(min(choices))
    spans: list[tuple[int, int]] = []
    j = count
    while j > 0:
        spans.append((best[j][1], j))
        j = best[j][1]
    return spans[::-1]


def _badness(pieces: Sequence[Piece], at: int) -> float:
    """How bad a break before piece `at` is."""
    before, after = pieces[at - 1], pieces[at]
    if not after.glue and len(before.text) > 1:
        return 4.0  # inside a word, or in a script without spaces
    text = before.text.rstrip(_CLOSING)
    if text.endswith(_SENTENCE_END):
        return 0.0
    if text.endswith(_CLAUSE_END) or after.start - before.end >= _SHORT_PAUSE:
        return 1.0
    return 5.0 if len(text) <= _SHORT_WORD else 3.0


def _loneliness(pieces: Sequence[Piece]) -> float:
    alone = len(pieces) == 1 and columns(pieces[0].text) <= 2 * _SHORT_WORD
    return 6.0 if alone else 0.0


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
    """Short cues prolonged up to the next one; a cue never outlasts its speaker's next."""
    timed = []
    for index, cue in enumerate(made):
        following = made[index + 1] if index + 1 < len(made) else None
        end = max(cue.end, cue.start + min_duration)
        if following is not None:
            same = following.speaker == cue.speaker
            end = min(end, following.start) if same else max(cue.end, min(end, following.start))
        timed.append(replace(cue, end=max(end, cue.start)))
    return timed
