"""What a transcription is: frozen values, all times in seconds from the start of the audio.

Knows nothing of models or audio. Saving to a file is `formats`' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from auricle import formats


@dataclass(frozen=True, slots=True)
class Token:
    """One output unit of the model; `text` is the piece as the tokenizer spells it."""

    id: int
    text: str
    start: float
    end: float
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; fields that are None are left out."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its punctuation."""

    text: str
    start: float
    end: float
    confidence: float | None = None
    speaker: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; fields that are None are left out."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Segment:
    """A sentence, or a stretch of speech between two pauses."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()
    confidence: float | None = None
    speaker: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; fields that are None are left out."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**{**data, "words": tuple(Word.from_dict(w) for w in data.get("words", ()))})


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one recording, streamed or not.

    `warnings` are what the sound itself gave cause for: seconds that are missing from a damaged
    file, channels that cancel each other. Plain sentences, also logged.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    tokens: tuple[Token, ...] = ()
    language: str | None = None
    duration: float = 0.0
    model: str | None = None
    warnings: tuple[str, ...] = ()

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write to `path`; the suffix chooses txt, json, srt, vtt, ctm or tsv.

        The file appears whole or not at all. Options are those of `formats.render`.
        """
        return formats.save(self, path, **options)

    def shifted(self, seconds: float) -> Self:
        """The same transcript with every time moved by `seconds`."""

        def move(item: Any) -> Any:
            return replace(item, start=item.start + seconds, end=item.end + seconds)

        return replace(
            self,
            segments=tuple(
                replace(move(s), words=tuple(move(w) for w in s.words)) for s in self.segments
            ),
            words=tuple(move(w) for w in self.words),
            tokens=tuple(move(t) for t in self.tokens),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; fields that are None, and no warnings, are left out."""
        plain = _plain(self)
        if self.warnings:
            plain["warnings"] = list(self.warnings)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **data,
                "warnings": tuple(data.get("warnings", ())),
                "segments": tuple(Segment.from_dict(s) for s in data.get("segments", ())),
                "words": tuple(Word.from_dict(w) for w in data.get("words", ())),
                "tokens": tuple(Token.from_dict(t) for t in data.get("tokens", ())),
            }
        )


def _plain(value: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in fields(value):
        if field.name == "warnings":
            continue
        item = getattr(value, field.name)
        if isinstance(item, tuple):
            out[field.name] = [_plain(x) for x in item]
        elif item is not None:
            out[field.name] = item
    return out
