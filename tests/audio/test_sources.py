"""What may be given as audio, and that a name is never anything but a file's name."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from media import chirp, encode

from auricle import audio
from auricle.errors import AudioError

RATE = 16_000


@pytest.fixture(scope="module")
def wav() -> bytes:
    return encode(chirp(1.0, RATE), rate=RATE)


def test_every_kind_of_source_gives_the_same(wav: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ümlaut, 100%d ?.wav"
    path.write_bytes(wav)
    expected = audio.read(path)
    assert len(expected) == RATE
    at_end = io.BytesIO(wav)
    at_end.seek(0, io.SEEK_END)
    with path.open("rb") as file:
        for source in (str(path), wav, bytearray(wav), memoryview(wav), at_end, file):
            assert np.array_equal(audio.read(source), expected)
        assert not file.closed


class Pipe(io.RawIOBase):
    """Bytes that come once, in small portions."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        part = self._file.read(min(len(buffer), 1000))
        buffer[: len(part)] = part
        return len(part)


def test_a_pipe_is_read_though_it_cannot_seek() -> None:
    m4a = encode(chirp(1.0), "ipod", "aac")  # its table stands at the end
    assert np.array_equal(audio.read(Pipe(m4a)), audio.read(m4a))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_read(wav: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(wav))
    writer.start()
    assert len(audio.read(path)) == RATE
    writer.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_that_nobody_writes_to_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auricle.audio.sources._PIPE_SECONDS", 0.01)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="is a pipe, and nothing was written to it"):
        audio.read(tmp_path / "pipe")


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/a.wav",
        "concat:{0}|{0}",
        "subfile,,start,0,end,0,,:{0}",
        "data:audio/wav;base64,AAAA",
        "file:{0}",
        "pipe:0",
        "-",
        "",
    ],
)
def test_a_name_is_never_an_address(name: str, wav: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav)
    with pytest.raises(AudioError, match=r"no such file|is a folder"):
        audio.read(name.format(path))


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file; check the path"):
        audio.read(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="is a folder, not a file"):
        audio.read(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"empty\.wav: is empty \(0 bytes\)"):
        audio.read(tmp_path / "empty.wav")
    with pytest.raises(AudioError, match="the audio bytes: is empty"):
        audio.read(b"")
    with pytest.raises(AudioError, match="is not a file name"):
        audio.read("a\0b.wav")
    with pytest.raises(AudioError, match="cannot be opened"):
        audio.read("x" * 5000)
    if os.path.exists("/dev/zero"):  # noqa: PTH110
        with pytest.raises(AudioError, match="is a device"):
            audio.read("/dev/zero")
    with pytest.raises(AudioError, match="cannot read audio from a list"):
        audio.read([0.0, 0.1])  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="opened as text"):
        audio.read(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_disk_that_fails_is_named(wav: bytes) -> None:
    class Failing(io.BytesIO):
        name = "usb.wav"

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 5000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(AudioError, match=r"usb\.wav: .*(Input/output error|cut short)"):
        audio.read(Failing(wav))
