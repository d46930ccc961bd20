"""Facts about written text: languages and their tags, punctuation, scripts without spaces.

Knows neither tokenizers nor models.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache

# The code that models use, the ISO 639-3 code, the English name. The first 100 are Whisper's.
_TABLE = """
en eng English, zh zho Chinese, de deu German, es spa Spanish, ru rus Russian, ko kor Korean,
fr fra French, ja jpn Japanese, pt por Portuguese, tr tur Turkish, pl pol Polish, ca cat Catalan,
nl nld Dutch, ar ara Arabic, sv swe Swedish, it ita Italian, id ind Indonesian, hi hin Hindi,
fi fin Finnish, vi vie Vietnamese, he heb Hebrew, uk ukr Ukrainian, el ell Greek, ms msa Malay,
cs ces Czech, ro ron Romanian, da dan Danish, hu hun Hungarian, ta tam Tamil, no nor Norwegian,
th tha Thai, ur urd Urdu, hr hrv Croatian, bg bul Bulgarian, lt lit Lithuanian, la lat Latin,
mi mri Maori, ml mal Malayalam, cy cym Welsh, sk slk Slovak, te tel Telugu, fa fas Persian,
lv lav Latvian, bn ben Bengali, sr srp Serbian, az aze Azerbaijani, sl slv Slovenian,
kn kan Kannada, et est Estonian, mk mkd Macedonian, br bre Breton, eu eus Basque,
is isl Icelandic, hy hye Armenian, ne nep Nepali, mn mon Mongolian, bs bos Bosnian, kk kaz Kazakh,
sq sqi Albanian, sw swa Swahili, gl glg Galician, mr mar Marathi, pa pan Punjabi, si sin Sinhala,
km khm Khmer, sn sna Shona, yo yor Yoruba, so som Somali, af afr Afrikaans, oc oci Occitan,
ka kat Georgian, be bel Belarusian, tg tgk Tajik, sd snd Sindhi, gu guj Gujarati, am amh Amharic,
yi yid Yiddish, lo lao Lao, uz uzb Uzbek, fo fao Faroese, ht hat Haitian Creole, ps pus Pashto,
tk tuk Turkmen, nn nno Nynorsk, mt mlt Maltese, sa san Sanskrit, lb ltz Luxembourgish,
my mya Myanmar, bo bod Tibetan, tl tgl Tagalog, mg mlg Malagasy, as asm Assamese, tt tat Tatar,
haw haw Hawaiian, ln lin Lingala, ha hau Hausa, ba bak Bashkir, jw jav Javanese, su sun Sundanese,
yue yue Cantonese, eo epo Esperanto, rw kin Kinyarwanda, kab kab Kabyle, ga gle Irish,
nb nob Bokmål, tn tsn Tswana, xh xho Xhosa, zu zul Zulu, ig ibo Igbo, or ori Odia, ug uig Uyghur,
ky kir Kyrgyz, ku kur Kurdish, lg lug Luganda, gd gla Scottish Gaelic, fy fry Frisian
"""
_OTHER_SPELLINGS = """
ger de, fre fr, chi zh, dut nl, gre el, cze cs, slo sk, rum ro, per fa, geo ka, arm hy, baq eu,
ice is, mac mk, may ms, alb sq, wel cy, bur my, tib bo, mao mi, jv jw, iw he, fil tl, filipino tl,
cmn zh, mandarin zh, burmese my, farsi fa, castilian es, flemish nl, valencian ca, kiswahili sw,
ua uk, by be
"""
_ROWS = [entry.split(maxsplit=2) for entry in _TABLE.strip().split(",")]
LANGUAGES: dict[str, str] = {code: name for code, _, name in _ROWS}  # code to English name
_CODE_OF = {
    **dict(entry.split() for entry in _OTHER_SPELLINGS.split(",")),
    **{spelling.lower(): row[0] for row in _ROWS for spelling in row},
}

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


def language_code(language: str) -> str | None:
    """The code in `LANGUAGES` of a language; None for one that is not there.

    Args:
        language: A name or code with or without a region, in any case: "German", "de", "deu",
            "de-DE", "pt_BR".
    """
    asked = language.strip().lower().replace("_", "-")
    return _CODE_OF.get(asked) or _CODE_OF.get(asked.partition("-")[0])


def matching_languages(language: str, known: Collection[str]) -> list[str]:
    """Those of a model's tags `known` that `language` may mean: "de_de" and "German" are "de-DE".

    A tag written out stands for itself alone; so does a region, which must be there.
    """
    asked = language.strip().lower().replace("_", "-")
    for spelling in (language, asked, _CODE_OF.get(asked)):
        if exact := [tag for tag in known if spelling in (tag, tag.lower())]:
            return exact[:1]
    code = _CODE_OF.get(asked)
    return [tag for tag in known if code is not None and language_code(tag) == code]


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
