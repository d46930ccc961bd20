"""Word errors: against all alignments of short texts, sums, and what the plain form equates."""

from __future__ import annotations

import functools
import random
import unicodedata

import pytest

from auricle.metrics import Errors, plain, word_errors
from tests.counting import calls


def best(said: tuple[str, ...], heard: tuple[str, ...]) -> tuple[int, int, int, int]:
    """Every alignment, by recursion: (edits, substitutions, deletions, insertions), the least."""

    @functools.cache
    def from_(i: int, j: int) -> tuple[int, int, int, int]:
        if i == len(said) and j == len(heard):
            return 0, 0, 0, 0
        ways = []
        if i < len(said):
            e, s, d, n = from_(i + 1, j)
            ways.append((e + 1, s, d + 1, n))
        if j < len(heard):
            e, s, d, n = from_(i, j + 1)
            ways.append((e + 1, s, d, n + 1))
        if i < len(said) and j < len(heard):
            e, s, d, n = from_(i + 1, j + 1)
            wrong = said[i] != heard[j]
            ways.append((e + wrong, s + wrong, d, n))
        return min(ways)

    return from_(0, 0)


def test_counts_equal_those_of_the_best_of_all_alignments() -> None:
    random.seed(3)
    for _ in range(300):
        said = tuple(random.choices("abcd", k=random.randrange(8)))
        heard = tuple(random.choices("abcd", k=random.randrange(8)))
        _, s, d, n = best(said, heard)
        assert word_errors(" ".join(said), " ".join(heard)) == Errors(s, d, n, len(said))


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("the cat sat", "the cat sat", Errors(0, 0, 0, 3)),
        ("the cat sat", "the hat sat down", Errors(1, 0, 1, 3)),
        ("the cat sat", "sat", Errors(0, 2, 0, 3)),
        ("the cat", "", Errors(0, 2, 0, 2)),
        ("", "uh huh", Errors(0, 0, 2, 0)),
        ("", "", Errors()),
    ],
)
def test_known_counts(said: str, heard: str, errors: Errors) -> None:
    assert word_errors(said, heard) == errors


def test_rates_and_sums() -> None:
    total = Errors(1, 2, 3, 10) + Errors(1, 0, 0, 4)
    assert total == Errors(2, 2, 3, 14)
    assert (total.total, total.rate) == (7, 0.5)
    assert Errors().rate == 0.0
    assert Errors(insertions=1).rate == float("inf")
    assert sum([Errors(1, 0, 0, 2)] * 3, Errors()) == Errors(3, 0, 0, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  World!", "hello world"),
        ("Don’t shout 'now'.", "don't shout now"),
        ("A well-known U.S. state – 3.5 %", "a well known us state 35 %"),
        ("¿Qué? «Sí…»", "qué sí"),
        ("cafe\u0301 und/oder Straße", "café und oder straße"),
        (" ... ", ""),
        ("mo\u0323\u0302t bo\u0302\u0301n", "m\u1ed9t b\u1ed1n"),
        ("\uff21\uff22 \uff11\uff12\uff0c \u00bd \ufb01ne", "ab 12 1 2 fine"),
        ("soft\u00adhyphen \u2067x\u2069 zero\u200bwidth\ufeff", "softhyphen x zero width"),
        ("\uff76\uff9e \u1112\u1161\u11ab", "\u30ac \ud55c"),
    ],
)
def test_the_plain_form(text: str, expected: str) -> None:
    assert plain(text) == expected
    assert plain(expected) == expected


def test_the_plain_form_does_not_depend_on_how_unicode_spells_it() -> None:
    """Of random texts in many scripts, with marks, joiners and directions among them."""
    scripts = (
        "abc XY.,'-\u1ea1\u1ea3\u1ea5 e\u0301\u0323\u0302"
        "\u4f60\u597d\uff0c\uff01 \u304b\u304c\uff76\uff9e"
        "\ud55c\uad6d\u1112\u1161\u11ab \u0f56\u0f7c\u0f0b"
        "\u05e9\u05dc\u200f\u200e\u0639\u064b\u0640 "
        "\u0915\u094d\u200d\u0937\u200c \u0e2a\u0e27\u0e31\u200b"
        "\u00bd\u00b2\u2122\ufb01\u2026\uff05 \u0130\u1e9e\u01c5"
        "\u00ad\u2060\ufeff\u202a\u2028\u0085\u00a0\u3000"
    )
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choice(scripts) for _ in range(rng.randint(1, 20)))
        form = plain(text)
        assert plain(form) == form
        for other in ("NFC", "NFD", "NFKC", "NFKD"):
            assert plain(unicodedata.normalize(other, text)) == form
        assert word_errors(text, unicodedata.normalize("NFD", text)).total == 0


def test_scripts_without_spaces_are_counted_by_characters() -> None:
    assert word_errors("\u4f60\u597d\u4e16\u754c", "\u4f60\u597d \u754c") == Errors(
        deletions=1, words=4
    )
    assert word_errors("hi \u3042\u308a", "hi \u3042\u308a ok") == Errors(insertions=1, words=3)
    tibetan = "\u0f56\u0f7c\u0f51\u0f0b\u0f61\u0f72\u0f42"
    assert word_errors(tibetan, tibetan[:-1]).deletions == 1
    assert word_errors(tibetan, tibetan).words > 4


def test_another_normaliser_may_be_given() -> None:
    assert word_errors("A b", "a b").total == 0
    assert word_errors("A b", "a b", normalise=str).substitutions == 1


def test_an_hour_of_words_is_aligned_a_row_of_the_lattice_at_a_time() -> None:
    """Ten times the words are ten times the calls, not a hundred times."""
    random.seed(0)
    said = [f"w{random.randrange(500)}" for _ in range(10_000)]
    heard = [w for w in said if random.random() > 0.05]
    errors = word_errors(" ".join(said), " ".join(heard))
    assert errors == Errors(0, len(said) - len(heard), 0, len(said))
    few, many = (" ".join(said[:count]) for count in (300, 3000))
    assert calls(lambda: word_errors(many, many)) < 12 * calls(lambda: word_errors(few, few))
