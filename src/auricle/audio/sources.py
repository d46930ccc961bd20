"""Where sound comes from: a path, bytes or a file object becomes one seekable binary file.

A name is only ever opened as a file of this machine. FFmpeg never sees it, so `http://...`,
`concat:...` or `subfile,...` cannot open anything.
"""

from __future__ import annotations

import io
import os
import re
import select
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from auricle.errors import AudioError

_IN_MEMORY = 64 << 20
_PIPE_SECONDS = 60.0
_ADDRESS = re.compile(r"(^|[/\\])[A-Za-z][A-Za-z0-9+.-]+:(?=[/\\])|^[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True)
class Opened:
    """A source that is ready to be read: `name` is what messages call it."""

    file: BinaryIO
    name: str


@contextmanager
def opened(source: object) -> Iterator[Opened]:
    """Open a path, bytes or a binary file object as a seekable file.

    What cannot seek (a pipe, standard input) is copied, to disk where it is large. A seekable
    file object is read from its beginning, and stays open.

    Raises:
        AudioError: A missing, empty or unreadable file, a folder; no such kind of source.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        with _open_path(Path(os.fsdecode(name))) as file, _seekable(file) as seekable:
            yield Opened(_not_empty(seekable, str(source)), str(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        yield Opened(_not_empty(io.BytesIO(source), "the audio bytes"), "the audio bytes")
    elif hasattr(source, "read"):
        name = f"the audio stream {getattr(source, 'name', '')!s}".rstrip()
        if isinstance(source, FilePart) and source.name:
            name = source.name
        with _seekable(cast(BinaryIO, source)) as seekable:
            yield Opened(_not_empty(seekable, name), name)
    else:
        raise AudioError(
            f"cannot read audio from a {type(source).__name__}; "
            "give a path, bytes, a binary file object or a NumPy array"
        )


def _open_path(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{path}: is a folder, not a file; give the files in it", "not a file")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise AudioError(
                f"{path}: is a device, not a file; give an audio or video file", "not a file"
            )
        return _open_pipe(path) if stat.S_ISFIFO(mode) else path.open("rb")
    except FileNotFoundError:
        raise no_such_file(path) from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened: {error.strerror}", "cannot be read") from error
    except AudioError:
        raise
    except ValueError as error:  # a null byte in the name
        raise AudioError(f"{str(path)!r} is not a file name: {error}", "no such file") from error


def _open_pipe(path: Path) -> BinaryIO:
    """A named pipe, once something is written to it: opening it plainly would wait for ever."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not select.select([file], [], [], _PIPE_SECONDS)[0]:
        os.close(file)
        raise AudioError(
            f"{path}: is a pipe, and nothing was written to it for {_PIPE_SECONDS:.0f} seconds",
            "not a file",
        )
    os.set_blocking(file, True)
    return os.fdopen(file, "rb")


def no_such_file(path: str | Path, cure: str = "check the path") -> AudioError:
    """The error for a path where there is nothing, which an address never is a path to."""
    if is_address(path):
        cure = "only files are read: save what stands at that address first"
    return AudioError(f"{path}: no such file; {cure}", "no such file")


def is_address(path: str | Path) -> bool:
    """Whether it looks like http://..., s3://... or the like, also behind a manifest's folder."""
    return bool(_ADDRESS.search(str(path)))


@contextmanager
def _seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    try:
        can_seek = file.seekable()
    except AttributeError:
        can_seek = hasattr(file, "seek") and hasattr(file, "tell")
    if can_seek:
        file.seek(0)
        yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        try:
            shutil.copyfileobj(file, copy)
        except TypeError:
            raise AudioError("an audio stream must give bytes; open it in binary mode") from None
        copy.seek(0)
        yield cast(BinaryIO, copy)


def _not_empty(file: BinaryIO, name: str) -> BinaryIO:
    try:
        head: Any = file.read(1)
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error.strerror}", "cannot be read") from error
    if isinstance(head, str):
        raise AudioError(f"{name}: opened as text; open it in binary mode, 'rb'")
    if not head:
        raise AudioError(f"{name}: is empty (0 bytes); record or copy it again", "empty")
    file.seek(0)
    return file


class FilePart(io.RawIOBase):
    """A stretch of an open file, as a file of its own; `name` is what messages call it."""

    def __init__(self, file: BinaryIO, start: int, size: int, name: str = "") -> None:
        self.name = name
        self.file, self.start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from, counted from the part's beginning."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the part."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, up to the part's end."""
        self.file.seek(self.start + self._at)
        content = self.file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
