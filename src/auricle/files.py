"""Files that appear whole or not at all: written beside their place, then renamed.

Knows no format.
"""

from __future__ import annotations

import functools
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from auricle.errors import ConfigError

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
    _sweep(target.parent)
    beside = target.with_name(UNFINISHED.replace("*", secrets.token_hex(8)))
    try:
        with _held(beside) as file:
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


@contextmanager
def _held(path: Path) -> Iterator[BinaryIO]:
    """A new file with a lock that ends with this process, so that no other takes it for left."""
    while True:
        with path.open("xb") as file:
            _lock(file)
            if not os.fstat(file.fileno()).st_nlink:  # swept before it was locked
                continue
            yield file
            return


def _lock(file: BinaryIO, *, wait: bool = True) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        return False
    return True


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove, once in a process, the unfinished files of killed ones from a folder."""
    for path in folder.glob(UNFINISHED):
        with suppress(OSError), path.open("rb") as file:
            if _lock(file, wait=False):
                path.unlink()


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write the whole of a file by `file_beside`; text is UTF-8 with plain newlines everywhere.

    Bytes of a file's name that are no UTF-8 are written as JSON escapes them.

    Raises:
        OSError: As in `file_beside`.
    """
    with file_beside(path) as file:
        file.write(encoded(content) if isinstance(content, str) else content)
    return Path(path)


def encoded(text: str) -> bytes:
    r"""UTF-8, whatever names are in `text`: bytes of a name that are none become `\udce9`.

    In a JSON string that is the escape of the same name.
    """
    return text.encode("utf-8", "backslashreplace")


def refuse_overwriting(
    outputs: Iterable[str | Path], inputs: Iterable[str | Path], *, cure: str = "write elsewhere"
) -> None:
    """Raise if writing would destroy what is read: to be called before the first item.

    An output may not be an input, nor a folder with an input in it, nor an existing file in a
    folder that is an input as a whole (a model's, a data set's). Files count as the same whatever
    their names: links are followed. Devices, pipes and what does not exist are nobody's.

    Args:
        outputs: Files that will be replaced, and folders that will be replaced as a whole.
        inputs: What is read; gone through only if some output is there already.
        cure: What to do about it, for the message.

    Raises:
        ConfigError: One would; names both.
    """
    check = overwriting(outputs, cure=cure)
    if check is not None:
        for path in inputs:
            check(path)


def overwriting(
    outputs: Iterable[str | Path], *, cure: str = "write elsewhere"
) -> Callable[[str | Path], None] | None:
    """What `refuse_overwriting` asks of each input; None if no output is there yet."""
    taken: dict[_Identity, str | Path] = {}
    around: dict[_Identity, str | Path] = {}  # the folders that existing outputs lie in
    for output in outputs:
        if (identity := _identity(output)) is not None:
            taken.setdefault(identity, output)
            for folder in Path(os.path.realpath(output)).parents:
                if (above := _identity(folder)) is not None:
                    around.setdefault(above, output)
    within: dict[str, str | Path | None] = {}  # for each folder, the output that holds it

    def holder(home: str) -> str | Path | None:
        if home not in within:
            around_it = map(_identity, (Path(home), *Path(home).parents))
            holders = (taken.get(one) for one in around_it if one is not None)
            within[home] = next((one for one in holders if one is not None), None)
        return within[home]

    def check(path: str | Path) -> None:
        identity = _identity(path)
        if identity is None:
            return
        lost = taken.get(identity) or around.get(identity)
        lost = lost or holder(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120  # for speed
        if lost is not None:
            raise ConfigError(f"writing {lost} would overwrite {path}, which is read: {cure}")

    return check if taken else None


_Identity = tuple[int, int]  # a file's device and its number there


def _identity(path: str | Path) -> _Identity | None:
    """What makes out a file or folder, whatever its name; None for devices and what is not."""
    try:
        about = os.stat(path)  # noqa: PTH116  # for speed: there may be a million of them
    except (OSError, ValueError):  # a name too long, or with a null character
        return None
    lasting = stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)
    return (about.st_dev, about.st_ino) if lasting else None
