"""Arrays, stretches, blocks, exactness and threads."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import wave
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from media import chirp, encode

from auricle import audio
from auricle.audio.containers import Guarded
from auricle.errors import AudioError, ConfigError

RATE = 16_000


def test_pcm16_is_exact() -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 20_000).astype("<i2")
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(pcm.tobytes())
    samples = audio.read(file.getvalue())
    assert samples.dtype == np.float32
    assert samples.flags.c_contiguous
    assert samples.flags.owndata
    assert np.array_equal(samples, pcm.astype(np.float32) / 32768)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", ">i2", ">f4"])
def test_arrays_of_every_type_say_the_same(dtype: str) -> None:
    wanted = chirp(0.5, RATE)
    scale = 2.0 ** (8 * np.dtype(dtype).itemsize - 1) if np.dtype(dtype).kind == "i" else 1.0
    array = (wanted.astype(np.float64) * scale).astype(dtype)
    assert np.allclose(audio.read(array, source_rate=RATE), wanted, atol=1e-4)


def test_the_smaller_axis_of_an_array_is_the_channels() -> None:
    left, right = chirp(0.5, RATE), -0.5 * chirp(0.5, RATE)
    for array in (np.stack([left, right]), np.stack([left, right], axis=1)):
        assert np.array_equal(audio.read(array, source_rate=RATE, channel=1), right)
        assert np.allclose(audio.read(array, source_rate=RATE), left / 4, atol=1e-7)
    assert np.array_equal(audio.read(left[:, None], source_rate=RATE), left)


def test_an_array_is_resampled_like_a_file() -> None:
    samples = chirp(1.0, 44_100)
    wav = encode(samples, codec="pcm_f32le")
    assert np.array_equal(audio.read(samples, source_rate=44_100), audio.read(wav))


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.zeros(10, np.float32), None, "does not say its rate"),
        (np.zeros(10, np.uint8), RATE, "an array of uint8 is no audio"),
        (np.zeros(10, np.complex64), RATE, "complex64 is no audio"),
        (np.array(["a"]), RATE, "is no audio"),
        (np.zeros(0, np.float32), RATE, r"shape \(0,\) holds no recording"),
        (np.zeros((3, 0), np.float32), RATE, "holds no recording"),
        (np.zeros((2, 3, 4), np.float32), RATE, "holds no recording"),
        (np.array(0.5), RATE, "holds no recording"),
        (np.zeros((600, 700), np.float32), RATE, "has 600 channels; at most 256"),
        (np.array([0, np.nan, 0], np.float32), RATE, r"sample at 0\.00 s is NaN or infinite"),
        (np.array([0, 1e300]), RATE, r"sample at 0\.00 s is NaN or infinite"),
    ],
)
def test_arrays_that_are_no_recording_are_refused(
    array: np.ndarray, rate: int | None, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        audio.read(array, source_rate=rate)


@pytest.mark.parametrize(
    "options",
    [
        {"sample_rate": 0},
        {"sample_rate": 8000.5},
        {"source_rate": -8000},
        {"channel": "left"},
        {"channel": True},
        {"start": -1},
        {"start": float("nan")},
        {"seconds": 0},
        {"seconds": float("inf")},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="must be"):
        audio.read(np.zeros(100, np.float32), **{"source_rate": RATE, **options})


LONG = [
    ("wav", "pcm_s16le", 44_100),
    ("flac", "flac", 48_000),
    ("mov", "pcm_s16le", 44_100),
    ("mp3", "libmp3lame", 44_100),
    ("matroska", "pcm_s16le", 16_000),
]


@pytest.mark.parametrize(("container", "codec", "rate"), LONG)
def test_a_stretch_is_what_the_whole_holds_there(container: str, codec: str, rate: int) -> None:
    """Whether it was reached by seeking or by reading."""
    data = encode(chirp(45.0, rate), container, codec, rate)
    whole = audio.read(data)
    for start, seconds in ((0.0, 1.0), (10.003, 2.5), (40.0007, 2.0), (44.0, 10.0), (33.3, None)):
        first = round(start * RATE)
        stop = None if seconds is None else first + round(seconds * RATE)
        part = audio.read(data, start=start, seconds=seconds)
        assert len(part) == len(whole[first:stop])
        assert np.allclose(part[100:-100], whole[first:stop][100:-100], atol=1e-6)


def test_a_stretch_beyond_the_end_is_refused() -> None:
    for source, rate in ((encode(chirp(1.0)), None), (chirp(1.0), 44_100)):
        with pytest.raises(AudioError, match=r"begins at 2\.00 s, but the sound ends at 1\.00 s"):
            audio.read(source, source_rate=rate, start=2.0)
    for container, codec in (("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame")):
        data = encode(chirp(31.0, 8000), container, codec, 8000)
        for start in (31.5, 1e5):
            with pytest.raises(AudioError, match=r"but the sound ends at 31\.00 s"):
                audio.read(data, start=start)


@pytest.mark.parametrize("seconds", [0.1, 0.7, 30.0])
def test_blocks_are_the_whole_cut_evenly(seconds: float) -> None:
    data = encode(chirp(2.5), "mp3", "libmp3lame")
    blocks = list(audio.blocks(data, seconds=seconds))
    assert np.array_equal(np.concatenate(blocks), audio.read(data))
    assert {len(b) for b in blocks[:-1]} <= {round(seconds * RATE)}
    assert 0 < len(blocks[-1]) <= round(seconds * RATE)
    array = chirp(2.5)
    parts = list(audio.blocks(array, source_rate=44_100, seconds=seconds))
    assert np.array_equal(np.concatenate(parts), audio.read(array, source_rate=44_100))


def test_blocks_hold_one_block_and_read_holds_the_result_once() -> None:
    """NumPy reports what it allocates: three minutes of stereo at 48 kHz would be 69 MB."""
    data = encode(np.zeros((2, 180 * 48_000), np.float32), "flac", "flac", 48_000)
    tracemalloc.start()
    try:
        seconds = sum(len(b) for b in audio.blocks(data)) / RATE
        blocks_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        whole = audio.read(data)
        read_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds == len(whole) / RATE == 180
    assert blocks_peak < 8e6
    assert read_peak < whole.nbytes + 4e6


def test_threads_do_not_disturb_each_other() -> None:
    files = [encode(chirp(1.0 + i / 10), "mp3", "libmp3lame") for i in range(6)]
    expected = [audio.read(f) for f in files]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for samples, wanted in zip(pool.map(audio.read, files * 2), expected * 2, strict=True):
                assert np.array_equal(samples, wanted)


def test_the_shared_recordings_are_as_long_as_their_manifests_say(shared) -> None:
    from auricle import manifests

    for name in ("librispeech-eval", "ljspeech", "digits"):
        rows = list(manifests.read(shared(f"data/{name}.jsonl")))[::60]
        for row in rows:
            assert len(audio.read(row.path)) / RATE == pytest.approx(row.duration, abs=0.012)


def test_the_room_opens_without_pyav() -> None:
    code = "import sys, auricle.audio; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_floats_on_the_scale_of_integers_are_refused_wherever_they_come_from() -> None:
    """Divided by nothing they would be other words; nothing that converts sound gives them."""
    sixteen = (chirp(1.0, RATE) * 32_768).astype(np.float32)
    wav = encode(sixteen, codec="pcm_f32le", rate=RATE)
    stereo = np.stack([sixteen, sixteen])
    for refused, rate in ((sixteen, RATE), (stereo, RATE), (wav, None), (sixteen * 65_536.0, RATE)):
        with pytest.raises(AudioError, match=r"full scale is 1: if these are 16-bit values") as bad:
            audio.read(refused, source_rate=rate)
        assert bad.value.reason == "not in [-1, 1]"
    with pytest.raises(AudioError, match="full scale is 1"):
        list(audio.blocks(wav))
    with pytest.raises(AudioError, match="full scale is 1"):
        audio.from_array(sixteen)
    loud = chirp(1.0, RATE) * 20  # normalised by its deviation, say
    assert np.array_equal(audio.read(loud, source_rate=RATE), loud)


@pytest.mark.parametrize("codec", ["pcm_s16le", "libmp3lame"])
def test_channels_that_cancel_each_other_are_heard_one_alone(codec: str) -> None:
    left = chirp(2.0, RATE)
    array = np.stack([left, -left])
    container = "wav" if codec == "pcm_s16le" else "mp3"
    for source, rate in ((encode(array, container, codec, RATE), None), (array, RATE)):
        recording = audio.record(source, source_rate=rate)
        heard = recording.channels[0][: len(left)]
        assert np.mean((heard - left[: len(heard)]) ** 2) < 0.02 * np.mean(left**2)
        (warning,) = recording.warnings
        assert warning.startswith("its channels cancel each other when mixed: for 2.0 seconds")
        assert audio.record(source, source_rate=rate, channel=1).warnings == ()
    apart = np.stack([left, np.roll(left, 4000)])
    assert audio.record(apart, source_rate=RATE).warnings == ()
    half = np.stack([left, np.concatenate([left[:RATE], -left[RATE:]])])
    recording = audio.record(half, source_rate=RATE)
    assert np.allclose(recording.channels[0][: RATE - 400], left[: RATE - 400], atol=1e-6)
    assert np.allclose(recording.channels[0][-RATE // 2 :], left[-RATE // 2 :], atol=1e-6)


def test_a_rate_that_no_recording_has_is_named() -> None:
    wav = bytearray(encode(chirp(1.0, 8000), rate=8000))
    wav[24:28] = (50).to_bytes(4, "little")
    for read in (audio.read, lambda source: audio.opened_blocks(source).__enter__()):
        with pytest.raises(AudioError, match="unsupported sample rate: 50 per second"):
            read(bytes(wav))


@pytest.mark.parametrize(("bits", "valid"), [(32, 24), (32, 20), (24, 20), (16, 12)])
def test_valid_bits_are_the_upper_ones_of_a_sample(bits: int, valid: int) -> None:
    """As libsndfile reads them; FFmpeg takes 24 in 32 for floats of its own."""
    wanted = np.round(chirp(1.0, RATE).astype(np.float64) * 2 ** (valid - 1))
    stored = (wanted.astype(np.int64) << (32 - valid)).astype("<i4")
    frames = stored.view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :].tobytes()
    kind = struct.pack("<HI", valid, 4) + bytes.fromhex("0100000000001000800000aa00389b71")
    frame = bits // 8
    fmt = struct.pack("<HHIIHHH", 0xFFFE, 1, RATE, RATE * frame, frame, bits, 22) + kind
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(frames)) + frames
    wav = b"RIFF" + struct.pack("<I", len(body)) + body
    assert np.allclose(audio.read(wav), wanted / 2 ** (valid - 1), atol=1e-7)
    assert audio.length(wav) == 1.0


def tracks(*tones: float) -> bytes:
    """A Matroska file with an audio track of each frequency."""
    file = BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tones]
        for stream, language in zip(streams, ("eng", "ger"), strict=True):
            stream.metadata["language"] = language
        for stream, tone in zip(streams, tones, strict=True):
            samples = 0.4 * np.sin(2 * np.pi * tone * np.arange(RATE) / RATE)
            frame = av.AudioFrame.from_ndarray(
                (samples * 32_767).astype(np.int16)[None], format="s16", layout="mono"
            )
            frame.sample_rate = RATE
            out.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def test_a_second_audio_track_can_be_chosen_and_is_announced() -> None:
    content = tracks(500.0, 1500.0)

    def pitch(**options: int) -> float:
        return float(np.argmax(np.abs(np.fft.rfft(audio.read(content, **options)))))

    assert pitch() == pitch(track=0) == 500.0
    assert pitch(track=1) == 1500.0
    assert audio.probe(content).tracks == 2
    (warning,) = audio.record(content).warnings
    assert warning.startswith("has 2 audio tracks: 0 (eng), 1 (ger); 0 is read, choose another")
    assert audio.record(content, track=1).warnings == ()
    with pytest.raises(AudioError, match="has no audio track 2; it has tracks 0 to 1"):
        audio.read(content, track=2)


def test_blocks_of_one_channel_are_mono_however_they_lie() -> None:
    samples = chirp(0.1, RATE)
    for block in (samples, samples[:, None], samples[None]):
        assert np.array_equal(audio.from_array(block), samples)
    assert len(audio.from_array(np.zeros((0, 1), np.float32))) == 0
    with pytest.raises(AudioError, match=r"has shape \[1600, 2\]; give mono sound"):
        audio.from_array(np.stack([samples] * 2, axis=1))


@pytest.mark.parametrize("layout", ["quad", "5.1"])
def test_many_planar_channels_are_read_one_by_one(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are interleaved by FFmpeg first (docs/audio.md); here already from four on."""
    monkeypatch.setattr("auricle.audio.timeline._MOST_PLANES", 4)
    count = av.AudioLayout(layout).nb_channels
    wanted = chirp(1.0, RATE) * np.linspace(0.2, 1, count, dtype=np.float32)[:, None]
    file = BytesIO()
    with av.open(file, "w", format="wv") as out:
        stream = out.add_stream("wavpack", rate=RATE, layout=layout)
        stream.codec_context.format = "s16p"
        packed = np.ascontiguousarray(wanted.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = RATE
        coded = av.AudioResampler(stream.codec_context.format.name, layout, RATE)
        for one in [*coded.resample(frame), *coded.resample(None)]:
            out.mux(stream.encode(one))
        out.mux(stream.encode(None))
    heard = audio.record(file.getvalue(), channel="all").channels
    assert len(heard) == count
    assert np.allclose(np.stack(heard), wanted, atol=1e-4)
    assert np.allclose(audio.read(file.getvalue()), wanted.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "options"), [(44_100, {}), (16_000, {}), (44_100, {"write_xing": "0"})]
)
def test_rows_of_an_mp3_are_reached_by_an_index_that_is_made_once(
    rate: int, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.mp3"
    path.write_bytes(encode(chirp(120.0, rate), "mp3", "libmp3lame", rate, options=options))
    whole = audio.read(path)
    size, counts = path.stat().st_size, []

    def read(self: Guarded, count: int = -1) -> bytes:
        content = original(self, count)
        counts[-1] += len(content)
        return content

    original = Guarded.read
    monkeypatch.setattr(Guarded, "read", read)
    for start, seconds in ((100.0, 1.0), (40.0007, 2.0), (33.3, 5.0), (110.0, None), (119.5, 3.0)):
        counts.append(0)
        part = audio.read(path, start=start, seconds=seconds)
        first = round(start * RATE)
        stop = None if seconds is None else first + round(seconds * RATE)
        assert len(part) == len(whole[first:stop])
        assert np.allclose(part, whole[first:stop], atol=1e-5)
    assert counts[0] >= size and max(counts[1:]) < size / 3
    path.write_bytes(encode(chirp(60.0, rate), "mp3", "libmp3lame", rate, options=options))
    with pytest.raises(AudioError, match=r"but the sound ends at 60\.\d\d s"):
        audio.read(path, start=100.0)
    cut = path.read_bytes()[: path.stat().st_size * 2 // 3]
    path.write_bytes(cut)
    recording = audio.record(path, start=35.0)
    assert recording.warnings == audio.record(cut, start=35.0).warnings != ()
    assert len(recording.channels[0]) == len(audio.record(cut, start=35.0).channels[0])
