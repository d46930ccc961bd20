"""The command line. A user's mistake is one line and exit code 2, never a traceback.

Nothing heavy is imported here, or in the commands' modules outside their functions: `--help` and
`--version` answer at once. AURICLE_DEBUG=1 shows the traceback of any error.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from auricle.errors import AuricleError, first_line, one_line

EXIT_PARTIAL = 1  # some recordings, or a write, failed
EXIT_MISTAKE = 2  # the user's, told before or instead of the work
EXIT_UNEXPECTED = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143
# How messages name the parameters of `Recognizer.transcribe` and `stream` that are options here.
_PARAMETER = re.compile(
    r"\b(language|task|timestamps|channel|track|head|adapter|batch_seconds|latency_ms|lookahead"
    r"|untrained|vad)=(True|'\w+'|-?\d+|)(?!\w)"
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after `auricle`; None takes them from `sys.argv`.
    """
    # Closed by the caller (>&-): what is said goes nowhere, and no file takes their numbers.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be text, and a terminal may lack characters.
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        from auricle.cli.app import app

        code = app(args=arguments, prog_name="auricle", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as stop:
        # What Typer makes of a broken pipe.
        if isinstance(stop.__context__, BrokenPipeError):
            return _reader_has_gone()
        raise
    except KeyboardInterrupt as stop:
        return stopped(stop)[0]
    except Exception as error:
        return _tell(error)
    return code if isinstance(code, int) else 0


class Terminated(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, as Ctrl-C raises KeyboardInterrupt."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    # Outside the main thread, which alone may say what signals do, all stays as it was.
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stopped(stop: KeyboardInterrupt) -> tuple[int, str]:
    """The exit code of a command that was stopped, and a word for what stopped it."""
    if isinstance(stop, Terminated):
        return EXIT_TERMINATED, "terminated"
    return EXIT_INTERRUPTED, "interrupted"


def _reader_has_gone() -> int:
    """Let Python's last flush go nowhere, so that it does not complain; the exit code."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return EXIT_BROKEN_PIPE


def _tell(error: Exception) -> int:
    """Say what went wrong in one line; the exit code that goes with it."""
    import typer

    if os.environ.get("AURICLE_DEBUG"):
        traceback.print_exc()
    if isinstance(error, typer.Abort):
        return EXIT_INTERRUPTED
    if isinstance(error, AuricleError):
        say_error(str(error))
        return EXIT_MISTAKE
    # Typer's usage errors; where their classes live changes with its version.
    if hasattr(error, "format_message"):
        said = error.format_message().replace(": Value error, ", ": ")  # pydantic's, in Typer
        say_error(f"{said} (see auricle --help)")
        return EXIT_MISTAKE
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = "; make room, then run it again" if error.errno in DISK_FULL else ""
        say_error(f"{where}{error.strerror}{cure}")
        return EXIT_PARTIAL
    if isinstance(error, MemoryError):
        say_error("there is not enough memory for this; try shorter recordings or smaller batches")
        return EXIT_PARTIAL
    say_error(
        f"unexpected {type(error).__name__}: {first_line(error)} "
        "(AURICLE_DEBUG=1 shows where; please report it)"
    )
    return EXIT_UNEXPECTED


def say_error(message: str) -> None:
    """One line on stderr."""
    print(f"auricle: error: {worded(message)}", file=sys.stderr)  # noqa: T201


def worded(message: str) -> str:
    """A message in one line, the parameters in it by the names that they have as options."""
    return _PARAMETER.sub(_option, one_line(" ".join(message.split())))


def _option(parameter: re.Match[str]) -> str:
    """`untrained=True` is `--untrained`, `language='de'` is `--language de`."""
    name, value = parameter[1].replace("_", "-"), parameter[2].strip("'")
    return f"--{name}" if value in ("", "True") else f"--{name} {value}"
