"""The telephone: its band, G.711 against known values, and codecs that shift nothing."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from auricle.audio import Samples
from auricle.errors import ConfigError
from auricle.training.recipe import TelephoneRecipe
from auricle.training.telephone import (
    Telephone,
    decode_alaw,
    decode_mulaw,
    encode_alaw,
    encode_mulaw,
    fast_size,
    g711,
)

RATE = 16_000
Pcm = npt.NDArray[np.int16]


def through(samples: Samples, codec: str, rate: int = RATE) -> Samples:
    recipe = TelephoneRecipe(codecs=(codec,))  # type: ignore[arg-type]
    return Telephone(recipe, rate)(samples, np.random.default_rng(0))


def power(samples: Samples, low: float, high: float) -> float:
    """Decibels of the part between two frequencies."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples)))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(10 * np.log10(spectrum[(frequency >= low) & (frequency < high)].sum() + 1e-12))


def speech_like(seconds: float = 2.0) -> Samples:
    """A buzz of 140 Hz whose loudness goes up and down, with a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * k * time + k * k) / k for k in range(1, 40))
    noise = np.random.default_rng(1).standard_normal(len(time))
    return ((0.1 * buzz + 0.01 * noise) * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def lag(late: Samples, early: Samples) -> int:
    """By how many samples the first comes after the second."""
    size = 2 * len(early)
    match = np.fft.irfft(np.fft.rfft(late, size) * np.conj(np.fft.rfft(early, size)))
    found = int(match.argmax())
    return found if found < size // 2 else found - size


def test_only_the_band_is_left() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    heard = through(noise, "none")
    assert power(heard, 300, 3400) == pytest.approx(power(noise, 300, 3400), abs=0.2)
    assert power(heard, 0, 180) < power(noise, 0, 180) - 50
    assert power(heard, 3700, 8000) < power(noise, 3700, 8000) - 50


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050])
@pytest.mark.parametrize("codec", ["none", "mulaw", "alaw", "g722", "opus", "mp3"])
def test_nothing_is_shifted_and_the_length_stays(codec: str, rate: int) -> None:
    clip = speech_like()[: 2 * rate - 1]
    heard = through(clip, codec, rate)
    assert len(heard) == len(clip) and heard.dtype == np.float32
    assert abs(lag(heard, through(clip, "none", rate))) <= rate / 5000  # 0.2 ms
    likeness = np.corrcoef(heard, through(clip, "none", rate))[0, 1]
    assert likeness > (0.7 if codec == "opus" else 0.98)  # opus keeps what is heard, not phases
    if codec != "none":
        assert likeness < 0.999999


def test_every_code_of_g711_is_decoded_as_ffmpeg_does() -> None:
    codes = np.arange(256, dtype=np.uint8)
    for tag, decode in ((7, decode_mulaw), (6, decode_alaw)):
        with av.open(io.BytesIO(_wav(codes.tobytes(), tag))) as file:
            expected = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
        assert np.array_equal(decode(codes), expected)


@pytest.mark.parametrize(
    ("codec", "encode", "decode"),
    [("pcm_mulaw", encode_mulaw, decode_mulaw), ("pcm_alaw", encode_alaw, decode_alaw)],
)
def test_every_sample_is_encoded_as_ffmpeg_does(
    codec: str,
    encode: Callable[[Pcm], npt.NDArray[np.uint8]],
    decode: Callable[[npt.NDArray[np.uint8]], Pcm],
) -> None:
    """But for those halfway between two values, which G.711 leaves open: 1.5 % of them."""
    every = np.arange(-32768, 32768).astype(np.int16)
    expected, found = _encoded(every, codec), encode(every)
    other = np.flatnonzero(expected != found)
    assert len(other) < 0.015 * len(every)
    theirs, ours, meant = (x[other].astype(int) for x in (decode(expected), decode(found), every))
    edge = np.where(abs(ours) > abs(theirs), ours, theirs)  # the outer value has the wider step
    assert (abs(2 * meant - ours - theirs) <= 0.04 * abs(edge) + 8).all()
    assert (np.diff(decode(found).astype(int)) >= 0).all()


def test_known_codes_of_g711() -> None:
    samples = np.array([0, 1000, -1000, 32767, -32768, 100], np.int16)
    assert encode_mulaw(samples).tolist() == [0xFF, 0xCE, 0x4E, 0x80, 0x00, 0xF2]
    assert encode_alaw(samples).tolist() == [0xD5, 0xFA, 0x7A, 0xAA, 0x2A, 0xD3]
    assert decode_mulaw(np.array([0x00, 0x80, 0xFF], np.uint8)).tolist() == [-32124, 32124, 0]
    assert decode_alaw(np.array([0x2A, 0xAA, 0xD5], np.uint8)).tolist() == [-32256, 32256, 8]


def test_g711_on_sound_is_decode_after_encode() -> None:
    pcm = np.array([0, 5, -700, 12_345, -32_768], np.int16)
    heard = g711((pcm / 32768).astype(np.float32), "mulaw")
    assert np.array_equal(heard * 32768, decode_mulaw(encode_mulaw(pcm)))


@pytest.mark.parametrize("codec", ["none", "mulaw", "alaw", "g722", "opus", "mp3"])
@pytest.mark.parametrize("length", [1, 2, 3, 200])
def test_tiny_silent_and_too_loud_clips(codec: str, length: int) -> None:
    for clip in (np.zeros(length, np.float32), np.full(length, 3, np.float32)):
        heard = through(clip, codec)
        assert len(heard) == length and np.isfinite(heard).all() and np.abs(heard).max() < 1.5


def test_what_this_ffmpeg_cannot_write_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"must be some of none, mulaw, .*got none at all"):
        Telephone(TelephoneRecipe(codecs=()), RATE)
    with pytest.raises(ConfigError, match="got speex"):
        Telephone(TelephoneRecipe(codecs=("speex",)), RATE)  # type: ignore[arg-type]
    try:
        av.Codec("libgsm", "w")
    except av.codec.codec.UnknownCodecError:
        with pytest.raises(ConfigError, match="cannot write gsm; choose from none, mulaw, alaw"):
            Telephone(TelephoneRecipe(codecs=("gsm",)), RATE)


def test_fast_sizes_hold_what_they_must_and_little_more() -> None:
    for count in (1, 2, 3, 7, 1000, 16_385, 100_000):
        assert count <= fast_size(count) <= 1.25 * count + 1


def _encoded(pcm: Pcm, codec: str) -> npt.NDArray[np.uint8]:
    """What FFmpeg's encoder makes of 16-bit samples."""
    context: Any = av.CodecContext.create(codec, "w")
    context.sample_rate, context.format, context.layout = 8000, "s16", "mono"
    frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
    frame.sample_rate = 8000
    packets = [*context.encode(frame), *context.encode(None)]
    return np.frombuffer(b"".join(bytes(packet) for packet in packets), np.uint8)


def _wav(data: bytes, tag: int) -> bytes:
    """A WAV file of 8-bit codes at 8 kHz, mono; `tag` 6 is A-law, 7 is mu-law."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(8000)
        out.writeframes(data)
    content = bytearray(file.getvalue())
    content[20] = tag
    return bytes(content)
