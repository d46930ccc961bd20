"""How far a text is from what was said: word errors, counted over plainly normalised words.

Counts add up over recordings, so that a long one weighs more than a short one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auricle.text import comparable, is_punctuation, words_of

_APOSTROPHES = "'’ʼ＇"
_JOINERS = "-‐‑‒–—―/⁄"
# Heavier than all substitutions of a text together: the fewest errors come first.
_ERROR = 1 << 32


@dataclass(frozen=True)
class Errors:
    """Edits that turn a reference into a hypothesis, and the reference's length in words."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )

    @property
    def total(self) -> int:
        """All edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per word of the reference: the WER as a fraction; above 1 for many insertions.

        Of an empty reference it is 0 where nothing was inserted, else infinite.
        """
        if not self.words:
            return float("inf") if self.total else 0.0
        return self.total / self.words


def plain(text: str) -> str:
    """Lower case, punctuation off, one space between words, in the form of `text.comparable`.

    Hyphens, dashes and slashes divide words, apostrophes inside a word stay, other marks go
    without a trace (`U.S.` is `us`); numbers are not spelled out. Texts that a normaliser of a
    language would call equal may differ here.
    """
    text = comparable(text).lower()
    kept = [_plain_character(text, i) for i in range(len(text))]
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def word_errors(
    reference: str, hypothesis: str, *, normalise: Callable[[str], str] = plain
) -> Errors:
    """Count the fewest edits between two texts, word by word.

    Where several alignments have as few, that with the most words right is taken. Both texts go
    through `normalise` and are cut at spaces; of scripts without spaces (Chinese, Japanese, Thai
    ...) each character is a word.
    """
    return _errors(words_of(normalise(reference)), words_of(normalise(hypothesis)))


def character_errors(
    reference: str, hypothesis: str, *, normalise: Callable[[str], str] = plain
) -> Errors:
    """As `word_errors`, character by character, spaces too: `words` then counts characters."""
    said, heard = list(normalise(reference)), list(normalise(hypothesis))
    return _errors(said, heard)


def _errors(said: Sequence[str], heard: Sequence[str]) -> Errors:
    cost = _distance(*_numbered(said, heard))
    edits, substitutions = divmod(cost, _ERROR)
    # Deletions and insertions together are the other edits; they differ by the lengths.
    deletions = (edits - substitutions + len(said) - len(heard)) // 2
    insertions = edits - substitutions - deletions
    return Errors(substitutions, deletions, insertions, len(said))


def _plain_character(text: str, i: int) -> str:
    c = text[i]
    if c in _APOSTROPHES:
        inside = 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
        return "'" if inside else ""
    if c in _JOINERS:
        return " "
    return "" if is_punctuation(c) and not c.isspace() else c


def _numbered(*texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    number: dict[str, int] = {}
    return [np.array([number.setdefault(w, len(number)) for w in t], np.int64) for t in texts]


def _distance(said: npt.NDArray[np.int64], heard: npt.NDArray[np.int64]) -> int:
    """`_ERROR` for each edit, and 1 more for a substitution, by the cheapest alignment.

    One row of the edit lattice at a time, as whole arrays: an hour of speech takes a second.
    """
    ramp = np.arange(len(heard) + 1, dtype=np.int64) * _ERROR
    row = ramp  # nothing said: all that was heard is inserted
    for word in said:
        candidates = row + _ERROR  # the word was deleted
        taken = row[:-1] + np.where(heard == word, 0, _ERROR + 1)
        np.minimum(candidates[1:], taken, out=candidates[1:])
        row = np.minimum.accumulate(candidates - ramp) + ramp  # then any number of insertions
    return int(row[-1])
