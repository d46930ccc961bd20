"""Media files made on the fly by PyAV, so that no sound file has to be shipped for a test."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def chirp(seconds: float = 3.0, rate: int = 44_100) -> np.ndarray:
    """A rising, pulsing tone with a little noise [S]: every stretch of it is like no other."""
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 * t + 250 * t * t)) * (1 + np.sin(2 * np.pi * 3 * t)) / 2
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.3 * tone + 0.01 * noise).astype(np.float32)


def encode(
    samples: np.ndarray,
    container: str = "wav",
    codec: str = "pcm_s16le",
    rate: int = 44_100,
    *,
    starts: tuple[float, ...] = (0.0,),
    video_seconds: float = 0.0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A media file of samples [S] or [C, S]; written once for each of `starts` (seconds).

    With `video_seconds`, a small black picture is shown from 0 on.
    """
    data = np.atleast_2d(samples).astype(np.float32)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(data)]
    with (
        tempfile.TemporaryDirectory() as folder,  # a file by name, since "faststart" opens it again
        av.open(path := f"{folder}/media", "w", format=container, options=options or {}) as out,
    ):
        stream = out.add_stream(codec, rate=rate, layout=layout)
        if video_seconds:
            _add_video(out, video_seconds)
        wanted = stream.codec_context.format.name
        packets = []
        for start in starts:
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout=layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(start * rate)
            resampler = av.AudioResampler(format=wanted, layout=layout, rate=rate)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += stream.encode(piece)
        for packet in [*packets, *stream.encode(None)]:
            out.mux(packet)
        out.close()
        return Path(path).read_bytes()


def _add_video(out: av.container.OutputContainer, seconds: float) -> None:
    stream = out.add_stream("mpeg4", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    for number in range(round(seconds * 10)):
        frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def delay(heard: np.ndarray, original: np.ndarray) -> int:
    """By how many samples `heard` comes later than `original`, by cross-correlation."""
    size = 1 << (len(heard) + len(original)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    return lag - size if lag > size // 2 else lag
