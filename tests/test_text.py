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


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("German", "de"),
        ("DE", "de"),
        ("deu", "de"),
        ("ger", "de"),
        ("de_AT", "de"),
        ("zh-Hans-CN", "zh"),
        (" haitian creole ", "ht"),
        ("kab", "kab"),
        ("klingon", None),
        ("xx-DE", None),
        ("", None),
    ],
)
def test_a_language_by_name_code_or_region(given: str, code: str | None) -> None:
    assert text.language_code(given) == code


def test_no_two_languages_share_a_spelling() -> None:
    three = [row[1] for row in text._ROWS]
    assert len(text.LANGUAGES) == len(set(text.LANGUAGES.values())) == len(set(three))
    assert all(text.language_code(name) == code for code, name in text.LANGUAGES.items())


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ("de-DE", ["de-DE"]),
        ("DE_de", ["de-DE"]),
        ("german", ["de-DE"]),
        ("spanish", ["es-ES", "es-US"]),
        ("es", ["es-ES", "es-US"]),
        ("es-SE", []),
        ("english", ["en"]),
        ("auto", ["auto"]),
        ("klingon", []),
    ],
)
def test_the_tags_that_a_language_may_mean(given: str, tags: list[str]) -> None:
    known = ["en", "en-US", "de-DE", "es-ES", "es-US", "auto"]
    assert text.matching_languages(given, known) == tags


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
