"""What is true of every Whisper: how it hears, its languages, and what a user may call them."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from auricle import text
from auricle.config import nearest, shown
from auricle.errors import ConfigError

SAMPLE_RATE = 16000
HOP = 160  # samples per frame
WINDOW = 3000  # frames that the model hears at once, 30 s

LANGUAGES = dict(islice(text.LANGUAGES.items(), 100))  # code to English name
SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # written without spaces


def language_code(language: str, known: Collection[str], model: str) -> str:
    """The code of a language given as "de", "deu", "de-DE" or "German".

    Raises:
        ConfigError: Not one of the model's `known` codes; names the nearest.
    """
    asked = language.strip().lower().replace("_", "-")
    code = text.language_code(asked)
    if code is not None and code in known:
        return code
    if set(known) == {"en"}:
        raise ConfigError(
            f"{model} understands English only, not language {language!r}; leave the language out, "
            "or use a multilingual Whisper"
        )
    names = [spelling for c in known for spelling in (c, LANGUAGES[c].lower())]
    near = nearest(asked, names, 5)
    if near:
        likeliest = min(near, key=lambda spelling: spelling[0] != asked[0])
        best = text.language_code(likeliest) or likeliest
        hint = f"did you mean {best!r} ({LANGUAGES[best]})?"
    else:
        hint = "use one of " + ", ".join(sorted(known))
    raise ConfigError(f"{model} does not know language {shown(language)}; {hint}")
