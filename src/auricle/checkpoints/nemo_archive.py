"""The `.nemo` container: a tar archive, gzip'ed in old files, or the same members in a folder.

Every byte is taken for hostile: nothing is unpacked to disk under a name the archive chose, member
names are checked though they are never used as paths, and the weights' pickle is read by torch with
`weights_only=True`. Knows nothing of what the configuration means.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from auricle.checkpoints.checkpoint import plain
from auricle.checkpoints.reading import check_zip, wish
from auricle.config import shown, shown_name
from auricle.errors import CheckpointError, first_line
from auricle.files import file_beside

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"

MAX_MEMBERS = 4096
MAX_ARTEFACT = 512 * 2**20  # bytes of a tokenizer or configuration file; real ones stay below 10 MB
# Float weights hardly compress; a gzip stream that grows more than this is no checkpoint.
MAX_GROWTH = 20
GROWTH_FLOOR = 256 * 2**20
BLOCK = 512


@dataclass(frozen=True)
class _Member:
    """Where a member's bytes lie: in an open `file`, else in the one at `path`.

    `path` is None for a spooled file that has no name.
    """

    file: BinaryIO | None
    path: Path | None
    offset: int
    size: int


class NemoArchive:
    """An open `.nemo`, by `open_archive`.

    Attributes:
        path: The archive, for messages.
        names: The members' names without a leading `./`.
    """

    def __init__(self, path: Path, members: Mapping[str, _Member]) -> None:
        self.path = path
        self._members = dict(members)
        self.names = tuple(self._members)

    def read(self, name: str) -> bytes:
        """A member's content.

        Raises:
            CheckpointError: It is absent, or larger than any file of its kind.
        """
        member = self._member(name)
        if member.size > MAX_ARTEFACT:
            raise CheckpointError(
                f"{self.path}: {name} claims {member.size} bytes, more than any such file has; "
                "the archive is damaged or hostile, do not use it"
            )
        with _Slice(member) as file:
            return file.read(member.size)

    def find(self, reference: str) -> str | None:
        """The member that a configuration's `reference` means, or None.

        By the rules of the format: `nemo:NAME`, else the bare file name, else, as older archives
        need it, the one member called `<32 hex digits>_<file name>`.
        """
        name = reference.removeprefix("nemo:")
        base = PurePosixPath(name.replace("\\", "/")).name
        for candidate in (name.removeprefix("./"), base):
            if candidate in self._members:
                return candidate
        hashed = [n for n in self.names if len(n) == len(base) + 33 and n.endswith(f"_{base}")]
        return hashed[0] if base and len(hashed) == 1 else None

    def weights(self) -> dict[str, Tensor]:
        """The state dict. Tensors of an uncompressed archive are views of the mapped file.

        Raises:
            CheckpointError: Absent, damaged, or a pickle that asks for anything but tensors.
        """
        member = self._member(WEIGHTS)
        try:
            state = _load(member)
        except CheckpointError:
            raise
        except Exception as error:  # whatever a hostile pickle may raise
            raise CheckpointError(
                f"{self.path}: {WEIGHTS} is damaged or holds more than tensors, nothing of it was "
                f"run; fetch the checkpoint again ({wish(error)})"
            ) from None
        return plain(state, f"{self.path}: {WEIGHTS}")

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            held = ", ".join(map(shown_name, sorted(self.names)[:6])) or "nothing"
            raise CheckpointError(
                f"{self.path} has no {name} (it holds {held}); fetch the checkpoint again"
            )
        return self._members[name]


@contextmanager
def open_archive(path: Path) -> Iterator[NemoArchive]:
    """Open a `.nemo` file, or a folder with the same members.

    Raises:
        CheckpointError: Truncated, no tar, or a member that is no plain file below the archive.
    """
    with ExitStack() as stack:
        if path.is_dir():
            yield NemoArchive(path, _folder_members(path))
            return
        file: BinaryIO = stack.enter_context(path.open("rb"))
        named: Path | None = path
        if file.read(2) == b"\x1f\x8b":
            file, named = stack.enter_context(_gunzipped(path)), None
        file.seek(0)
        yield NemoArchive(path, _tar_members(path, file, named))


def write_archive(
    path: Path, config: bytes, weights: Mapping[str, Tensor], artefacts: Mapping[str, bytes]
) -> None:
    """Write a `.nemo`; equal contents give equal bytes, and `path` appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_beside(path) as file:
        for name, content in sorted({**artefacts, CONFIG: config}.items()):
            file.write(_header(name, len(content)))
            file.write(content)
            _pad(file)
        start = file.tell()
        file.write(bytes(BLOCK))  # the header's place: the size is known once torch has written
        torch.save(dict(weights), cast(BinaryIO, _Forward(file)))
        size = file.tell() - start - BLOCK
        _pad(file)
        file.write(bytes(2 * BLOCK))
        file.seek(start)
        file.write(_header(WEIGHTS, size))


class _Slice(io.RawIOBase):
    """A member as a file of its own, for readers that need to seek."""

    def __init__(self, member: _Member) -> None:
        assert member.file or member.path
        self._member = member
        self._file = member.file or cast(Path, member.path).open("rb")
        self._position = 0

    def close(self) -> None:
        if not self.closed and self._file is not self._member.file:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._member.size}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._member.size - self._position))
        self._file.seek(self._member.offset + self._position)
        read: int = self._file.readinto(view[:count])  # type: ignore[attr-defined]
        self._position += read
        return read

    def read(self, size: int = -1) -> bytes:
        """All of `size` at once: a raw file may give less, which torch's legacy reader refuses."""
        left = max(0, self._member.size - self._position)
        buffer = bytearray(left if size < 0 else min(size, left))
        filled = 0
        while filled < len(buffer):
            count = self.readinto(memoryview(buffer)[filled:])
            if not count:
                break
            filled += count
        return bytes(buffer[:filled])


class _Forward:
    """Only `write`: torch then writes front to back, at wherever the file stands."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _folder_members(path: Path) -> dict[str, _Member]:
    """However many files lie there: none is opened before it is wanted."""
    files = (item for item in sorted(path.iterdir()) if item.is_file())
    return {item.name: _Member(None, item, 0, item.stat().st_size) for item in files}


def _tar_members(path: Path, file: BinaryIO, named: Path | None) -> dict[str, _Member]:
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    members: dict[str, _Member] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for number, item in enumerate(tar):
                if number >= MAX_MEMBERS:
                    raise CheckpointError(f"{path} has over {MAX_MEMBERS} members; do not use it")
                if item.isdir() and item.size == 0:
                    continue
                name = _checked_name(path, item)
                if item.size < 0 or item.offset_data + item.size > total:
                    raise CheckpointError(f"{path} is truncated in {name}; fetch it again")
                members[name] = _Member(file, named, item.offset_data, item.size)
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:  # of absurd numbers
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_not_a_tar(path, file, total, error)) from None
    return _without_top_folder(members)


def _without_top_folder(members: dict[str, _Member]) -> dict[str, _Member]:
    """Who packs an unpacked model again may pack its folder too."""
    tops = [name.removesuffix(CONFIG) for name in members if name.endswith(f"/{CONFIG}")]
    if CONFIG in members or len(tops) != 1:
        return members
    top = tops[0]
    return {name.removeprefix(top): m for name, m in members.items() if name.startswith(top)}


def _checked_name(path: Path, item: tarfile.TarInfo) -> str:
    name = item.name.removeprefix("./")
    pure = PurePosixPath(name)
    strays = pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name
    if not item.isreg() or item.issparse() or strays or not name:
        kind = "a path outside of it" if strays else "a link, a device or a sparse file"
        raise CheckpointError(
            f"{path} holds {kind} ({shown(item.name)}); it is hostile, do not use it"
        )
    return name


def _not_a_tar(path: Path, file: BinaryIO, total: int, error: Exception) -> str:
    file.seek(0)
    head = file.read(64)
    if not total:
        return f"{path} is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer and not the model; fetch it with 'git lfs pull'"
    if "unexpected end" in str(error):
        return f"{path} is truncated; fetch it again"
    if isinstance(error, tarfile.ReadError) and (kind := _kind(path, file)):
        return f"{path} is {kind}"
    return f"{path} is no .nemo archive (neither tar nor gzip'ed tar); fetch it again"


def _kind(path: Path, file: BinaryIO) -> str:
    """What people take for a model, and what to do instead; empty for anything else."""
    file.seek(0)
    head = file.read(2**16)
    if path.suffix == ".onnx":
        return "an ONNX export, which holds no configuration; load the .nemo that it was made from"
    if head[8:10] == b'{"':
        return "a file of safetensors without a configuration; give the folder that it lies in"
    if head[:4] in (b"GGUF", b"lmgg"):
        return "a model for another program (GGML); load the original .nemo or folder"
    names: list[str] = []
    if head[:4] == b"PK\x03\x04":
        try:
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
            return ""
        if any(name.rpartition("/")[2] == CONFIG for name in names):
            return "a zip, and a .nemo is a tar; unpack it, and load the folder"
    pickled = any(name.endswith("data.pkl") for name in names) or head[:2] == b"\x80\x02"
    if not pickled:
        return ""
    if path.suffix == ".ckpt" or b"pytorch-lightning_version" in head:
        return (
            "a checkpoint of a training (PyTorch Lightning), from which only NeMo can make a model:"
            " load_from_checkpoint, then save_to a .nemo; load that"
        )
    return (
        "a file of PyTorch's without a configuration of the model; load the .nemo, or the folder "
        "with config.json, that these weights belong to"
    )


@contextmanager
def _gunzipped(path: Path) -> Iterator[BinaryIO]:
    """The inner tar in a nameless temporary file: memory would hold it twice while loading."""
    limit = path.stat().st_size * MAX_GROWTH + GROWTH_FLOOR
    with tempfile.TemporaryFile() as spool, gzip.open(path) as stream:
        try:
            while block := stream.read(2**20):
                spool.write(block)
                if spool.tell() > limit:
                    raise CheckpointError(
                        f"{path} unpacks to over {limit} bytes; it is hostile, do not use it"
                    )
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CheckpointError(
                f"{path} is truncated or damaged; fetch it again ({first_line(error)})"
            ) from None
        yield spool


def _load(member: _Member) -> Any:
    file = cast(BinaryIO, _Slice(member))
    if file.read(2) != b"PK":  # the form before torch 1.6
        file.seek(0)
        with warnings.catch_warnings():  # pickles that torch.save never wrote: refused below
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    mappable = check_zip(file, member.size) and member.path is not None
    if mappable and (mapped := _load_mapped(member)) is not None:
        return mapped
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _load_mapped(member: _Member) -> Any:
    """Tensors as views of the mapped archive; None where this torch does not tell their places.

    torch maps only files that are a zip from the first byte on. Loading to `meta` runs the same
    careful unpickler, reads no data, and leaves each storage's place in the zip.
    """
    file = cast(BinaryIO, _Slice(member))
    state = torch.load(file, map_location="meta", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        return state  # the caller refuses it
    if any(v.layout != torch.strided or v.is_quantized for v in state.values()):
        return None  # they have no place; the caller refuses them too
    end = member.offset + member.size
    whole = torch.UntypedStorage.from_file(str(member.path), shared=False, nbytes=end)
    bound = {}
    for key, tensor in state.items():
        place = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
        if place is None or (member.offset + place) % tensor.element_size():
            return None
        start = member.offset + place
        stop = start + tensor.untyped_storage().nbytes()
        if stop > end:
            raise ValueError(f"{key} reaches past the end of the file")
        view = torch.empty(0, dtype=tensor.dtype)
        bound[key] = view.set_(
            whole[start:stop], tensor.storage_offset(), tensor.size(), tensor.stride()
        )
    return bound


def _header(name: str, size: int) -> bytes:
    item = tarfile.TarInfo(f"./{name}")
    item.size = size
    item.mode = 0o644
    return item.tobuf(tarfile.GNU_FORMAT)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % BLOCK))
