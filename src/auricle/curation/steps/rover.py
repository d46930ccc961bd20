"""ROVER: one text out of several systems', by votes on words.

J. G. Fiscus, "A post-processing system to yield reduced word error rates: Recognizer Output Voting
Error Reduction (ROVER)", 1997. The texts are aligned one after another into a network of slots, in
each of which every system has a word or nothing; the best word of each slot is the result. Pure
functions, knows no items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# What NIST's programs count for an edit.
_SUBSTITUTION = 4
_GAP = 3


@dataclass(frozen=True)
class Heard:
    """A word of one system: `plain` is what is compared, empty where nothing was heard."""

    word: str
    plain: str
    confidence: float = 1.0


NOTHING = Heard("", "", 0.0)
Slot = tuple[Heard, ...]  # what each of the systems so far has there, in their order


@dataclass(frozen=True)
class Voted:
    """A word that was chosen: its share of the votes, and its mean confidence."""

    word: str
    share: float
    confidence: float


def network(texts: Sequence[Sequence[Heard]]) -> list[Slot]:
    """Align texts word by word; the first is the frame into which the others are put in order."""
    slots: list[Slot] = [(word,) for word in texts[0]] if texts else []
    for number, text in enumerate(texts[1:], start=1):
        slots = _joined(slots, text, number)
    return slots


def vote(slots: Sequence[Slot], *, alpha: float = 0.5, null_confidence: float = 0.5) -> list[Voted]:
    """The best word of each slot, where it is one and not nothing.

    A word's score is `alpha` times its share of the systems, and the rest times its confidence:
    the mean over the systems that have it, or `null_confidence` for nothing. Of equals the one of
    the earliest system is taken. It is spelled as the surest of the systems spells it.

    With an `alpha` of 0.5 or more, what more than half of the systems have wins however sure the
    others are: confidences of different models do not compare well enough to overrule agreement.
    """
    chosen = (_best(slot, alpha, null_confidence) for slot in slots)
    return [word for word in chosen if word is not None]


def _joined(slots: Sequence[Slot], text: Sequence[Heard], before: int) -> list[Slot]:
    """The slots with one text more; `before` systems are in them."""
    nobody = (NOTHING,) * before
    made: list[Slot] = []
    for slot, word in _aligned(slots, text):
        made.append((*(slot or nobody), word or NOTHING))
    return made


def _aligned(
    slots: Sequence[Slot], text: Sequence[Heard]
) -> list[tuple[Slot | None, Heard | None]]:
    """Pairs of the cheapest alignment; None where a slot or a word has no partner.

    Of equally cheap ones a pair comes before a slot alone, and that before a word alone, as seen
    from the end.
    """
    costs = [[0] * (len(text) + 1) for _ in range(len(slots) + 1)]
    for j in range(1, len(text) + 1):
        costs[0][j] = j * _GAP
    for i, slot in enumerate(slots, start=1):
        skip = _skip(slot)
        costs[i][0] = costs[i - 1][0] + skip
        for j, word in enumerate(text, start=1):
            costs[i][j] = min(
                costs[i - 1][j - 1] + _pair(slot, word),
                costs[i - 1][j] + skip,
                costs[i][j - 1] + _GAP,
            )
    pairs: list[tuple[Slot | None, Heard | None]] = []
    i, j = len(slots), len(text)
    while i or j:
        here = costs[i][j]
        if i and j and here == costs[i - 1][j - 1] + _pair(slots[i - 1], text[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((slots[i], text[j]))
        elif i and here == costs[i - 1][j] + _skip(slots[i - 1]):
            i -= 1
            pairs.append((slots[i], None))
        else:
            j -= 1
            pairs.append((None, text[j]))
    return pairs[::-1]


def _pair(slot: Slot, word: Heard) -> int:
    return 0 if any(other.plain == word.plain for other in slot) else _SUBSTITUTION


def _skip(slot: Slot) -> int:
    """Nothing is a member of a slot like any word: to agree with it costs nothing."""
    return 0 if any(not other.plain for other in slot) else _GAP


def _best(slot: Slot, alpha: float, null_confidence: float) -> Voted | None:
    groups: dict[str, list[Heard]] = {}
    for heard in slot:
        groups.setdefault(heard.plain, []).append(heard)
    scores: dict[str, float] = {}
    for plain, group in groups.items():
        share = len(group) / len(slot)
        sure = sum(heard.confidence for heard in group) / len(group) if plain else null_confidence
        scores[plain] = round(alpha * share + (1 - alpha) * sure, 9)
    most = max(groups, key=lambda plain: len(groups[plain]))
    majority = alpha >= 0.5 and 2 * len(groups[most]) > len(slot)
    winner = most if majority else max(scores, key=lambda plain: scores[plain])  # the first of them
    if not winner:
        return None
    group = groups[winner]
    surest = max(group, key=lambda heard: heard.confidence)
    mean = sum(heard.confidence for heard in group) / len(group)
    return Voted(surest.word, len(group) / len(slot), mean)
