"""`replace`: rewrite texts by rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auricle.config import hint, shown
from auricle.curation.items import Item
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.curation.steps.languages import language_of
from auricle.curation.steps.packs import PACKS, Rule
from auricle.curation.steps.texts import on_texts
from auricle.errors import ConfigError

_SPACES = re.compile(r"[^\S\n]+")
_BEFORE_MARK = re.compile(r"(?<! ) +(?=[,.;!?](?:\s|$))")
_PACK_EXAMPLES = {
    "brackets": ("so (laughs) it was [noise] fine", "so it was fine"),
    "fillers": ("Umm, so, uhm, it was hmm fine", "so, it was fine"),
    "quotes": ("“it’s” «so»", '"it\'s" "so"'),
    "speaker_labels": ("SPEAKER_01: it was fine", "it was fine"),
    "whitespace": ("it\u00a0was\t\u200b\nfine", "it was fine"),
}


@dataclass(frozen=True)
class Replace(Step):
    r"""Rewrite a text: first by named packs of rules, then by rules; into `into`, else in place.

    A rule is `{pattern: a regular expression, with: what comes there}` (`\1` is its first group;
    nothing by default), and may say `ignore_case: true` and `lang: [en, de]`. The packs are
    `brackets` (`[noise]`, `(laughs)`), `fillers` (`um`, by the row's language; without one only
    those that are words nowhere), `quotes` (straight ones), `speaker_labels` (`JANE:`, `>>`),
    `whitespace` (odd spaces and controls). Afterwards spaces are single, and none stand at the ends
    or before a mark that the text put none before.

    Raises:
        ConfigError: A pack that is not known, or a rule that is none; before anything is read.
    """

    packs: Sequence[str] = ()
    rules: Sequence[Mapping[str, Any]] = ()
    text: str = "text"
    into: str | None = None
    lang: str = "lang"

    def __post_init__(self) -> None:
        if not self.packs and not self.rules:
            raise ConfigError("replace: give packs, rules, or both; there is nothing to replace")
        self._compiled()

    @property
    def inputs(self) -> tuple[str, ...]:
        """A text."""
        return (self.text,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The text rewritten."""
        return (self.into or self.text,)

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=256)

    def options(self) -> dict[str, Any]:
        """The packs' rules too: an edited pack is another step."""
        said = {
            name: [[rule.pattern.pattern, rule.to, sorted(rule.languages)] for rule in PACKS[name]]
            for name in self.packs
        }
        keys = {"text": self.text, "into": self.into, "lang": self.lang}
        return {**keys, "packs": said, "rules": [dict(rule) for rule in self.rules]}

    @property
    def examples(self) -> tuple[Example, ...]:
        """One of a single pack's; what several do to each other, or rules, nobody here knows."""
        if self.rules or len(self.packs) != 1:
            return ()
        given, gives = _PACK_EXAMPLES[self.packs[0]]
        return (Example({self.text: given}, [{self.outputs[0]: gives}]),)

    def open(self, place: Place) -> Work:
        """Compile the rules."""
        rules, key = self._compiled(), self.outputs[0]

        def one(item: Item, text: str) -> Item:
            language = language_of(item, self.lang)
            new = text
            for rule in rules:
                new = rule.on(new, language)
            return {**item, key: _tidied(new, text)}

        return on_texts(self.text, one)

    def _compiled(self) -> list[Rule]:
        if isinstance(self.packs, str) or isinstance(self.rules, (str, Mapping)):
            raise ConfigError("replace: packs and rules are lists")
        rules: list[Rule] = []
        for name in self.packs:
            if name not in PACKS:
                known = hint(str(name), PACKS)
                raise ConfigError(f"replace: {shown(name)} is no pack; {known}")
            rules += PACKS[name]
        return rules + [_rule(said, f"replace: rules.{i}") for i, said in enumerate(self.rules)]


def _rule(said: Any, where: str) -> Rule:
    known = {"pattern": str, "with": str, "ignore_case": bool, "lang": list}
    if not isinstance(said, Mapping) or "pattern" not in said:
        raise ConfigError(f"{where} is a mapping with a pattern, not {said!r}")
    for key, value in said.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; a rule has {', '.join(known)}")
        if not isinstance(value, known[key]):
            raise ConfigError(f"{where}.{key} cannot be {value!r}; in quotes it is a text")
    to = said.get("with", "")
    try:
        pattern = re.compile(said["pattern"], re.IGNORECASE if said.get("ignore_case") else 0)
        pattern.sub(to, "")  # reads groups of `to`, whether anything is found or not
    except (re.error, IndexError) as error:
        raise ConfigError(f"{where}: {said['pattern']!r} -> {to!r}: {error}") from error
    return Rule(pattern, to, frozenset(str(code).lower() for code in said.get("lang", ())))


def _tidied(text: str, before: str) -> str:
    if text == before:
        return text
    text = "\n".join(_SPACES.sub(" ", line).strip() for line in text.split("\n")).strip()
    # `so (laughs), it` leaves a space before its comma; French, which wants one, had it before.
    return text if _BEFORE_MARK.search(before) else _BEFORE_MARK.sub("", text)
