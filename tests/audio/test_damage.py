"""Cut, overwritten, thinned and flipped files: what is there is given, what is missing is said."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
from media import chirp, encode

from auricle import audio
from auricle.errors import AudioError

SECONDS = 4.0
FAST = {"movflags": "faststart"}
BARE = {"write_xing": "0", "id3v2_version": "0"}
# Container, codec, rate, options of the muxer.
FILES = [
    ("wav", "pcm_s16le", 48_000, {}),
    ("wav", "adpcm_ms", 44_100, {}),
    ("w64", "pcm_s16le", 48_000, {}),
    ("flac", "flac", 48_000, {}),
    ("aiff", "pcm_s16be", 48_000, {}),
    ("mp4", "aac", 48_000, FAST),
    ("mov", "pcm_s16le", 48_000, FAST),
    ("matroska", "aac", 48_000, {}),
    ("webm", "libopus", 48_000, {}),
    ("flv", "aac", 44_100, {}),
    ("avi", "libmp3lame", 44_100, {}),
    ("caf", "pcm_s16le", 48_000, {}),
    ("au", "pcm_s16be", 48_000, {}),
    ("tta", "tta", 48_000, {}),
    ("mpegts", "aac", 48_000, {}),
    ("mpeg", "mp2", 48_000, {}),
    ("ac3", "ac3", 48_000, {}),
    ("mp3", "libmp3lame", 44_100, {}),
    ("mp3", "libmp3lame", 44_100, BARE),
    ("adts", "aac", 48_000, {}),
    ("ogg", "libopus", 48_000, {}),
    ("ogg", "flac", 48_000, {}),
]
NAMES = [f"{name}-{codec}{'-bare' * (options is BARE)}" for name, codec, _, options in FILES]
COUNTS = {"wav", "w64", "flac", "aiff", "mp4", "mov", "matroska", "webm", "flv", "caf", "au"}


def sound(place: int) -> bytes:
    container, codec, rate, options = FILES[place]
    return encode(chirp(SECONDS, rate), container, codec, rate, options=options)


def seconds(recording: audio.Recording) -> float:
    return len(recording.channels[0]) / 16_000


@pytest.mark.parametrize("place", range(len(FILES)), ids=NAMES)
def test_of_a_whole_file_nothing_is_said(place: int) -> None:
    recording = audio.record(sound(place))
    assert recording.warnings == ()
    assert recording.missing < 0.1
    assert seconds(recording) == pytest.approx(SECONDS, abs=0.08)


@pytest.mark.parametrize("share", [0.45, 0.79])
@pytest.mark.parametrize("place", range(len(FILES)), ids=NAMES)
def test_of_a_cut_file_what_is_there_is_read_and_the_cut_is_said(place: int, share: float) -> None:
    content = sound(place)
    whole = audio.record(content).channels[0]
    recording = audio.record(content[: int(len(content) * share)])
    (samples,) = recording.channels
    assert seconds(recording) > SECONDS * share - 1.1  # a frame of TTA, or a page of Ogg, is 1 s
    end = len(samples) - 1600
    assert np.allclose(samples[:end], whole[:end], atol=1e-3)
    assert recording.warnings
    if FILES[place][0] in COUNTS:
        assert recording.missing == pytest.approx(SECONDS - seconds(recording), abs=0.1)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, a stretch overwritten or taken out, or the end cut off, anywhere."""
    out = bytearray(content)
    at, count = int(rng.integers(len(out))), int(rng.integers(10, 8000))
    kind = rng.integers(4)
    if kind == 0:
        for place in rng.integers(len(out), size=5):
            out[place] ^= int(rng.integers(1, 256))
    elif kind == 1:
        piece = out[at : at + count]
        out[at : at + count] = rng.bytes(len(piece))
    elif kind == 2:
        del out[at : at + count]
    else:
        del out[max(1, at) :]
    return bytes(out)


@pytest.mark.parametrize("place", range(len(FILES)), ids=NAMES)
def test_damage_anywhere_gives_sound_or_one_kind_of_error(
    place: int, capfd: pytest.CaptureFixture[str]
) -> None:
    content, rng = sound(place), np.random.default_rng(place)
    logging.getLogger("auricle").setLevel(logging.CRITICAL)
    try:
        for _ in range(10):
            try:
                recording = audio.record(damaged(content, rng))
            except AudioError as error:
                assert "\n" not in str(error) and len(str(error)) < 500
                continue
            assert np.isfinite(recording.channels[0]).all()
    finally:
        logging.getLogger("auricle").setLevel(logging.NOTSET)
    assert capfd.readouterr().err == ""


def test_a_flipped_bit_of_flac_is_found_by_its_checksum() -> None:
    content = bytearray(sound(3))
    content[len(content) // 2] ^= 16
    recording = audio.record(bytes(content))
    assert seconds(recording) == pytest.approx(SECONDS)
    assert recording.missing == pytest.approx(4608 / 48_000, abs=0.001)
    assert recording.warnings == ("damaged: 0.10 seconds are missing",)


def test_a_damaged_first_page_leaves_silence_before_the_rest() -> None:
    content = bytearray(sound(NAMES.index("ogg-libopus")))
    whole = audio.read(bytes(content))
    first = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"][2]
    content[first + 2000] ^= 1
    recording = audio.record(bytes(content))
    (samples,) = recording.channels
    assert len(samples) == len(whole) and recording.missing == pytest.approx(1.0, abs=0.01)
    assert np.allclose(samples[24_000:], whole[24_000:], atol=1e-2)


def test_tags_behind_frames_are_no_damage() -> None:
    tag = b"TAG" + b"title".ljust(125, b"\0")
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little")
    ape = ape.ljust(32, b"\0")
    for name in ("mp3-libmp3lame", "mp3-libmp3lame-bare"):
        content = sound(NAMES.index(name))
        for behind in (tag, ape, ape + tag):
            assert audio.record(content + behind).warnings == ()


@pytest.mark.parametrize("codecs", [("libopus", 48_000), ("flac", 44_100)])
def test_a_chain_whose_channels_change_is_read_to_its_end(codecs: tuple[str, int]) -> None:
    codec, rate = codecs
    mono = encode(chirp(3.0, rate), "ogg", codec, rate)
    stereo = encode(np.stack([chirp(3.0, rate)] * 2), "ogg", codec, rate)
    for chain in ((mono, stereo), (stereo, mono), (mono, mono, stereo)):
        parts = [audio.read(part) for part in chain]
        recording = audio.record(b"".join(chain))
        assert recording.warnings == ()
        apart = np.abs(recording.channels[0] - np.concatenate(parts))
        joints = np.arange(1, len(parts)) * 3 * 16_000
        for joint in joints:  # where the resampler hears both
            apart[joint - 200 : joint + 200] = 0
        assert apart.max() < 1e-4
    both = audio.record(stereo + mono, channel="all").channels
    assert len(both) == 2 and len(both[0]) == len(both[1]) == 6 * 16_000
    broken = mono + bytearray(stereo[:60]) + bytes(500) + stereo[560:]
    recording = audio.record(bytes(broken))
    assert seconds(recording) >= 3.0 and recording.warnings


def test_the_shared_chain_holds_the_digits_twice(shared) -> None:
    recording = audio.record(shared("cases/chained_mono_stereo.opus"))
    assert recording.warnings == ()
    half = len(recording.channels[0]) // 2
    one, two = recording.channels[0][:half], recording.channels[0][half : 2 * half]
    assert seconds(recording) == pytest.approx(6.9, abs=0.05)
    assert np.corrcoef(one[1000:], two[1000:])[0, 1] > 0.9


def test_a_file_that_sends_ffmpeg_before_its_start_prints_nothing(tmp_path) -> None:
    """PyAV prints what a callback raises; ours keep their errors until it is back."""
    program = """
import io, sys
from auricle import audio
from auricle.audio.containers import Guarded

class Wild(io.BytesIO):
    def seek(self, offset, whence=0):
        if whence == 0 and offset > 0:
            raise ValueError("negative seek value -1")
        return super().seek(offset, whence)

guarded = Guarded(Wild(b"abc"))
assert guarded.seek(-5) == -1 and guarded.seek(5) == -1 and guarded.read() == b"abc"
content = open(sys.argv[1], "rb").read()
for at in range(0, len(content), max(1, len(content) // 40)):
    damaged = bytearray(content)
    damaged[at : at + 8] = b"\\xff" * len(damaged[at : at + 8])
    try:
        audio.probe(bytes(damaged))
        audio.length(bytes(damaged))
    except audio.containers.AudioError:
        pass
"""
    path = tmp_path / "sound"
    for name in ("mp4-aac", "avi-libmp3lame", "aiff-pcm_s16be"):
        path.write_bytes(sound(NAMES.index(name)))
        done = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_whoever_pairs_sound_with_a_text_can_refuse_what_is_not_whole(tmp_path) -> None:
    from auricle.training.sounds import BytesSound, FileSound

    content = sound(0)
    cut = content[: len(content) // 2]
    (tmp_path / "cut.wav").write_bytes(cut)
    for read in (
        lambda: audio.read(cut, strict=True),
        lambda: FileSound(str(tmp_path / "cut.wav")).read(16_000),
        lambda: BytesSound(cut, "cut").read(16_000),
    ):
        with pytest.raises(AudioError, match=r"cut short: 2\.0 of 4\.0 seconds") as caught:
            read()
        assert caught.value.reason == "truncated"
    assert len(audio.read(content, strict=True)) == 4 * 16_000
