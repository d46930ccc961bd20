"""Facts about written text: language tags, punctuation, sentence ends, scripts without spaces.

Knows neither tokenizers nor models.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache

_TAG = re.compile(r"\s*<([a-z]{2,3}-[A-Z]{2})>")
_SPECIAL = re.compile(r"\[.*\]|<.*>|##.*|\u2581.*|\s*", re.DOTALL)
# Unicode calls these punctuation, but they are read aloud.
_SPOKEN = frozenset("%‰&@#*§％＆＠＃＊")
_SENTENCE_ENDS = frozenset(".?!…。．？！｡؟۔।॥‽")
_CLOSERS = "\"'”’»›)]}」』）】》〉"
# Thai, Lao, Tibetan, Burmese, Khmer, Tai, Balinese, kana, bopomofo, Han, Yi, Javanese: words are
# not divided by spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u3005-\u3007"
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua980-\ua9ff"
    "\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
# What nobody sees or says: soft hyphens, joiners, directions of writing, byte order marks ...
_UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200d\u202a-\u202e\u2060-\u206f\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# ... of which sentencepiece makes some a space.
_UNSEEN_SPACE = re.compile("[\u200b\u200c\u200e\u200f\ufeff]")

# First words of Unicode's names for letters, where they are not the script's own name.
_SCRIPT_OF = {
    "CJK": "han",
    "IDEOGRAPHIC": "han",
    "VERTICAL": "han",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "COMBINING": "",
    "MODIFIER": "",
    "VARIATION": "",
    "FEMININE": "latin",
    "MASCULINE": "latin",
    "MICRO": "greek",
    "OHM": "greek",
    "KELVIN": "latin",
    "ANGSTROM": "latin",
}


def split_language_tags(text: str) -> tuple[str, str | None]:
    """Take tags such as `<en-US>` out; gives the text, stripped, and the most frequent language."""
    found = Counter(_TAG.findall(text))
    if not found:
        return text.strip(), None
    return _TAG.sub("", text).strip(), found.most_common(1)[0][0]


def is_punctuation(text: str) -> bool:
    """Whether nothing in `text` is spoken: marks and spaces only. False for empty text."""
    return bool(text.strip()) and all(
        c.isspace() or (unicodedata.category(c).startswith("P") and c not in _SPOKEN) for c in text
    )


def ends_sentence(word: str) -> bool:
    """Whether a sentence ends with this word; quotes and brackets may close behind the mark."""
    return word.rstrip(_CLOSERS)[-1:] in _SENTENCE_ENDS


def is_unspaced(text: str) -> bool:
    """Whether `text` begins in a script that puts no spaces between words."""
    return bool(_UNSPACED.match(text))


def spaced(text: str) -> str:
    """The text with spaces around the characters of scripts that write none."""
    if not _UNSPACED.search(text):
        return text
    return "".join(f" {c} " if is_unspaced(c) and not continues(c) else c for c in text)


def words_of(text: str) -> list[str]:
    """The words between spaces; each character of a script without spaces is one of its own."""
    return spaced(text).split()


def comparable(text: str) -> str:
    """One spelling of what looks the same: NFKC, and nothing that nobody sees.

    So decomposed accents, full-width and compatibility characters are what sentencepiece makes of
    them, and soft hyphens, joiners and marks of direction are gone.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _UNSEEN.sub("", _UNSEEN_SPACE.sub(" ", text)))


@lru_cache(maxsize=4096)
def script(character: str) -> str:
    """The script of a letter or sign in lower case (`latin`, `han`, `kana`, `hangul`, `thai` ...).

    Empty for what all scripts share: digits, marks, spaces, symbols, accents that combine.
    """
    if unicodedata.category(character)[0] not in "LM":
        return ""
    words = unicodedata.name(character, "").removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH ")
    first = words.partition(" ")[0].partition("-")[0]
    return _SCRIPT_OF.get(first, first.lower())


def continues(text: str) -> bool:
    """Whether `text` must stay with what stands before it: a mark, or a combining sign."""
    return not text or is_punctuation(text) or unicodedata.category(text[0]).startswith("M")


@lru_cache(maxsize=32)
def marks(pieces: Sequence[str]) -> frozenset[str]:
    """The punctuation marks that a vocabulary writes without a space of their own.

    NeMo's rule: marks inside pieces that neither begin with a space mark or `##` nor stand in
    brackets.
    """
    return frozenset(
        c
        for piece in pieces
        for c in piece
        if unicodedata.category(c).startswith("P") and not _SPECIAL.fullmatch(piece)
    )


def close_up(text: str, marks: Collection[str]) -> str:
    """Take out one space before each of `marks`, as NeMo does with what a tokenizer decoded."""
    if not marks:
        return text
    return re.sub(rf"\s([{re.escape(''.join(sorted(marks)))}])", r"\1", text)
