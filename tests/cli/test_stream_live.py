"""The growing line: what fits, what is dim, and that a terminal shows what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from auricle.cli import live
from auricle.streaming.events import Event, Final, Partial
from auricle.types import Segment
from tests.patience import PATIENCE

LONG = "one two three four five six seven"


class Stderr:
    """Notes each line, and what stood on the terminal's last line then."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.said: list[tuple[str, str]] = []

    def write(self, text: str) -> None:
        if text.strip():
            self.said.append((text, self.terminal.lines[-1]))

    def flush(self) -> None:
        pass


class Terminal:
    """So much of a terminal as is used; a growing line that would wrap is an error."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.dim = ""
        self.stderr = Stderr(self)

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def write(self, text: str) -> None:
        dim = False
        for part in re.findall(r"\x1b\[2K|\x1b\[2m|\x1b\[22m|[\r\n]|[^\x1b\r\n]+|\x1b", text):
            assert part != "\x1b", f"an unknown sequence in {text!r}"
            if part == "\x1b[2K":
                self.lines[-1] = self.dim = ""
            elif part == "\n":
                self.lines.append("")
            elif part.startswith("\x1b"):
                dim = part == "\x1b[2m"
            elif part != "\r":
                self.lines[-1] += part
                self.dim = part if dim else ""
        assert cell_len(self.lines[-1]) < self.columns


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal(20)
    monkeypatch.setattr(live, "sys", SimpleNamespace(stdout=screen, stderr=screen.stderr))
    monkeypatch.setattr(live, "_columns", lambda: screen.columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return screen


def final(text: str) -> Final:
    return Final(Segment(text, 0.0, 1.0))


def show(*events: Event) -> live.Display:
    shown = live.display(as_json=False)
    for event in events:
        shown.show(event)
    return shown


def test_a_line_grows(terminal: Terminal) -> None:
    shown = show(Partial("one", ""), Partial("one tw", "one"))
    assert terminal.lines == ["one tw"] and terminal.dim == " tw"
    shown.show(Partial("one two", "one two"))
    assert terminal.lines == ["one two"] and terminal.dim == ""


def test_a_final_takes_the_line(terminal: Terminal) -> None:
    shown = show(Partial("one tw", ""), final("One two."), Partial("thr", ""))
    assert terminal.lines == ["One two.", "thr"]
    shown.show(final("Three."))
    shown.close()
    assert terminal.lines == ["One two.", "Three.", ""]


def test_a_long_partial_shows_its_end(terminal: Terminal) -> None:
    show(Partial(LONG, "one two three four five"))
    assert terminal.lines == ["…" + LONG[-16:]]
    assert terminal.dim == " six seven"


def test_ctrl_c_finds_room_on_a_full_line(terminal: Terminal) -> None:
    shown = show(Partial(LONG, ""))
    terminal.write("^C")  # as terminals do when it is pressed
    shown.show(final("One."))
    assert terminal.lines == ["One.", ""]


def test_resizing(terminal: Terminal) -> None:
    shown = show(Partial(LONG, ""))
    terminal.columns = 9
    terminal.lines[-1] = ""  # however the terminal reflowed what was there
    shown.show(Partial(LONG + " eight", ""))
    assert terminal.lines == ["…n eight"]
    terminal.columns = 80
    shown.show(Partial(LONG + " eight nine", ""))
    assert terminal.lines == [LONG + " eight nine"]


def test_the_narrowest_terminals(terminal: Terminal) -> None:
    for columns in (1, 2, 3):
        terminal.columns = columns
        show(Partial(LONG, ""))
        assert terminal.lines[-1] == ["", "…", "…n"][columns - 1]
        terminal.lines[-1] = ""


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("東京都知事選挙", 14, "東京都知事選挙"),
        ("東京都知事選挙", 13, "…京都知事選挙"),
        ("東京都知事選挙", 12, "…都知事選挙"),
        ("cafe\u0301 noir", 9, "cafe\u0301 noir"),
        ("cafe\u0301 noir", 6, "… noir"),
        ("cafe\u0301 noir", 7, "…e\u0301 noir"),
        ("नमस्ते", 20, "नमस्ते"),
        ("", 5, ""),
    ],
)
def test_wide_and_combined_characters(text: str, columns: int, expected: str) -> None:
    stable, rest = live.tail(Partial(text, ""), columns)
    assert stable + rest == expected
    assert cell_len(expected) <= columns


def test_stable_text_out_of_sight() -> None:
    assert live.tail(Partial(LONG, "one two"), 12) == ("…", "e six seven")
    assert live.tail(Partial(LONG, LONG), 12) == ("…e six seven", "")


def test_control_characters_do_nothing(terminal: Terminal) -> None:
    show(Partial("a\x1b[31mb\nc", "a\x1b"), final("x\ny\x07"))
    assert terminal.lines == ["x y", ""]


def test_no_colour(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    show(Partial("one tw", "one"))
    assert terminal.lines == ["one tw"] and terminal.dim == ""


def test_a_line_on_stderr_stands_alone(terminal: Terminal) -> None:
    shown = show(Partial("one tw", ""))
    shown.say("auricle: slow")
    assert terminal.stderr.said == [("auricle: slow", "")]
    assert terminal.lines == ["one tw"]


def test_what_has_not_changed_is_not_written_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(Partial(LONG, ""))
    monkeypatch.setattr(terminal, "write", lambda text: pytest.fail(f"written again: {text!r}"))
    shown.show(Partial(LONG, ""))


def test_a_dumb_terminal_gets_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    show(Partial("one", ""), final("one two"))
    assert terminal.lines == ["one two", ""]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_real_terminal(tmp_path: Path) -> None:
    """The whole command on a pseudo-terminal, made narrower while it runs."""
    import fcntl
    import struct
    import termios

    from tests.cli.test_stream import FAKE, write

    ours, theirs = os.openpty()

    def resize(columns: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    resize(80)
    program = f"import sys{FAKE}\nfrom auricle.cli import main\nsys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "stream", str(write(tmp_path / "a.wav", 1.0))],
        env={
            **{k: v for k, v in os.environ.items() if k != "NO_COLOR"},
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "TERM": "xterm",
        },
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    heard = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            more = os.read(ours, 4096)
        except OSError:  # the other side has closed
            break
        if not more:
            break
        heard += more
        if b"w4\r\n" in heard:
            resize(8)
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 0 and process.stderr and process.stderr.read() == b""
    text = heard.decode()
    assert "\r\x1b[2Kw0\x1b[2m w1\x1b[22m" in text
    assert "\r\x1b[2Kw0 w1 w2 w3 w4\r\n" in text
    assert "\r\x1b[2K…" in text  # no room for w5 w6 w7
    assert text.endswith("w5 w6 w7 w8 w9\r\n")
