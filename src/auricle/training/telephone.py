"""What a telephone makes of speech: its band, its 8 kHz and a codec.

G.711 is here in NumPy; the other codecs are those of the FFmpeg that PyAV was built with.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from auricle.audio import Samples, read, resample
from auricle.errors import ConfigError
from auricle.training.recipe import TelephoneRecipe

RATE = 8000
_RISE, _FALL = (200.0, 300.0), (3400.0, 3600.0)  # hertz; between them all passes
_RING_OUT = RATE // 10  # silence behind the clip, so that a codec holds nothing back


@dataclass(frozen=True)
class _Coder:
    """An encoder of FFmpeg; `delay` is what neither it nor its container accounts for."""

    name: str
    container: str
    bit_rate: int = 0
    rate: int = RATE
    delay: int = 0  # samples of `rate`


_CODERS = {
    "gsm": _Coder("libgsm", "gsm", 13_000),
    "g722": _Coder("g722", "wav", rate=16_000, delay=22),
    "opus": _Coder("libopus", "ogg", 12_000),
    "mp3": _Coder("libmp3lame", "mp3", 16_000),
}


class Telephone:
    """300 to 3400 Hz and one of the recipe's codecs; what is louder than full scale is clipped.

    Raises:
        ConfigError: No codec, or one that this FFmpeg cannot write.
    """

    def __init__(self, recipe: TelephoneRecipe, sample_rate: int) -> None:
        self.prob, self._codecs, self._rate = recipe.prob, recipe.codecs, sample_rate
        known = ("none", "mulaw", "alaw", *_CODERS)
        if not recipe.codecs or not set(recipe.codecs) <= set(known):
            raise ConfigError(
                f"augment.telephone.codecs must be some of {', '.join(known)}, "
                f"got {', '.join(recipe.codecs) or 'none at all'}"
            )
        missing = [name for name in recipe.codecs if name in _CODERS and not _can_write(name)]
        if missing:
            able = [name for name in known if name not in _CODERS or _can_write(name)]
            raise ConfigError(
                f"augment.telephone.codecs: this FFmpeg cannot write {', '.join(missing)}; "
                f"choose from {', '.join(able)}"
            )

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Float32 [S] through one codec, as long as before."""
        codec = self._codecs[rng.integers(len(self._codecs))]
        narrow = np.clip(resample(_band(samples, self._rate), self._rate, RATE), -1.0, 1.0)
        if not len(narrow):  # shorter than a sample of 8 kHz
            return np.clip(samples, -1.0, 1.0)
        if codec in _CODERS:
            heard = _through_ffmpeg(narrow, _CODERS[codec], self._rate)
        else:
            heard = resample(g711(narrow, codec) if codec != "none" else narrow, RATE, self._rate)
        out = np.zeros(len(samples), np.float32)
        heard = heard[: len(out)]
        out[: len(heard)] = heard
        return out


def g711(samples: Samples, law: str) -> Samples:
    """Samples [S] within -1 and 1 as they come out of G.711, `mulaw` or `alaw`."""
    return _table(law)[_pcm(samples).view(np.uint16)]


def encode_mulaw(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """16-bit samples to mu-law codes (ITU-T G.711)."""
    wide = pcm.astype(np.int32)
    magnitude = np.minimum((np.where(wide < 0, ~wide, wide) >> 2) + 33, 8191)  # of 14 bits
    segment = np.frexp(magnitude)[1] - 6
    code = segment << 4 | (magnitude >> (segment + 1)) & 15
    return np.asarray(np.where(wide < 0, 0x7F, 0xFF) ^ code, np.uint8)


def decode_mulaw(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """mu-law codes to 16-bit samples."""
    inner = 0xFF ^ codes.astype(np.int32)
    segment, mantissa = (inner >> 4) & 7, inner & 15
    magnitude = (((2 * mantissa + 33) << segment) - 33) << 2
    return np.asarray(np.where(inner & 0x80, -magnitude, magnitude), np.int16)


def encode_alaw(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """16-bit samples to A-law codes (ITU-T G.711)."""
    wide = pcm.astype(np.int32)
    magnitude = np.where(wide < 0, ~wide, wide) >> 4  # of 12 bits
    segment = np.maximum(np.frexp(magnitude)[1] - 4, 0)
    code = segment << 4 | (magnitude >> np.maximum(segment - 1, 0)) & 15
    return np.asarray(np.where(wide < 0, 0x55, 0xD5) ^ code, np.uint8)


def decode_alaw(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """A-law codes to 16-bit samples."""
    inner = 0xD5 ^ codes.astype(np.int32)
    segment, mantissa = (inner >> 4) & 7, inner & 15
    leading = np.where(segment > 0, 33, 1)
    magnitude = (2 * mantissa + leading) << (np.maximum(segment - 1, 0) + 3)
    return np.asarray(np.where(inner & 0x80, -magnitude, magnitude), np.int16)


def fast_size(count: int) -> int:
    """A length of at least `count` whose Fourier transform is quick."""
    return min(odd << (-(-count // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15))


@cache
def _table(law: str) -> Samples:
    """What becomes of each 16-bit sample, by its bits."""
    pcm = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    heard = decode_mulaw(encode_mulaw(pcm)) if law == "mulaw" else decode_alaw(encode_alaw(pcm))
    return heard.astype(np.float32) * np.float32(2**-15)


def _pcm(samples: Samples) -> npt.NDArray[np.int16]:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def _band(samples: Samples, rate: int) -> Samples:
    """Only the telephone's band, without delay; the padding is longer than the filter rings."""
    size = fast_size(len(samples) + rate // 50)
    spectrum = np.fft.rfft(samples, size)
    heard = np.fft.irfft(spectrum * _gains(size, rate), size)[: len(samples)]
    return np.asarray(heard, np.float32)


@lru_cache(maxsize=16)
def _gains(size: int, rate: int) -> Samples:
    """The share of each frequency that passes, with the edges of a raised cosine."""
    frequency = np.arange(size // 2 + 1) * (rate / size)
    rise = np.clip((frequency - _RISE[0]) / (_RISE[1] - _RISE[0]), 0, 1)
    fall = np.clip((_FALL[1] - frequency) / (_FALL[1] - _FALL[0]), 0, 1)
    gains = 0.25 * (1 - np.cos(np.pi * rise)) * (1 - np.cos(np.pi * fall))
    return np.asarray(gains, np.float32)


@cache
def _can_write(name: str) -> bool:
    import av

    try:
        av.Codec(_CODERS[name].name, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _through_ffmpeg(narrow: Samples, coder: _Coder, sample_rate: int) -> Samples:
    """8 kHz samples encoded and decoded in memory, at `sample_rate`."""
    import av

    whole = np.concatenate([narrow, np.zeros(_RING_OUT, np.float32)])
    pcm = _pcm(resample(whole, RATE, coder.rate))
    file = io.BytesIO()
    with av.open(file, "w", format=coder.container) as out:
        stream: Any = out.add_stream(coder.name, rate=coder.rate, layout="mono")
        if coder.bit_rate:
            stream.bit_rate = coder.bit_rate
        stream.options = {"compression_level": "3"}  # of 10: opus as good to the ear, sooner
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = coder.rate, Fraction(1, coder.rate), 0
        for part in (frame, None):
            out.mux(stream.encode(part))
    heard = read(file.getvalue(), sample_rate=sample_rate)
    return heard[round(coder.delay * sample_rate / coder.rate) :]
