"""`opened_blocks`: what `read` gives, and what it refuses beyond that; reasons to count by."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from auricle import audio
from auricle.audio import FilePart
from auricle.errors import AudioError
from tests.audio.media import chirp, encode

RATE = 48_000
COUNTED = [("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("matroska", "flac")]


def sound(container: str, codec: str) -> bytes:
    return encode(chirp(8.0, RATE), container, codec, RATE)


def heard(content: bytes, **options: float) -> np.ndarray:
    with audio.opened_blocks(content, sample_rate=16_000, **options) as (_, blocks):  # type: ignore[arg-type]
        return np.concatenate(list(blocks))


def reason(content: bytes) -> str:
    with pytest.raises(AudioError) as caught:
        heard(content)
    return caught.value.reason


@pytest.mark.parametrize(("container", "codec"), [*COUNTED, ("ogg", "libopus"), ("mp4", "aac")])
def test_whole_files_are_read_as_by_read(container: str, codec: str) -> None:
    content = sound(container, codec)
    np.testing.assert_array_equal(heard(content), audio.read(content))
    stretch = heard(content, start=2.5, seconds=1.0)
    np.testing.assert_array_equal(stretch, audio.read(content, start=2.5, seconds=1.0))


def test_without_a_rate_samples_come_at_the_files_own() -> None:
    content = sound("flac", "flac")
    with audio.opened_blocks(content, block_seconds=1.0) as (info, blocks):
        lengths = [len(block) for block in blocks]
    assert info.sample_rate == RATE and lengths == [RATE] * 8


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("container", "codec"), [*COUNTED, ("ogg", "libopus")])
def test_cut_files_are_truncated(container: str, codec: str, share: float) -> None:
    content = sound(container, codec)
    assert reason(content[: int(len(content) * share)]) == "truncated"


@pytest.mark.parametrize(
    ("container", "codec"), [("flac", "flac"), ("ogg", "libopus"), ("mp3", "libmp3lame")]
)
def test_files_with_a_damaged_middle_are_refused(container: str, codec: str) -> None:
    content = bytearray(sound(container, codec))
    first, count = len(content) // 2, len(content) // 5
    content[first : first + count] = np.random.default_rng(0).bytes(count)
    assert reason(bytes(content)) in ("damaged", "truncated")


def test_a_tag_behind_an_mp3_is_no_damage() -> None:
    tag = b"TAG" + b"title".ljust(125, b"\0")
    assert len(heard(sound("mp3", "libmp3lame") + tag)) == 8 * 16_000


def test_an_mp3_with_a_tag_before_it_is_found_cut() -> None:
    size = bytes([0, 0, 4, 0])  # 512 bytes, seven bits a byte
    content = sound("mp3", "libmp3lame")
    start = content.index(b"\xff\xfb") if content[:3] == b"ID3" else 0
    tagged = b"ID3\x04\x00\x00" + size + bytes(512) + content[start:]
    assert len(heard(tagged)) == 8 * 16_000
    assert reason(tagged[: len(tagged) // 2]) == "truncated"


def test_reasons_are_few(tmp_path: Path) -> None:
    (tmp_path / "nothing.wav").write_bytes(b"")
    reasons = {}
    for name in ("gone.wav", "nothing.wav", "."):
        with pytest.raises(AudioError) as caught:
            audio.read(tmp_path / name)
        reasons[name] = caught.value.reason
    assert reasons == {"gone.wav": "no such file", "nothing.wav": "empty", ".": "not a file"}
    assert reason(bytes(1000)) == "cannot be decoded"
    wav = sound("wav", "pcm_s16le")
    assert reason(wav[: wav.index(b"data") + 8]) == "truncated"
    infinite = encode(np.full(RATE, np.inf), "wav", "pcm_f32le", RATE)
    assert reason(infinite) == "not finite"
    with pytest.raises(AudioError) as caught:
        heard(sound("wav", "pcm_s16le"), start=9.0)
    assert caught.value.reason == "beyond the end"
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.reason == "beyond the end" and str(again) == str(caught.value)


def test_a_part_of_a_file_is_named_in_errors() -> None:
    good = sound("flac", "flac")
    file = io.BytesIO(b"before" + good + b"behind")
    np.testing.assert_array_equal(
        audio.read(FilePart(file, 6, len(good))),  # type: ignore[arg-type]
        audio.read(good),
    )
    with pytest.raises(AudioError, match=r"^a\.tar: b\.flac: not an audio"):
        audio.read(FilePart(file, 0, 6, "a.tar: b.flac"))  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["pcm_s16le", "flac", "libopus", "libmp3lame", "aac"])
def test_noise_anywhere_gives_sound_or_an_audio_error(codec: str) -> None:
    containers = {"pcm_s16le": "wav", "flac": "flac", "libopus": "ogg", "libmp3lame": "mp3"}
    content = encode(chirp(2.0, RATE), containers.get(codec, "mp4"), codec, RATE)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(content)
        first, count = rng.integers(len(content)), rng.integers(1, 400)
        if rng.random() < 0.5:
            first = rng.integers(200)  # the header
        piece = rng.bytes(count)[: len(content) - first]
        damaged[first : first + len(piece)] = piece
        try:
            assert len(heard(bytes(damaged))) < 100 * 16_000
        except AudioError as error:
            assert error.reason
