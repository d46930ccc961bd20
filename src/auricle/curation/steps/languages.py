"""What is known of how languages are written: their scripts, long words, and how fast is too fast.

Figures are bounds that ordinary speech does not reach, not averages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.text import is_unspaced, script

# Scripts that a text of a language is written in; names are those of `auricle.text.script`.
_OTHERS = {
    ("cyrillic",): "ru uk bg be mk kk ky tg mn ba tt cv os sah ce",
    ("cyrillic", "latin"): "sr bs uz az",
    ("greek",): "el",
    ("arabic",): "ar fa ur ps sd ug ckb arz ary",
    ("hebrew",): "he yi iw",
    ("devanagari",): "hi mr ne sa bho mai kok",
    ("bengali",): "bn as",
    ("gurmukhi",): "pa",
    ("gujarati",): "gu",
    ("oriya",): "or",
    ("tamil",): "ta",
    ("telugu",): "te",
    ("kannada",): "kn",
    ("malayalam",): "ml",
    ("sinhala",): "si",
    ("thai",): "th",
    ("lao",): "lo",
    ("myanmar",): "my",
    ("khmer",): "km",
    ("tibetan",): "bo dz",
    ("georgian",): "ka",
    ("armenian",): "hy",
    ("ethiopic",): "am ti",
    ("han",): "zh yue wuu cmn",
    ("kana", "han"): "ja",
    ("hangul", "han"): "ko",
}
_LATIN = (
    "en de es fr pt tr pl ca nl sv it id fi vi ms cs ro da hu no nb nn hr lt la mi cy sk lv sl et "
    "br eu is sq sw gl sn yo so af oc ht tk mt lb tl fil mg haw ln ha jv jw su fo ga gd eo ia zu "
    "xh st tn ig rw lg wo ff ny om fy ast an co rm sc scn vec lij fur bar gsw li nds wa szl hsb "
    "dsb se csb ceb ilo war"
)
SCRIPTS: dict[str, tuple[str, ...]] = {
    **{code: scripts for scripts, codes in _OTHERS.items() for code in codes.split()},
    **dict.fromkeys(_LATIN.split(), ("latin",)),
}

# Letters of the longest word to be expected; compounds and endings pile up in some languages.
_LONGEST = 35
_LONGEST_COMPOUND = 60
_COMPOUND = "de nl fi hu et tr az kk da sv no nb nn is af eu ka lb fy ta te kn ml si mn"
_COMPOUNDING = frozenset(_COMPOUND.split())

# Characters that can be spoken in a second, at most.
_FASTEST = 35.0
_FASTEST_OF = {"han": 13.0, "kana": 20.0, "hangul": 15.0}


def language_of(item: Mapping[str, Any], key: str) -> str | None:
    """The language that a row names under `key`, without its region: `en` for `en-US`."""
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip().lower().replace("_", "-").partition("-")[0]


def longest_word(language: str | None) -> int:
    """Letters that a word of a language may have; of an unknown one, those of a compound."""
    return _LONGEST_COMPOUND if language is None or language in _COMPOUNDING else _LONGEST


def is_mostly_unspaced(text: str) -> bool:
    """Whether most letters of a text are of scripts that put no spaces between words."""
    letters = [c for c in text if c.isalpha()]
    return 2 * sum(is_unspaced(c) for c in letters) > len(letters)


def least_seconds(spoken: str) -> float:
    """How long at least it takes to say a text without marks and spaces, character by character."""
    return sum(1 / _FASTEST_OF.get(script(c), _FASTEST) for c in spoken)
