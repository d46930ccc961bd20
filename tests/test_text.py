"""Facts about written text."""

from __future__ import annotations

import pytest

from auricle import text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hello there. <en-US>", ("hello there.", "en-US")),
        ("<de-DE> guten Tag", ("guten Tag", "de-DE")),
        ("one. <en-US> zwei. <de-DE> drei. <de-DE>", ("one. zwei. drei.", "de-DE")),
        ("no tag at all ", ("no tag at all", None)),
        ("a < b > c <EN-us> <en>", ("a < b > c <EN-us> <en>", None)),
        ("<en-US>", ("", "en-US")),
        ("", ("", None)),
    ],
)
def test_language_tags(given: str, expected: tuple[str, str | None]) -> None:
    assert text.split_language_tags(given) == expected


@pytest.mark.parametrize("given", [".", "?!", "。", " ,", "…", "¿", "'", "-"])
def test_is_punctuation(given: str) -> None:
    assert text.is_punctuation(given)


@pytest.mark.parametrize("given", ["", " ", "a", "s.", "50%", "&", "@", "$", "+", "é"])
def test_is_no_punctuation(given: str) -> None:
    assert not text.is_punctuation(given)


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        ("done.", True),
        ("really?!", True),
        ('"done."', True),
        ("(yes!)", True),
        ("終わり。", True),
        ("ですか？", True),
        ("है।", True),
        ("wait…", True),
        ("3.14", False),
        ("comma,", False),
        ("it's", False),
        ("'", False),
        ("", False),
    ],
)
def test_ends_sentence(word: str, ends: bool) -> None:
    assert text.ends_sentence(word) is ends


@pytest.mark.parametrize(("given", "is_so"), [("漢", True), ("ひ", True), ("ไทย", True)])
def test_unspaced_scripts(given: str, is_so: bool) -> None:
    assert text.is_unspaced(given) is is_so


@pytest.mark.parametrize("given", ["word", "ü", "한국", "", " 漢"])
def test_spaced_scripts(given: str) -> None:
    assert not text.is_unspaced(given)


def test_marks_of_a_vocabulary() -> None:
    pieces = (
        "\u2581the",
        "'s",
        ".",
        "\u2581(",
        "##-",
        "<unk>",
        "[UNK]",
        "\u2581",
        "a,b",
        "%",
        "\n",
    )
    assert text.marks(pieces) == {"'", ".", ",", "%"}


def test_close_up() -> None:
    assert text.close_up("hello , world . it 's  ?", {",", ".", "'"}) == "hello, world. it's  ?"
    assert text.close_up("two  .", {"."}) == "two ."
    assert text.close_up("a ] b ^ c - d", {"]", "^", "-"}) == "a] b^ c- d"
    assert text.close_up("a .", frozenset()) == "a ."


@pytest.mark.parametrize(
    ("character", "name"),
    [
        *[("a", "latin"), ("é", "latin"), ("ß", "latin"), ("Ａ", "latin"), ("ª", "latin")],
        *[("я", "cyrillic"), ("λ", "greek"), ("ع", "arabic"), ("ש", "hebrew")],
        *[("漢", "han"), ("々", "han"), ("ひ", "kana"), ("カ", "kana"), ("ー", "kana")],
        *[("ｶ", "kana"), ("한", "hangul"), ("ไ", "thai"), ("ै", "devanagari"), ("क", "devanagari")],
        *[("1", ""), ("٣", ""), (" ", ""), (".", ""), ("。", ""), ("€", ""), ("\u0301", "")],
        *[("♪", ""), ("\ufffd", ""), ("\ue000", ""), ("\x07", "")],
    ],
)
def test_scripts(character: str, name: str) -> None:
    assert text.script(character) == name
