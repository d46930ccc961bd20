"""How long a file really is, and whether libsndfile reads it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from media import chirp, encode

from auricle import audio

RATE = 48_000


def sound(container: str, codec: str, rate: int = RATE, **options: float) -> bytes:
    return encode(chirp(3.0, rate), container, codec, rate, **options)


def piped(size: int) -> bytes:
    wav = sound("wav", "pcm_s16le")
    at = wav.index(b"data") + 4
    return wav[:at] + size.to_bytes(4, "little") + wav[at + 4 :]


FILES = {
    "wav": sound("wav", "pcm_s16le"),
    "piped": piped(0xFFFFFFFF),
    "of size 0": piped(0),
    "flac": sound("flac", "flac"),
    "mp3": sound("mp3", "libmp3lame"),
    "mp3 without a header": encode(
        chirp(3.0), "mp3", "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"}
    ),
    "adts": sound("adts", "aac"),
    "m4a": sound("ipod", "aac"),
    "mkv": sound("matroska", "libopus"),
    "late mkv": encode(chirp(3.0), "matroska", "aac", starts=(1.5,), video_seconds=4.5),
    "opus": sound("ogg", "libopus"),
    "opus twice": 2 * sound("ogg", "libopus"),
    "ts": sound("mpegts", "aac"),
    "flac in ogg": sound("ogg", "flac"),
    "g722 in wav": sound("wav", "g722", 16_000),
}


@pytest.mark.parametrize("name", FILES)
def test_the_length_is_what_is_read(name: str) -> None:
    heard = len(audio.read(FILES[name], sample_rate=RATE)) / RATE
    assert audio.length(FILES[name]) == pytest.approx(heard, abs=2 / 16_000)


def test_a_container_that_guesses_is_not_believed() -> None:
    quiet = np.zeros(6 * RATE, np.float32)
    quiet[-RATE:] = chirp(1.0, RATE)
    adts = encode(quiet, "adts", "aac", RATE)
    assert abs(audio.probe(adts).duration - 6.0) > 0.5
    assert audio.length(adts) == pytest.approx(6.0, abs=0.05)
    assert audio.probe(FILES["opus twice"]).duration == pytest.approx(3.0, abs=0.05)
    assert audio.length(FILES["opus twice"]) == pytest.approx(6.0, abs=0.02)
    assert audio.length(FILES["late mkv"]) == pytest.approx(4.5, abs=0.03)


@pytest.mark.parametrize("name", FILES)
def test_libsndfile_reads_what_it_is_said_to_read(name: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    try:
        samples, rate = soundfile.read(io.BytesIO(FILES[name]))
        reads = len(samples) >= 2.9 * rate
    except soundfile.LibsndfileError:
        reads = False
    claimed = audio.libsndfile_reads(FILES[name])
    assert claimed <= reads
    assert claimed == (name in ("wav", "flac", "mp3", "mp3 without a header", "opus"))
