"""Packs of rules that take out of transcripts what is not speech, or write it in one way.

A rule may hold for some languages only: `er` is no word in English and `he` in German.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """What is found, and what is put in its place; `languages` none means all, unknown ones too."""

    pattern: re.Pattern[str]
    to: str = ""
    languages: frozenset[str] = frozenset()

    def on(self, text: str, language: str | None) -> str:
        """A text of a language after the rule."""
        if self.languages and language not in self.languages:
            return text
        return self.pattern.sub(self.to, text)


# What is written between brackets: `[noise]`, `(laughs)`, `<unk>`, `{breath}`, `*coughs*`, the same
# in wide forms, and songs between notes. Found twice, for brackets within brackets.
_BRACKETED = (
    r"\[[^\[\]]*\]|\([^()]*\)|<[^<>\s][^<>]*>|\{[^{}]*\}|［[^［］]*］|（[^（）]*）|【[^【】]*】"
    r"|(?<!\*)\*[^*\n]{1,40}\*(?!\*)|[♪♫♬][^♪♫♬]*[♪♫♬]|[♪♫♬]"
)

# Sounds of hesitation as each language spells them; those in the first row mean nothing anywhere.
_FILLERS = {
    "": "u+hm+ | umm+ | uhh+ | hmm+ | erm+ | ä+hm+ | ööh+ | euhm*",
    "en": "um+ | uh+ | er+m? | ah+m | eh+m? | mm+",
    "de": "ä+h+ | ö+h+m* | hm+ | eh+m",
    "nl": "u+h+m* | e+h+m* | hm+",
    "fr": "euh+ | heu+ | hm+",
    "es": "eh+ | em+ | mm+ | este+e+",
    "it": "e+h+m+ | uh+m* | mm+",
    "pt": "hã+ | hu+m+ | é{2,}",
    "sv": "e+h+m* | ö+h+m* | hm+",
    "da": "ø+h+m* | e+h+m* | hm+",
    "no": "e+h+m* | ø+h+m* | hm+",
    "fi": "öö+ | ää+ | hm+ | mm+",
    "pl": "e{2,} | y{2,} | hm+ | mm+",
    "cs": "e{2,}h* | é{2,} | hm+",
    "ru": "э{2,} | э-э(?:-э)* | м{2,} | э+м+ | хм+",
    "uk": "е{2,} | е-е(?:-е)* | м{2,} | хм+",
    "tr": "ı{2,} | e{2,} | hım+",
}
# Scripts without spaces: no end of a word to go by, so only what is no part of one.
_FILLERS_INSIDE = {
    "ja": "え[ー〜]+っ?と[ー〜]*|えっと[ー〜]*|あのー+|えー+|うーん*",
    "zh": "嗯{1,}[，、]?|呃+[，、]?",
}

_LABELS = (
    r"(?:^|(?<=\n))[^\S\n]*(?:(?:>>+|[-–—])[^\S\n]*)?"
    r"(?:(?i:\[?speaker[ _]?(?:\d{1,3}|[a-z])\]?|interviewer|interviewee|moderator|narrator|host|"
    r"guest|caller|(?:fe)?male(?: speaker)?(?: \d)?|(?:wo)?man(?: \d)?|audience)"
    r"|[A-Z](?:[A-Z.']+)?(?:[ -][A-Z][A-Z.']*){0,3}(?: \d{1,2})?)[^\S\n]*:(?!//)[^\S\n]*"
    r"|(?:^|(?<=\n))[^\S\n]*(?:>>+|[-–—](?=\s))[^\S\n]*"
)


def _fillers() -> tuple[Rule, ...]:
    rules = []
    for language, spelled in _FILLERS.items():
        words = "|".join(word.strip() for word in spelled.split(" | "))
        # With the comma that set it apart: of `so, uh, yes` and `Um, I see` one goes, or none.
        pattern = rf"(?<![\w'’-])(?:{words})(?![\w'’-])(?:[^\S\n]*(?:,|\.\.\.|…))?"
        languages = frozenset({language} - {""})
        rules.append(Rule(re.compile(pattern, re.IGNORECASE), "", languages))
    for language, pattern in _FILLERS_INSIDE.items():
        rules.append(Rule(re.compile(rf"(?:{pattern})、?"), "", frozenset({language})))
    return tuple(rules)


def _in_order(*rules: tuple[str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(re.compile(pattern), to) for pattern, to in rules)


PACKS: Mapping[str, tuple[Rule, ...]] = {
    "brackets": _in_order((_BRACKETED, " "), (_BRACKETED, " ")),
    "fillers": _fillers(),
    "quotes": _in_order(
        (r"[«‹]\s*|(?<!\s)\s*[»›]", '"'),
        (r"[“”„‟〝〞＂]", '"'),
        (r"[‘’‚‛ʼ´`＇]", "'"),
    ),
    "speaker_labels": _in_order((_LABELS, "")),
    # Joiners stay: they are spelling in Persian and in Indian scripts.
    "whitespace": _in_order(
        (r"[\u200b\u2060\ufeff\u00ad\u200e\u200f\u202a-\u202e]", ""),
        (r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u3000]+", " "),
    ),
}
