"""A transcript as text: txt, json, srt, vtt, ctm and tsv.

Pure: a transcript is anything with the fields of `Transcription`, so that this room needs
neither `types` nor what comes after it, and `Transcript.save` may call it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from auricle.errors import ConfigError
from auricle.files import write_atomic
from auricle.formats.subtitles import Cue, Passage, Piece, SubtitleOptions, cues, join

__all__ = ["FORMATS", "SubtitleOptions", "Transcription", "html", "render", "save"]

FORMATS = ("txt", "json", "srt", "vtt", "ctm", "tsv")

_SUBTITLES = SubtitleOptions()
_TIMES = {"start", "end", "duration"}
_HTML_ROWS = 100
_CHANNEL = re.compile(r"channel (\d+)")  # a speaker of channel="all"


class Transcription(Protocol):
    """What a transcript must offer to be written; times in seconds."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def segments(self) -> Sequence[Passage]: ...  # noqa: D102
    @property
    def words(self) -> Sequence[Any]: ...  # noqa: D102
    def to_dict(self) -> dict[str, Any]: ...  # noqa: D102


def render(
    transcript: Transcription,
    format: str,
    *,
    subtitles: SubtitleOptions = _SUBTITLES,
    name: str | None = None,
) -> str:
    """The transcript in one of `FORMATS`, ending in a newline.

    Args:
        transcript: A `Transcript`, or anything that looks like one.
        format: One of `FORMATS`.
        subtitles: Lines and lengths of srt and vtt.
        name: The recording's id in the first column of ctm.

    Raises:
        ConfigError: An unknown format, or one that needs times the transcript does not have.
    """
    match format:
        case "txt":
            return _txt(transcript)
        case "json":
            return _json(transcript)
        case "srt":
            return _srt(transcript, subtitles)
        case "vtt":
            return _vtt(transcript, subtitles)
        case "ctm":
            return _ctm(transcript, name or "audio")
        case "tsv":
            return _tsv(transcript)
    raise ConfigError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")


def save(
    transcript: Transcription,
    path: str | Path,
    *,
    subtitles: SubtitleOptions = _SUBTITLES,
    name: str | None = None,
) -> Path:
    """Write `transcript` to `path` in the format of its suffix, whole or not at all.

    Raises:
        ConfigError: As in `render`.
        OSError: The disk is full, or the folder is missing or read-only.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ConfigError(
            f"{path}: the suffix chooses the format and must be one of .{', .'.join(FORMATS)}"
        )
    return write_atomic(
        path, render(transcript, suffix, subtitles=subtitles, name=name or path.stem)
    )


def html(transcript: Transcription) -> str:
    """The segments as a table of at most 100 rows, or the text where nothing is timed."""
    shown = transcript.segments[:_HTML_ROWS]
    if not shown:
        return f"<p>{escape(transcript.text)}</p>"
    rows = [
        f"<tr><td>{_clock(s.start, '.')}</td><td>{_clock(s.end, '.')}</td>"
        f'<td style="text-align: left">{escape(_named(s.speaker) + s.text.strip())}</td></tr>'
        for s in shown
    ]
    if more := len(transcript.segments) - len(shown):
        rows.append(f"<tr><td></td><td></td><td>and {more} more</td></tr>")
    head = "<tr><th>start</th><th>end</th><th>text</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _txt(transcript: Transcription) -> str:
    if not any(s.speaker for s in transcript.segments):
        return transcript.text + "\n"
    turns = groupby(transcript.segments, key=lambda s: s.speaker)
    lines = ((speaker, (s.text.strip() for s in said)) for speaker, said in turns)
    return "".join(f"{_named(speaker)}{' '.join(filter(None, said))}\n" for speaker, said in lines)


def _json(transcript: Transcription) -> str:
    rounded = rounded_values(transcript.to_dict())
    return json.dumps(rounded, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def rounded_values(value: Any, key: str = "") -> Any:
    """Milliseconds for times, four decimals for the rest: digits beyond are arithmetic's dust."""
    if isinstance(value, dict):
        return {k: rounded_values(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded_values(v, key) for v in value]
    if isinstance(value, float):
        return round(value, 3 if key in _TIMES else 4) if math.isfinite(value) else None
    return value


def _srt(transcript: Transcription, options: SubtitleOptions) -> str:
    shown = cues(_passages(transcript, "srt"), options, _named)

    def label(cue: Cue) -> str:
        return _named(cue.speaker) if cue.named else ""

    blocks = _blocks(shown, options, label, _without_arrow)
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(blocks, start=1)
    )


def _vtt(transcript: Transcription, options: SubtitleOptions) -> str:
    shown = cues(_passages(transcript, "vtt"), options)
    blocks = _blocks(shown, options, _voice, _escaped)
    return "WEBVTT\n" + "".join(
        f"\n{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n" for start, end, text in blocks
    )


def _blocks(
    shown: list[Cue],
    options: SubtitleOptions,
    opening: Callable[[Cue], str],
    spell: Callable[[str], str],
) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of what a player shows; with highlighting, one block for each word."""
    for cue in shown:
        if not options.highlight_words:
            yield cue.start, cue.end, opening(cue) + _body(cue, spell)
            continue
        now = cue.start
        for piece in (p for line in cue.lines for p in line):
            start, end = max(piece.start, now), min(max(piece.end, now), cue.end)
            if start > now:
                yield now, start, opening(cue) + _body(cue, spell)
            if end > start:
                yield start, end, opening(cue) + _body(cue, spell, piece)
            now = max(now, end)
        if cue.end > now:
            yield now, cue.end, opening(cue) + _body(cue, spell)


def _body(cue: Cue, spell: Callable[[str], str], marked: Piece | None = None) -> str:
    def show(piece: Piece) -> Piece:
        text = spell(piece.text)
        text = f"<u>{text}</u>" if piece is marked else text
        return Piece(text, piece.start, piece.end, piece.glue)

    return "\n".join(join([show(piece) for piece in line]) for line in cue.lines)


def _ctm(transcript: Transcription, name: str) -> str:
    if transcript.text.strip() and not transcript.words:
        raise ConfigError("ctm needs word times, and this transcript has none: timestamps=True")
    ordered = sorted(transcript.words, key=lambda w: (_ctm_channel(w.speaker), w.start))
    return "".join(_ctm_line(name, w) for w in ordered)


def _ctm_channel(speaker: str | None) -> int:
    """CTM counts channels from 1; speakers who are no channels share the first."""
    of_channel = _CHANNEL.fullmatch(speaker or "")
    return int(of_channel[1]) + 1 if of_channel else 1


def _ctm_line(name: str, word: Any) -> str:
    """A word's line; none for a word in which sclite would see nothing."""
    # sclite takes a semicolon for the end of a word, and two at a line's beginning for a comment.
    recording, text = ("_".join(t.replace(";", " ").split()) for t in (name, word.text))
    if not text:
        return ""
    start, end = round(word.start, 3), round(word.end, 3)
    times = f"{start:.3f} {max(0.0, end - start):.3f}"
    sure = "" if word.confidence is None else f" {word.confidence:.3f}"
    return f"{recording or 'audio'} {_ctm_channel(word.speaker)} {times} {text}{sure}\n"


def _tsv(transcript: Transcription) -> str:
    passages = _passages(transcript, "tsv")
    spoken = any(p.speaker for p in passages)
    rows = ["start\tend\t" + ("speaker\t" if spoken else "") + "text"]
    for p in passages:
        times = f"{_milliseconds(p.start)}\t{_milliseconds(p.end)}\t"
        speaker = f"{_plain(p.speaker or '')}\t" if spoken else ""
        rows.append(times + speaker + _plain(p.text))
    return "\n".join(rows) + "\n"


def _passages(transcript: Transcription, format_: str) -> Sequence[Passage]:
    if transcript.text.strip() and not transcript.segments:
        raise ConfigError(f"{format_} needs times, and this transcript has none: timestamps=True")
    return transcript.segments


def _named(speaker: str | None) -> str:
    return f"{_plain(speaker)}: " if speaker else ""


def _voice(cue: Cue) -> str:
    return f"<v {_escaped(_plain(cue.speaker))}>" if cue.speaker else ""


def _plain(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _without_arrow(text: str) -> str:
    return text.replace("-->", "->")  # SubRip has no escape, and this would end the cue


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
