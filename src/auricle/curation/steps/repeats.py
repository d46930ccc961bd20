"""Whether a text goes round in circles, as recognisers do when they lose the thread.

People repeat themselves too: `no no no no` is speech. What counts is more often than they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from auricle.curation.steps.languages import is_mostly_unspaced
from auricle.metrics import plain

_LONGEST_BLOCK = 60  # units; a recogniser's window holds hardly more twice
# Below these lengths few repetitions say little; above, half of all n-grams should be new.
_ENOUGH_WORDS, _ENOUGH_CHARACTERS = 40, 80


def is_one_again_and_again(text: str) -> bool:
    """Whether the whole text is one short block three times or more: `no no no no`, `はいはいはい`.

    People speak so, and recognisers do where a dog barks: a doubt, but no sign.
    """
    units = _units(plain(text))
    return any(
        len(units) >= 3 * block and all(a == b for a, b in zip(units, units[block:], strict=False))
        for block in (1, 2, 3)
    )


def goes_round(text: str) -> bool:
    """Whether words, or characters where no spaces divide words, repeat as speech does not.

    Either one block comes several times in a row (the shorter, the more often it must), or the
    better half of the n-grams of a long text were there before.
    """
    said = plain(text)
    units = _units(said)
    if isinstance(units, str):
        return _loops(units, _times_of_characters) or _is_stale(units, 5, _ENOUGH_CHARACTERS)
    return (
        _loops(units, _times_of_words)
        or _is_stale(units, 3, _ENOUGH_WORDS)
        or any(w.isalpha() and _loops(w, _times_inside_words) for w in units)
    )


def _units(said: str) -> Sequence[str]:
    """The words of a plain text; one string of characters where no spaces divide words."""
    return said.replace(" ", "") if is_mostly_unspaced(said) else said.split()


def _times_of_words(block: int) -> int:
    """How often a block of so many words must come in a row: six times `no`, three sentences."""
    return {1: 6, 2: 5, 3: 4, 4: 4}.get(block, 3)


def _times_of_characters(block: int) -> int:
    """Of characters that are syllables or words by themselves."""
    return {1: 8, 2: 6, 3: 5}.get(block, 4 if block < 12 else 3)


def _times_inside_words(block: int) -> int:
    """Of letters: laughter and drawn-out vowels are longer than one thinks."""
    return {1: 10, 2: 8, 3: 6}.get(block, 4)


def _loops(units: Sequence[str], times: Callable[[int], int]) -> bool:
    for block in range(1, min(_LONGEST_BLOCK, len(units) // 2) + 1):
        like = 0  # units in a row that are as those a block before
        wanted = block * (times(block) - 1)
        for here in range(block, len(units)):
            like = like + 1 if units[here] == units[here - block] else 0
            # Digits do repeat: in large numbers, and where somebody reads them out.
            if like >= wanted and (
                like >= 2 * wanted + block
                or not all(u.isdigit() for u in units[here - block + 1 : here + 1])
            ):
                return True
    return False


def _is_stale(units: Sequence[str], n: int, enough: int) -> bool:
    if len(units) < enough:
        return False
    grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 2 * len(set(grams)) < len(grams)
