"""`charset`: whether a text is written in the characters of its language."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auricle.curation.items import Filtered, Item, Outcome
from auricle.curation.step import Batch, Example, Place, Step, Work, refuse_unused
from auricle.curation.steps.languages import SCRIPTS, language_of
from auricle.curation.steps.texts import on_texts
from auricle.errors import ConfigError
from auricle.text import script

FOREIGN = "foreign_characters"
_KNOWN_SCRIPTS = frozenset(name for scripts in SCRIPTS.values() for name in scripts)
# Beside letters: marks, digits, and signs that are read aloud. Pictures and controls are foreign.
_SHARED = frozenset({"P", "N", "Sc", "Sm", "Sk"})
_LETTERLIKE = "\u200c\u200d°№"  # the first two are spelling in Persian and in Indian scripts


@dataclass(frozen=True)
class Charset(Step):
    """Add `foreign_characters`: the share of a text's characters that do not belong, 0 to 1.

    What belongs is `characters`, if given: just those, in the case given. Else letters of
    `scripts` (such as `[latin, cyrillic]`), else of the scripts of the language that `lang` names
    in the row; with both, digits, punctuation and signs of currency and arithmetic belong too,
    pictures, controls and the sign for undecodable bytes do not. `also` adds characters; spaces
    always belong. With neither a set nor a known language the share is null.

    With `drop`, items with a share above `most` are filtered, and those without a share too.

    Raises:
        ConfigError: A script that no language here is written in, or a share outside 0 to 1.
    """

    text: str = "text"
    lang: str = "lang"
    scripts: Sequence[str] = ()
    characters: str = ""
    also: str = ""
    most: float = 0.2  # names and brands come in other scripts too
    drop: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.scripts, str):
            raise ConfigError(f"charset: scripts is a list, such as [{self.scripts}]")
        for name in self.scripts:
            if name not in _KNOWN_SCRIPTS:
                known = ", ".join(sorted(_KNOWN_SCRIPTS))
                raise ConfigError(f"charset: {name!r} is no script known here; there are {known}")
        if self.scripts and self.characters:
            raise ConfigError("charset: give scripts or characters, not both")
        if self.scripts or self.characters:
            refuse_unused(self, ["lang"], "with scripts or characters")
        if not 0 <= self.most <= 1:
            raise ConfigError(f"charset: most is a share between 0 and 1, not {self.most!r}")
        if not self.drop:
            refuse_unused(self, ["most"], "without drop")

    @property
    def inputs(self) -> tuple[str, ...]:
        """A text."""
        return (self.text,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The share, to 4 decimals."""
        return (FOREIGN,)

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Of the language's own, where no set is given."""
        if self.scripts or self.characters or self.also:
            return ()
        strange = {self.text: "it is привет", self.lang: "en"}
        return (
            Example({self.text: "Café, 3 €!", self.lang: "en-GB"}, [{FOREIGN: 0.0}]),
            Example({self.text: "東京タワー", self.lang: "ja"}, [{FOREIGN: 0.0}]),
            Example(strange, self._gives(0.6)),
        )

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""
        return on_texts(self.text, self._one)

    def _gives(self, share: float) -> list[dict[str, float] | str]:
        return [self._reason] if self.drop and share > self.most else [{FOREIGN: share}]

    @property
    def _reason(self) -> str:
        return f"{FOREIGN} above {self.most:g}"

    def _one(self, item: Item, text: str) -> Outcome:
        belongs = self._belongs(item)
        if belongs is None:
            item = {**item, FOREIGN: None}
            detail = f"{self.lang} is {item.get(self.lang)!r}"[:100]
            return Filtered(item, "no known language", detail) if self.drop else item
        # NFC, so that an accent is not counted apart from its letter.
        written = [c for c in unicodedata.normalize("NFC", text) if not c.isspace()]
        foreign = [c for c in written if not belongs(c) and c not in self.also]
        share = round(len(foreign) / len(written), 4) if written else 0.0
        item = {**item, FOREIGN: share}
        if self.drop and share > self.most:
            shown = " ".join(sorted(set(foreign))[:20])
            return Filtered(item, self._reason, f"{share:g}: {shown}")
        return item

    def _belongs(self, item: Item) -> Callable[[str], bool] | None:
        if self.characters:
            allowed = frozenset(unicodedata.normalize("NFC", self.characters))
            return lambda c: c in allowed
        scripts = tuple(self.scripts) or SCRIPTS.get(language_of(item, self.lang) or "")
        return None if scripts is None else lambda c: _is_of(c, scripts)


def _is_of(character: str, scripts: Sequence[str]) -> bool:
    category = unicodedata.category(character)
    if category[0] in "LM":
        return script(character) in ("", *scripts)
    return category in _SHARED or category[0] in _SHARED or character in _LETTERLIKE
