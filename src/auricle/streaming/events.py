"""What a stream says: frozen values, all times in seconds from the start of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auricle.types import Segment


@dataclass(frozen=True, slots=True)
class Partial:
    """The utterance that is being spoken, as far as it is known.

    `stable` is the beginning of `text` that will not change any more: every later text of the same
    utterance, the final one included, begins with it.
    """

    text: str
    stable: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"type": "partial", "text": self.text, "stable": self.stable}


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance that has ended, with its words' times and confidences."""

    segment: Segment
    language: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; fields that are None are left out."""
        language = {} if self.language is None else {"language": self.language}
        return {"type": "final", "segment": self.segment.to_dict(), **language}


Event = Partial | Final
