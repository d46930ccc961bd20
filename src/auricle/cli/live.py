"""How a stream's events are shown: a line that grows on a terminal, finals in a pipe, or JSON.

On a terminal the utterance being spoken stands on the last line and is written again as it
changes; the part that may still change is dim.
"""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from typing import Protocol

from auricle.formats import rounded_values
from auricle.streaming.events import Event, Final, Partial

_ERASE = "\r\x1b[2K"
_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"
_CUT = "…"


class Display(Protocol):
    """Takes a stream's events as they come."""

    def show(self, event: Event) -> None:
        """Show an event at once."""

    def say(self, line: str) -> None:
        """A line on stderr, beside what is shown."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def display(*, as_json: bool) -> Display:
    """The display for this stdout."""
    if as_json:
        return _JsonLines()
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return _Screen()
    return _Lines()


class _Lines:
    """Final texts, a line each."""

    def show(self, event: Event) -> None:
        if isinstance(event, Final):
            _write(_one_line(event.segment.text).strip() + "\n")

    def say(self, line: str) -> None:
        print(line, file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        pass


class _JsonLines(_Lines):
    """Every event as a line of JSON."""

    def show(self, event: Event) -> None:
        _write(json.dumps(rounded_values(event.to_dict()), ensure_ascii=False) + "\n")


class _Screen:
    """A terminal: finals as lines, and below them the utterance being spoken."""

    def __init__(self) -> None:
        self._partial: Partial | None = None
        self._drawn = ""
        # no-color.org: any value that is not empty.
        self._dim = (_DIM, _NORMAL) if not os.environ.get("NO_COLOR") else ("", "")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        if os.name == "nt":
            os.system("")  # the old console understands escape sequences only after this

    def show(self, event: Event) -> None:
        if isinstance(event, Final):
            self._erase()
            self._partial = None
            _write(_one_line(event.segment.text).strip() + "\n")
        else:
            self._partial = event
            self._draw()

    def say(self, line: str) -> None:
        self._erase()
        print(line, file=sys.stderr, flush=True)  # noqa: T201
        self._draw()

    def close(self) -> None:
        self._erase()
        self._partial = None

    def _draw(self) -> None:
        if self._partial is None:
            return
        # The last column stays free: a terminal wraps when it is written. So do two more, where
        # there is room, for the ^C that the terminal itself writes behind the text.
        columns = _columns()
        stable, rest = tail(self._partial, max(columns - 3, min(columns - 1, 9)))
        line = stable + (rest and f"{self._dim[0]}{rest}{self._dim[1]}")
        if line != self._drawn:
            _write(_ERASE + line)
            self._drawn = line

    def _erase(self) -> None:
        if self._drawn:
            _write(_ERASE)
            self._drawn = ""


def tail(partial: Partial, columns: int) -> tuple[str, str]:
    """The end of a partial text that fits into so many columns: its stable part, and the rest."""
    text = _one_line(partial.text)
    start, mark = _fitting(text, columns), ""
    if start and columns > 0:
        start, mark = _fitting(text, columns - 1), _CUT
    stable = max(start, len(partial.stable))
    return mark + text[start:stable], text[stable:]


def _fitting(text: str, columns: int) -> int:
    """Where the longest end of `text` that fits begins; wide characters take two columns."""
    from rich.cells import get_character_cell_size

    start = len(text)
    while start and (columns := columns - get_character_cell_size(text[start - 1])) >= 0:
        start -= 1
    while 0 < start < len(text) and not get_character_cell_size(text[start]):
        start += 1  # a sign that belongs to the character before
    return start


def _columns() -> int:
    try:
        # Asked each time: the window may have been resized.
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _one_line(text: str) -> str:
    """Control characters as spaces, each its own, so that prefixes stay prefixes."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
