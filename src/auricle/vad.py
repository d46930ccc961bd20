"""Voice activity: which windows of a stream hold speech, and how long it has been silent.

The network is Silero's, run by onnxruntime (extra `vad`). Its file lies in the wheel of
`silero-vad`, of which only the data is read: importing that package would load torch and set its
threads. A window is 32 ms and costs about 0.1 ms of one core, 0.3 % of a stream's time, so streams
run one by one: a batch of eight would save half of that.

Letters in shapes: S samples, W windows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auricle.audio import Resampler, ResumableResampler, Samples, check_rate
from auricle.errors import AudioError, CheckpointError, ConfigError, MissingExtra, first_line

_PACKAGE = "silero-vad"
_FILE = "silero_vad/data/silero_vad.onnx"
_CURE = "voice activity needs the extra 'vad': pip install auricle[vad]"

_WINDOW = {8_000: 256, 16_000: 512}  # rates of the network, samples per window
_CONTEXT = {8_000: 32, 16_000: 64}  # samples of the window before, which it sees too
_RECURRENT = (2, 1, 128)

_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Silence:
    """No speech from `start` to `end`, in seconds from the start of the stream."""

    start: float
    end: float


class VoiceActivity:
    """The voice activity of one stream; the network is loaded once and serves all of them.

    Windows lie on a fixed grid from the start of the stream and are run one by one, so the results
    are the same bits however the audio is cut. Speech begins with a window whose probability
    reaches `threshold`, and ends with one below `negative_threshold` (0.15 less, as Silero
    publishes it); between the two, nothing changes. A stream begins silent.

    Audio at 8 and 16 kHz is judged as it is, at other rates after resampling to 16 kHz. An object
    belongs to one thread at a time.
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        threshold: float = 0.5,
        negative_threshold: float | None = None,
        min_silence_ms: int = 100,
    ) -> None:
        """Load the network if this is its first use in the process.

        Raises:
            MissingExtra: The extra `vad` is not installed.
            CheckpointError: The network's file is damaged.
            ConfigError: An option that makes no sense.
        """
        check_rate(sample_rate, "sample_rate")
        if negative_threshold is None:
            negative_threshold = max(threshold - 0.15, 0.01)
        if not 0 < negative_threshold <= threshold < 1:
            raise ConfigError(
                "voice activity needs 0 < negative_threshold <= threshold < 1, got "
                f"{negative_threshold} and {threshold}"
            )
        if min_silence_ms < 0:
            raise ConfigError(f"min_silence_ms must be 0 or more, got {min_silence_ms}")
        self.sample_rate = sample_rate
        self.threshold, self.negative_threshold = threshold, negative_threshold
        self._rate = sample_rate if sample_rate in _WINDOW else 16_000
        self._min_windows = -(-min_silence_ms * self._rate // (1000 * _WINDOW[self._rate]))
        self._resampler = self._new_resampler()
        self._network = _Network(self._rate)
        self._windows = 0
        self._silent_since: int | None = 0  # window

    def push(self, samples: Samples) -> list[Silence]:
        """More audio, float32 [S]: one value for each window at whose end it was silent.

        It spans the silence up to that window's end, once that is `min_silence_ms` or more: values
        of one silence have the same start and grow by a window. Together the values of a stream do
        not depend on how it is cut. Audio is judged as soon as its window is full; an unfinished
        window at the end of a stream is not.

        Raises:
            AudioError: Not float32 [S], or not finite; what came before is kept.
        """
        _check(samples)
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        silences = []
        for probability in self._network.push(samples):
            if probability >= self.threshold:
                self._silent_since = None
            elif probability < self.negative_threshold and self._silent_since is None:
                self._silent_since = self._windows
            self._windows += 1
            since = self._silent_since
            if since is not None and self._windows - since >= self._min_windows:
                silences.append(Silence(self._seconds(since), self._seconds(self._windows)))
        return silences

    def probabilities(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Of a whole clip, float32 [S]: the probability of speech in each window, [W].

        The last window is filled up with silence. The stream itself is neither used nor changed.

        Raises:
            AudioError: Not float32 [S], or not finite.
        """
        _check(samples)
        if self._resampler is not None:
            resampler = Resampler(self.sample_rate, self._rate)
            samples = np.concatenate([resampler.push(samples), resampler.finish()])
        missing = -len(samples) % _WINDOW[self._rate]
        padded = np.concatenate([samples, np.zeros(missing, np.float32)])
        return np.array(_Network(self._rate).push(padded), np.float32)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything the stream remembers, to go on with elsewhere; the stream itself goes on too.

        Options are no part of it, but for the rate, which is there to be compared.
        """
        since = -1 if self._silent_since is None else self._silent_since
        recent = {} if self._resampler is None else {"recent": self._resampler.recent.copy()}
        return {
            "sample_rate": np.array(self.sample_rate),
            "windows": np.array(self._windows),
            "silent_since": np.array(since),
            "sound": self._network.sound.copy(),
            "recurrent": self._network.recurrent.copy(),
            **recent,
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from another object's `state`.

        Raises:
            ConfigError: It is not a state of voice activity at this rate; nothing has changed.
        """
        try:
            rate, windows, since = (
                int(state[name]) for name in ("sample_rate", "windows", "silent_since")
            )
            if rate != self.sample_rate:
                raise ValueError(f"its rate is {rate}, not {self.sample_rate}")
            network = _Network(self._rate, state["sound"], state["recurrent"])
            resampler = self._new_resampler(state)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a state of this voice activity: {first_line(error)}") from None
        self._network, self._resampler = network, resampler
        self._windows, self._silent_since = windows, None if since < 0 else since

    def _new_resampler(
        self, state: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> ResumableResampler | None:
        if self.sample_rate == self._rate:
            return None
        recent = None if state is None else state["recent"]
        return ResumableResampler(self.sample_rate, self._rate, recent)

    def _seconds(self, windows: int) -> float:
        return windows * _WINDOW[self._rate] / self._rate


class _Network:
    """The network at one place of a stream.

    `sound` [S] is the context of the next window and then what is there of it; `recurrent`
    [2, 1, 128] is the LSTM's hidden and cell state.
    """

    def __init__(
        self,
        rate: int,
        sound: npt.NDArray[Any] | None = None,
        recurrent: npt.NDArray[Any] | None = None,
    ) -> None:
        self._session = _session()
        self._rate = np.array(rate)
        self._window, self._context = _WINDOW[rate], _CONTEXT[rate]
        sound = np.zeros(self._context) if sound is None else sound
        recurrent = np.zeros(_RECURRENT) if recurrent is None else recurrent
        self.sound, self.recurrent = sound.astype(np.float32), recurrent.astype(np.float32)
        fits = self._context <= self.sound.size < self._context + self._window
        if not fits or self.sound.ndim != 1 or self.recurrent.shape != _RECURRENT:
            raise ValueError(f"shapes {self.sound.shape} and {self.recurrent.shape}")

    def push(self, samples: Samples) -> list[float]:
        """The probabilities of the windows that `samples` complete."""
        sound = np.concatenate([self.sound, samples])
        probabilities = []
        seen = self._context + self._window
        start = 0
        while start + seen <= len(sound):
            inputs = {
                "input": sound[None, start : start + seen],  # [1, context + window]
                "state": self.recurrent,
                "sr": self._rate,
            }
            output, self.recurrent = self._session.run(None, inputs)
            probabilities.append(float(output[0, 0]))
            start += self._window
        self.sound = sound[start:].copy()
        return probabilities


def _check(samples: Samples) -> None:
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise AudioError(
            f"voice activity needs float32 samples [S], got {samples.dtype} {list(samples.shape)}"
        )
    if not np.isfinite(samples).all():
        raise AudioError("voice activity needs finite samples, got NaN or infinity")


def _session() -> Any:
    """The network, one for the process: onnxruntime's `run` may be called by many threads."""
    with _loading:
        return _load()


@cache
def _load() -> Any:
    try:
        path = Path(str(distribution(_PACKAGE).locate_file(_FILE)))
        import onnxruntime
    except (PackageNotFoundError, ModuleNotFoundError):
        raise MissingExtra(_CURE) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # would keep memory for each thread that ever ran
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(
            path, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's have no common class
        raise CheckpointError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path}: {first_line(error)}; "
            f"install it again: pip install --force-reinstall --no-deps {_PACKAGE}"
        ) from None
