"""Voice activity: its makers' code is the reference; cuts, threads and moves change nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auricle import audio, vad
from auricle.errors import AudioError, CheckpointError, ConfigError, MissingExtra
from auricle.vad import Silence, VoiceActivity
from tests.conftest import GOLDEN, ROOT

SHELL = ROOT / "examples" / "speech" / "shell.flac"
TALK = GOLDEN / "wav" / "talk.wav"
WINDOW = {8_000: 256, 16_000: 512}


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    """Silero's own streaming implementation on onnxruntime."""
    threads = torch.get_num_threads()
    from silero_vad.utils_vad import OnnxWrapper  # sets torch's threads

    path = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.onnx")
    yield OnnxWrapper(str(path), force_onnx_cpu=True)
    torch.set_num_threads(threads)


def pieces(samples: np.ndarray, cut: float | str, rate: int) -> Iterator[np.ndarray]:
    """The samples in pieces of `cut` seconds, of one sample ("sample") or of any length."""
    rng = np.random.default_rng(7)
    start = 0
    while start < len(samples):
        if cut == "sample":
            size = 1
        elif cut == "random":
            size = int(rng.choice([0, 1, 3, 255, 513, 9_999]))
        else:
            size = int(float(cut) * rate)
        yield samples[start : start + size]
        start += size


def pushed(activity: VoiceActivity, samples: np.ndarray, cut: float | str = 1.0) -> list[Silence]:
    return [s for p in pieces(samples, cut, activity.sample_rate) for s in activity.push(p)]


def longest(silences: list[Silence]) -> list[tuple[float, float]]:
    """Each silence once, at its full length."""
    return sorted({silence.start: silence.end for silence in silences}.items())


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("path", [SHELL, TALK], ids=lambda path: path.stem)
def test_a_clip_gives_the_probabilities_of_the_reference(
    path: Path, rate: int, reference: Any
) -> None:
    samples = audio.read(path, sample_rate=rate)
    ours = VoiceActivity(rate).probabilities(samples)
    theirs = reference.audio_forward(torch.from_numpy(samples), rate)[0].numpy()
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-5
    assert 0.5 < (ours > 0.5).mean() < 1  # speech with pauses


@pytest.mark.parametrize(
    ("name", "speech"),
    [
        ("data/librispeech-eval/1320-122612-0000.opus", (0.8, 1)),
        ("data/noise/chainsaw-4-157611-A-41.opus", (0, 0.02)),
        ("golden/wav/two_cities.wav", (0.7, 1)),
    ],
)
def test_other_recordings_too(
    name: str,
    speech: tuple[float, float],
    shared: Callable[[str], Path],
    reference: Any,
) -> None:
    samples = audio.read(shared(name))
    ours = VoiceActivity().probabilities(samples)
    theirs = reference.audio_forward(torch.from_numpy(samples), 16_000)[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-5
    assert speech[0] <= (ours > 0.5).mean() <= speech[1]


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("cut", ["sample", 0.01, 0.037, 1.0, "random"])
def test_a_streams_probabilities_are_the_references_whatever_the_cuts(
    cut: float | str, rate: int, reference: Any
) -> None:
    samples = audio.read(TALK, sample_rate=rate)
    network = vad._Network(rate)
    ours = [p for piece in pieces(samples, cut, rate) for p in network.push(piece)]
    reference.reset_states()
    whole = len(samples) // WINDOW[rate] * WINDOW[rate]
    theirs = [
        reference(torch.from_numpy(window), rate).item()
        for window in samples[:whole].reshape(-1, WINDOW[rate])
    ]
    assert len(ours) == len(theirs) > 100
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 1e-5


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("cut", ["sample", 0.037, "random"])
def test_silences_do_not_depend_on_the_cuts(cut: float | str, rate: int) -> None:
    samples = audio.read(SHELL, sample_rate=rate, seconds=6)
    if cut == "sample":
        samples = samples[:rate]
    whole, parts = VoiceActivity(rate), VoiceActivity(rate)
    expected = whole.push(samples)
    assert expected
    assert pushed(parts, samples, cut) == expected
    assert np.array_equal(parts.state()["recurrent"], whole.state()["recurrent"])


@pytest.mark.parametrize("rate", [11_025, 44_100, 48_000])
def test_other_rates_are_resampled(rate: int) -> None:
    samples = audio.read(SHELL, sample_rate=rate)
    resampled = audio.resample(samples, rate, 16_000)
    ours = VoiceActivity(rate).probabilities(samples)
    assert np.abs(ours - VoiceActivity().probabilities(resampled)).max() < 1e-5
    streamed = longest(VoiceActivity(rate).push(samples))
    expected = longest(VoiceActivity().push(resampled))
    assert streamed[:-1] == expected[:-1]  # the last lacks what the resampler holds back
    assert streamed[-1][0] == expected[-1][0]


def test_silences_are_what_the_references_speech_leaves(reference: Any) -> None:
    """Silero's loop over probabilities, without its shortest durations and its padding."""
    from silero_vad import get_speech_timestamps_from_probs

    samples = audio.read(SHELL)
    samples = samples[: len(samples) // 512 * 512]
    activity = VoiceActivity(min_silence_ms=0)
    for threshold in (0.3, 0.5, 0.8):
        speeches = get_speech_timestamps_from_probs(
            activity.probabilities(samples).tolist(),
            threshold=threshold,
            min_speech_duration_ms=-1,
            min_silence_duration_ms=0,
            speech_pad_ms=0,
        )
        edges = [0, *(s[k] for s in speeches for k in ("start", "end")), len(samples)]
        expected = [
            (start / 16_000, end / 16_000)
            for start, end in zip(edges[::2], edges[1::2], strict=True)
            if start < end
        ]
        assert len(expected) > 5
        every = VoiceActivity(threshold=threshold, min_silence_ms=0).push(samples)
        assert longest(every) == expected
        long = VoiceActivity(threshold=threshold, min_silence_ms=250).push(samples)
        assert longest(long) == [(start, end) for start, end in expected if end - start >= 0.25]
        assert long == [s for s in every if s.end - s.start >= 0.25]


class Scripted:
    """A session that gives the probabilities it was made with."""

    def __init__(self, *probabilities: float) -> None:
        self.probabilities = list(probabilities)

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([[self.probabilities.pop(0)]]), inputs["state"]


def scripted(
    monkeypatch: pytest.MonkeyPatch, probabilities: list[float], **options: Any
) -> list[tuple[int, int]]:
    """The silences of such a stream, in windows."""
    monkeypatch.setattr(vad, "_session", lambda: Scripted(*probabilities))
    silences = VoiceActivity(**options).push(np.zeros(512 * len(probabilities), np.float32))
    return [(round(s.start / 0.032), round(s.end / 0.032)) for s in silences]


def test_between_the_thresholds_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech from 0.5 on; silence below 0.35, which goes on up to the next 0.5."""
    heard = [0.4, 0.5, 0.4, 0.35, 0.34, 0.4, 0.49, 0.5, 0.36, 0.1]
    expected = [(0, 1), (4, 5), (4, 6), (4, 7), (9, 10)]
    assert scripted(monkeypatch, heard, min_silence_ms=0) == expected
    options: dict[str, Any] = {"threshold": 0.38, "negative_threshold": 0.38}
    expected = [(3, 4), (3, 5), (8, 9), (8, 10)]
    assert scripted(monkeypatch, heard, min_silence_ms=0, **options) == expected


@pytest.mark.parametrize(("ms", "windows"), [(32, 1), (33, 2), (64, 2), (100, 4), (800, 25)])
def test_a_silence_counts_from_its_shortest_length_on(
    ms: int, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    silences = scripted(monkeypatch, [0.9, 0.0] + 30 * [0.1], min_silence_ms=ms)
    assert silences == [(1, 1 + n) for n in range(windows, 32)]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 12_345])
def test_a_stream_goes_on_elsewhere(rate: int) -> None:
    samples = audio.read(SHELL, sample_rate=rate, seconds=6)
    for seconds in (0.0, 0.01, 1.2345, 3.3333):
        cut = int(seconds * rate)
        here, there = VoiceActivity(rate), VoiceActivity(rate)
        here.push(samples[: cut // 2])
        here.push(samples[cut // 2 : cut])
        state = here.state()
        there.push(samples[:1000])
        there.restore(state)
        rest = here.push(samples[cut:])
        assert rest
        assert pushed(there, samples[cut:], 0.037) == rest
        for name, value in there.state().items():
            assert np.array_equal(value, here.state()[name]), name
        again = VoiceActivity(rate)
        again.restore(state)  # neither stream has written into it
        assert again.push(samples[cut:]) == rest


def test_a_stream_goes_on_in_another_process(tmp_path: Path) -> None:
    samples = audio.read(SHELL)
    here = VoiceActivity()
    here.push(samples[:40_001])
    np.savez(tmp_path / "moved.npz", rest=samples[40_001:], **here.state())
    program = (
        "import sys, numpy as np; from auricle.vad import VoiceActivity;"
        "moved = dict(np.load(sys.argv[1])); rest = moved.pop('rest');"
        "there = VoiceActivity(); there.restore(moved);"
        "print([(s.start, s.end) for s in there.push(rest)])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "moved.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str([(s.start, s.end) for s in here.push(samples[40_001:])])


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    samples = audio.read(SHELL, seconds=6)
    here, untouched = VoiceActivity(), VoiceActivity()
    for activity in (here, untouched):
        activity.push(samples[:20_000])
    state = here.state()
    wrong: list[dict[str, Any]] = [
        VoiceActivity(8_000).state(),
        VoiceActivity(44_100).state(),
        {},
        {name: value for name, value in state.items() if name != "recurrent"},
        {**state, "sound": np.zeros(600, np.float32)},
        {**state, "sound": np.zeros(3, np.float32)},
        {**state, "recurrent": np.zeros((2, 2, 128), np.float32)},
        {**state, "windows": np.zeros(2)},
    ]
    for other in wrong:
        with pytest.raises(ConfigError, match="not a state of this voice activity"):
            here.restore(other)
    rest = untouched.push(samples[20_000:])
    assert rest
    assert here.push(samples[20_000:]) == rest


def test_what_a_stream_remembers_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "_session", lambda: Scripted(*[0.9] * 2_000))
    for rate in (16_000, 44_100):
        activity = VoiceActivity(rate)
        second = np.zeros(rate, np.float32)
        sizes = []
        for _ in range(60):
            activity.push(second)
            sizes.append(sum(value.nbytes for value in activity.state().values()))
        assert max(sizes) < 10_000


def test_many_threads_share_the_network() -> None:
    clips = [audio.read(path) for path in (SHELL, TALK)] * 4
    alone = [VoiceActivity().push(clip) for clip in clips[:2]] * 4
    streams = [VoiceActivity() for _ in clips]
    assert len({id(stream._network._session) for stream in streams}) == 1
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda s, c: pushed(s, c, 0.1), streams, clips))
    assert together == alone


def test_the_first_use_loads_onnxruntime_once_and_no_torch() -> None:
    program = """
import sys, threading, auricle.vad as vad
def there():
    return [name for name in ("onnxruntime", "torch", "silero_vad") if name in sys.modules]
print(there())
made = []
threads = [threading.Thread(target=lambda: made.append(vad.VoiceActivity())) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(there(), len(made), vad._load.cache_info().misses)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["[]", "['onnxruntime'] 8 1"]


@pytest.fixture
def unloaded() -> Iterator[None]:
    """As in a process that has not used the network yet."""
    vad._load.cache_clear()
    yield
    vad._load.cache_clear()


@pytest.mark.usefixtures("unloaded")
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"^voice activity needs the extra 'vad': pip install auricle\[vad\]$"
    with monkeypatch.context() as patch, pytest.raises(MissingExtra, match=message):
        patch.setitem(sys.modules, "onnxruntime", None)
        VoiceActivity()

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    with monkeypatch.context() as patch, pytest.raises(ImportError, match=message):
        patch.setattr(vad, "distribution", absent)
        VoiceActivity()
    assert VoiceActivity().push(np.zeros(51_200, np.float32))  # installed since


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("damage", ["absent", "cut", "another"])
def test_a_damaged_file(damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = Path(str(distribution("silero-vad").locate_file(vad._FILE))).read_bytes()
    path = tmp_path / "silero_vad.onnx"
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "another":
        path.write_text("<html>not found</html>")
    monkeypatch.setattr(vad, "_FILE", str(path))
    with pytest.raises(CheckpointError, match=r"silero_vad\.onnx.*pip install --force") as caught:
        VoiceActivity()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(600, np.int16), "float32 samples.*int16"),
        (np.zeros(600), "float64"),
        (np.zeros((2, 600), np.float32), r"\[2, 600\]"),
        (np.array([0, np.nan], np.float32), "finite"),
        (np.array([np.inf], np.float32), "finite"),
    ],
)
def test_bad_samples_change_nothing(samples: np.ndarray, message: str) -> None:
    speech = audio.read(SHELL, seconds=6)
    activity, untouched = VoiceActivity(), VoiceActivity()
    untouched.push(speech[:9_000])
    activity.push(speech[:9_000])
    for take in (activity.push, activity.probabilities):
        with pytest.raises(AudioError, match=message):
            take(samples)
    assert activity.push(speech[9_000:]) == untouched.push(speech[9_000:])


@pytest.mark.parametrize(
    "options",
    [
        {"sample_rate": 0},
        {"sample_rate": 16_000.0},
        {"threshold": 1.0},
        {"threshold": 0.0},
        {"threshold": float("nan")},
        {"threshold": 0.5, "negative_threshold": 0.6},
        {"min_silence_ms": -1},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        VoiceActivity(**options)


def test_nothing_and_a_moment() -> None:
    activity = VoiceActivity()
    assert activity.push(np.zeros(0, np.float32)) == []
    assert activity.probabilities(np.zeros(0, np.float32)).shape == (0,)
    assert activity.probabilities(np.zeros(1, np.float32)).shape == (1,)
    assert VoiceActivity(44_100).probabilities(np.zeros(0, np.float32)).shape == (0,)
    with pytest.raises(AttributeError):
        Silence(0.0, 1.0).start = 2.0  # type: ignore[misc]
