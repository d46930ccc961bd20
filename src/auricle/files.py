"""Files that appear whole or not at all: written beside their place, then renamed.

Knows no format.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".auricle-*.tmp"  # what a kill leaves of a file that was being written


@contextmanager
def file_beside(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write; at the end of the block it is flushed to the disk and takes `path`'s place.

    If the block fails, nothing of it stays. Devices and pipes (/dev/stdout) are written to
    directly, and a symbolic link's target is replaced rather than the link.

    Raises:
        OSError: The disk is full, or the folder is missing or read-only; it names `path`.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    beside = target.with_name(UNFINISHED.replace("*", secrets.token_hex(8)))
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        # A failed write knows no file name, a failed open knows the temporary one.
        if error.filename in (None, str(beside)):
            error.filename = str(path)
            if error.filename2 is not None:
                del error.filename2  # None would be printed
        raise
    finally:
        with suppress(OSError):
            beside.unlink()


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write the whole of a file by `file_beside`; text is UTF-8 with plain newlines everywhere.

    Raises:
        OSError: As in `file_beside`.
    """
    with file_beside(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)
