"""Files that are not audio, hold none, or try to open others."""

from __future__ import annotations

import io
import logging
import os
import socket
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from media import chirp, encode

from auricle import audio
from auricle.audio.containers import opened_track
from auricle.audio.sources import Opened
from auricle.errors import AudioError


def silent_video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def empty_wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", b"hello, this is no audio\n" * 500, "not an audio or video file"),
        ("random", np.random.default_rng(1).bytes(50_000), "not an audio"),
        ("zeros", bytes(50_000), "not an audio"),
        ("one byte", b"R", "not an audio"),
        ("subtitles", b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n", "not an audio"),
        ("picture", b"\x89PNG\r\n\x1a\n" + bytes(2000), "not an audio"),
        ("json", b'{"audio_filepath": "a.wav"}\n' * 20, "not an audio"),
        ("video", silent_video(), "the video has no sound"),
        ("no samples", empty_wav(), "holds no sound"),
    ],
)  # fmt: skip
def test_what_holds_no_sound_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / f"{name}.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        audio.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def playlists(target: str) -> dict[str, str]:
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        f"<Period><AdaptationSet><Representation id='1'><BaseURL>{target}</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        "m=audio 5004 RTP/AVP 0\r\n",
        "pls": f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    }


@pytest.mark.parametrize("kind", ["hls", "concat", "dash", "sdp", "pls"])
def test_a_playlist_is_refused_and_opens_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(encode(chirp(0.5)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        for target in (tmp_path / "a.wav", "a.wav", f"http://127.0.0.1:{port}/a.wav"):
            for suffix in (".wav", ".m3u8", ".ffconcat", ".mpd"):
                path = tmp_path / f"list{suffix}"
                path.write_text(playlists(str(target))[kind])
                monkeypatch.chdir(tmp_path)
                with pytest.raises(AudioError, match="is a playlist"):
                    audio.read(path)
        with pytest.raises(TimeoutError):
            server.accept()


def test_only_the_allowed_containers_are_ever_tried() -> None:
    """The lock itself: with the text above it in order, FFmpeg still refuses by format."""
    script = Opened(io.BytesIO(b"ffconcat version 1.0\nfile a.wav\n"), "x")
    with pytest.raises(AudioError), opened_track(script):
        pass


CUT = [
    ("wav", "pcm_s16le", {}),
    ("flac", "flac", {}),
    ("mp4", "aac", {"movflags": "faststart"}),
    ("matroska", "libmp3lame", {}),
]


@pytest.mark.parametrize(("container", "codec", "options"), CUT)
def test_of_a_file_cut_short_what_is_there_is_read_and_the_rest_is_said(
    container: str, codec: str, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = encode(chirp(6.0), container, codec, options=options)
    expected = audio.record(whole)
    assert expected.warnings == () and expected.missing < 0.1
    with caplog.at_level(logging.WARNING, "auricle"):
        recording = audio.record(whole[: len(whole) // 2])
    (samples,) = recording.channels
    assert 2.0 < len(samples) / 16_000 < 4.0
    assert np.allclose(samples[:30_000], expected.channels[0][:30_000], atol=1e-6)
    assert recording.missing == pytest.approx(6.0 - len(samples) / 16_000, abs=0.1)
    (warning,) = recording.warnings
    assert f"cut short: {len(samples) / 16_000:.1f} of 6.0 seconds are there" in warning
    assert f"the audio bytes: {warning}" in caplog.text


@pytest.mark.parametrize(
    ("container", "codec"), [("mp3", "libmp3lame"), ("adts", "aac"), ("ogg", "libopus")]
)
def test_else_it_is_read_up_to_the_cut(
    container: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    rate = 48_000
    whole = encode(chirp(6.0, rate), container, codec, rate)
    with caplog.at_level(logging.WARNING, "auricle"):
        samples = audio.read(whole[: len(whole) // 2])
    assert 1.5 < len(samples) / 16_000 < 4.5
    assert np.allclose(samples[:16_000], audio.read(whole)[:16_000], atol=1e-4)


def test_a_table_at_the_end_cut_off_is_said() -> None:
    m4a = encode(chirp(2.0), "ipod", "aac")
    with pytest.raises(AudioError, match="cut off before its sound"):
        audio.read(m4a[: len(m4a) // 2])


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_piped_wav_does_not_know_its_size(size: int) -> None:
    wav = encode(chirp(1.0))
    at = wav.index(b"data") + 4
    piped = (
        wav[:4]
        + size.to_bytes(4, "little")
        + wav[8:at]
        + size.to_bytes(4, "little")
        + wav[at + 4 :]
    )
    assert np.array_equal(audio.read(piped), audio.read(wav))


def test_damage_in_the_middle_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    mkv = bytearray(encode(chirp(6.0), "matroska", "flac"))
    intact = audio.read(bytes(mkv))
    middle = len(mkv) // 2
    mkv[middle : middle + 3000] = os.urandom(3000)
    with caplog.at_level(logging.WARNING, "auricle"):
        samples = audio.read(bytes(mkv))
    assert len(samples) == pytest.approx(len(intact), abs=3200)
    assert np.array_equal(samples[:32_000], intact[:32_000])


def test_probe_tells_what_a_header_says() -> None:
    stereo = np.tile(chirp(2.0), (2, 1))
    info = audio.probe(encode(stereo, "mp4", "aac"))
    assert info == audio.AudioInfo(pytest.approx(2.0, abs=0.03), 2, 44_100, "aac")
    assert audio.probe(encode(chirp(2.0), "mp3", "libmp3lame")).codec == "mp3"
    assert audio.probe(encode(chirp(2.0, 8000), rate=8000)).duration == 2.0


def test_the_sound_of_a_video_is_read_without_the_picture() -> None:
    samples = audio.read(encode(chirp(1.0), "mp4", "aac", video_seconds=1.0))
    assert len(samples) / 16_000 == pytest.approx(1.0, abs=0.03)


def test_suffixes_are_lower_case_and_no_manifest() -> None:
    assert {
        ".wav",
        ".flac",
        ".mp3",
        ".m4a",
        ".opus",
        ".ogg",
        ".mp4",
        ".mkv",
        ".webm",
    } <= audio.AUDIO_SUFFIXES
    assert all(s == s.lower() and s.startswith(".") for s in audio.AUDIO_SUFFIXES)
    assert not audio.AUDIO_SUFFIXES & {".json", ".jsonl", ".txt", ".m3u8", ".png"}
