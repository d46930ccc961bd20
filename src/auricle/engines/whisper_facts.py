"""What is true of every Whisper: how it hears, its languages, and what a user may call them."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from auricle.errors import ConfigError

SAMPLE_RATE = 16000
HOP = 160  # samples per frame
WINDOW = 3000  # frames that the model hears at once, 30 s

_TABLE = """
en English, zh Chinese, de German, es Spanish, ru Russian, ko Korean, fr French, ja Japanese,
pt Portuguese, tr Turkish, pl Polish, ca Catalan, nl Dutch, ar Arabic, sv Swedish, it Italian,
id Indonesian, hi Hindi, fi Finnish, vi Vietnamese, he Hebrew, uk Ukrainian, el Greek, ms Malay,
cs Czech, ro Romanian, da Danish, hu Hungarian, ta Tamil, no Norwegian, th Thai, ur Urdu,
hr Croatian, bg Bulgarian, lt Lithuanian, la Latin, mi Maori, ml Malayalam, cy Welsh, sk Slovak,
te Telugu, fa Persian, lv Latvian, bn Bengali, sr Serbian, az Azerbaijani, sl Slovenian, kn Kannada,
et Estonian, mk Macedonian, br Breton, eu Basque, is Icelandic, hy Armenian, ne Nepali,
mn Mongolian, bs Bosnian, kk Kazakh, sq Albanian, sw Swahili, gl Galician, mr Marathi, pa Punjabi,
si Sinhala, km Khmer, sn Shona, yo Yoruba, so Somali, af Afrikaans, oc Occitan, ka Georgian,
be Belarusian, tg Tajik, sd Sindhi, gu Gujarati, am Amharic, yi Yiddish, lo Lao, uz Uzbek,
fo Faroese, ht Haitian Creole, ps Pashto, tk Turkmen, nn Nynorsk, mt Maltese, sa Sanskrit,
lb Luxembourgish, my Myanmar, bo Tibetan, tl Tagalog, mg Malagasy, as Assamese, tt Tatar,
haw Hawaiian, ln Lingala, ha Hausa, ba Bashkir, jw Javanese, su Sundanese, yue Cantonese
"""

LANGUAGES: dict[str, str] = {  # code to English name
    code: name for code, _, name in (e.strip().partition(" ") for e in _TABLE.split(","))
}
SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # written without spaces
_CODES = {name.lower(): code for code, name in LANGUAGES.items()}


def language_code(language: str, known: Collection[str], model: str) -> str:
    """The code of a language given as "de", "de-DE" or "German".

    Raises:
        ConfigError: Not one of the model's `known` codes; names the nearest.
    """
    asked = language.strip().lower().replace("_", "-")
    code = _CODES.get(asked, asked.partition("-")[0])
    if code in known:
        return code
    if set(known) == {"en"}:
        raise ConfigError(
            f"{model} understands English only, not language {language!r}; leave the language out, "
            "or use a multilingual Whisper"
        )
    names = [spelling for c in known for spelling in (c, LANGUAGES[c].lower())]
    near = get_close_matches(asked, names, n=5, cutoff=0.5)
    if near:
        nearest = min(near, key=lambda spelling: spelling[0] != asked[0])
        best = _CODES.get(nearest, nearest)
        hint = f"did you mean {best!r} ({LANGUAGES[best]})?"
    else:
        hint = "use one of " + ", ".join(sorted(known))
    raise ConfigError(f"{model} does not know language {language!r}; {hint}")
