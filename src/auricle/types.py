"""What a transcription is: frozen values, all times in seconds from the start of the audio.

Knows nothing of models or audio. Saving to a file is `formats`' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from auricle import formats
from auricle.formats import SubtitleOptions

_SHOWN = 60  # characters of a text in a repr


@dataclass(frozen=True, slots=True)
class Token:
    """One output unit of the model.

    `text` is the piece as the tokenizer spells it; of Whisper, whose pieces are bytes, their text.
    """

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
    words: tuple[Word, ...] = field(default=(), repr=False)
    confidence: float | None = None
    speaker: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; fields that are None are left out."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**{**data, "words": tuple(Word.from_dict(w) for w in data.get("words", ()))})


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[: _SHOWN - 3]}..."
        model = f", model={self.model!r}" if self.model else ""
        return f"Transcript({text!r}, {self.duration:.2f} s, {len(self.words)} words{model})"

    def _repr_html_(self) -> str:
        """The segments as a table, for notebooks."""
        return formats.html(self)

    def save(
        self,
        path: str | Path,
        *,
        subtitles: SubtitleOptions = SubtitleOptions(),
        name: str | None = None,
    ) -> Path:
        """Write to `path`; the suffix chooses txt, json, srt, vtt, ctm or tsv.

        The file appears whole or not at all.

        Args:
            path: Where to.
            subtitles: Lines and lengths of srt and vtt.
            name: The recording's id in the first column of ctm; None is the file's own name.

        Raises:
            ConfigError: An unknown suffix, or a format that needs times that are not there.
            OSError: The disk is full, or the folder is missing or read-only.
        """
        return formats.save(self, path, subtitles=subtitles, name=name)

    def to_srt(self, subtitles: SubtitleOptions = SubtitleOptions()) -> str:
        """SubRip subtitles, as `save` writes them."""
        return formats.render(self, "srt", subtitles=subtitles)

    def to_vtt(self, subtitles: SubtitleOptions = SubtitleOptions()) -> str:
        """WebVTT subtitles, as `save` writes them."""
        return formats.render(self, "vtt", subtitles=subtitles)

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
    for each in fields(value):
        if each.name == "warnings":
            continue
        item = getattr(value, each.name)
        if isinstance(item, tuple):
            out[each.name] = [_plain(x) for x in item]
        elif item is not None:
            out[each.name] = item
    return out
