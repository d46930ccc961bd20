"""How transcripts are written: one style for all that is learnt from, or a refusal to mix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from auricle import metrics
from auricle.errors import ConfigError
from auricle.training.recipe import TextStyle

Style = Literal["upper", "lower", "cased", "none"]

UNKNOWN = frozenset({"<unk>", "[UNK]"})
_STRAY = 0.005  # share of letters of the other case that slips of the pen explain


def normalise(text: str, style: TextStyle | None) -> str:
    """Write `text` in a style; None and "as_is" leave it alone.

    "plain" is what WER is counted on: lower case, without punctuation.
    """
    match style:
        case "lower":
            return " ".join(text.lower().split())
        case "upper":
            return " ".join(text.upper().split())
        case "plain":
            return metrics.plain(text)
    return text


def style_of(texts: Iterable[str]) -> Style:
    """Which case texts are written in; "none" where no letter has a case."""
    upper = lower = 0
    for text in texts:
        upper += sum(map(str.isupper, text))
        lower += sum(map(str.islower, text))
    if not upper + lower:
        return "none"
    if upper <= _STRAY * (upper + lower):
        return "lower"
    return "upper" if lower <= _STRAY * (upper + lower) else "cased"


def check_one_style(styles: Mapping[str, Style]) -> None:
    """Refuse sources, by name, that are written in different styles.

    Raises:
        ConfigError: They differ; it names one source of each style.
    """
    found: dict[Style, str] = {}
    for name, style in styles.items():
        if style != "none":
            found.setdefault(style, name)
    if len(found) > 1:
        said = ", ".join(f"{name} is {style}" for style, name in found.items())
        raise ConfigError(
            f"transcripts are written in different styles ({said}): set data.text to lower, "
            "upper or plain, or to as_is to learn from them as they stand"
        )
