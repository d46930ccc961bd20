"""`normalise`: texts in one way of writing, so that they can be compared."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

from auricle.curation.items import Item
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.curation.steps.texts import on_texts
from auricle.metrics import plain


@dataclass(frozen=True)
class Normalise(Step):
    """Write a text in one way; into the key `into`, else in place.

    - `plain`, as it is scored: NFC, lower case, no punctuation (`auricle.metrics.plain`).
    - `lower`: NFC, lower case, one space between words.
    - `tidy`: NFC, one space between words; nothing that a reader would see.

    Numbers stay as they are: to spell them out takes a language.
    """

    text: str = "text"
    into: str | None = None
    style: Literal["plain", "lower", "tidy"] = "plain"

    @property
    def inputs(self) -> tuple[str, ...]:
        """A text."""
        return (self.text,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The text in its new form."""
        return (self.into or self.text,)

    @property
    def batch(self) -> Batch:
        """Many: it is little work."""
        return Batch(items=256)

    @property
    def examples(self) -> tuple[Example, ...]:
        """One of the style."""
        given = "  It's 5 p.m., Zo\u0065\u0308! "
        gives = {
            "plain": "it's 5 pm zo\u00eb",
            "lower": "it's 5 p.m., zo\u00eb!",
            "tidy": "It's 5 p.m., Zo\u00eb!",
        }
        return (Example({self.text: given}, [{self.outputs[0]: gives[self.style]}]),)

    def open(self, place: Place) -> Work:
        """Nothing to get ready."""
        key = self.outputs[0]

        def one(item: Item, text: str) -> Item:
            return {**item, key: self._written(text)}

        return on_texts(self.text, one)

    def _written(self, text: str) -> str:
        if self.style == "plain":
            return plain(text)
        text = unicodedata.normalize("NFC", text)
        return " ".join((text.lower() if self.style == "lower" else text).split())
