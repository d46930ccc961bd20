"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write beside `path`, flush to the disk, then rename; nothing half-written is ever seen.

    Text is UTF-8 with plain newlines on every system. Devices and pipes (/dev/stdout) are
    written to directly, and a symbolic link's target is replaced rather than the link.

    Raises:
        OSError: The disk is full, or the folder is missing or read-only; it names `path`.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        # A failed write knows no file name, a failed open knows the temporary one.
        error.filename, error.filename2 = str(path), None
        raise
    return Path(path)


def _replace(target: Path, data: bytes) -> None:
    beside = target.with_name(f".auricle-{secrets.token_hex(8)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
