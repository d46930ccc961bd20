"""The command line. A user's mistake is one line and exit code 2, never a traceback.

Nothing heavy is imported here, or in the commands' modules outside their functions: `--help` and
`--version` answer at once. AURICLE_DEBUG=1 shows the traceback of any error.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence

from auricle.errors import AuricleError, first_line, one_line

EXIT_PARTIAL = 1  # some recordings, or a write, failed
EXIT_MISTAKE = 2  # the user's, told before or instead of the work
EXIT_UNEXPECTED = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after `auricle`; None takes them from `sys.argv`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may be in bytes that are no text, and terminals know few characters.
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
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return _tell(error)
    return code if isinstance(code, int) else 0


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
        say_error(f"{error.format_message()} (see auricle --help)")
        return EXIT_MISTAKE
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = "; make room, then run it again" if error.errno in DISK_FULL else ""
        say_error(f"{where}{error.strerror}{cure}")
        return EXIT_PARTIAL
    say_error(
        f"unexpected {type(error).__name__}: {first_line(error)} "
        "(AURICLE_DEBUG=1 shows where; please report it)"
    )
    return EXIT_UNEXPECTED


def say_error(message: str) -> None:
    """One line on stderr."""
    print(f"auricle: error: {one_line(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
