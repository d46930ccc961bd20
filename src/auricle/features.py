"""Log-mel features as NeMo's preprocessor computes them in evaluation, always in float32.

Letters in shapes: B batch, S samples, T frames, M mel bins, F frequency bins of the transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auricle.errors import ConfigError

Window = Literal["hann", "hamming", "blackman", "bartlett", "none"]
Normalisation = str | tuple[tuple[float, ...], tuple[float, ...]] | None

WINDOWS = ("hann", "hamming", "blackman", "bartlett", "none")


@dataclass(frozen=True)
class LogMelConfig:
    """Lengths are in samples, frequencies in Hz; the defaults are those of NeMo's Conformers.

    `normalize` is "per_feature", "all_features", None, or fixed (means, deviations), one of each
    for every mel bin. `fmax` None means half the sample rate.
    """

    sample_rate: int = 16000
    n_mels: int = 80
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    window: str = "hann"
    preemphasis: float | None = 0.97
    fmin: float = 0.0
    fmax: float | None = None
    mel_norm: str | None = "slaney"
    log: bool = True
    log_guard_type: str = "add"
    log_guard: float = 2**-24
    normalize: Normalisation = "per_feature"
    pad_to: int = 0
    pad_value: float = 0.0
    mag_power: float = 2.0
    exact_pad: bool = False
    dither: float = 1e-5
    frame_splicing: int = 1

    def __post_init__(self) -> None:
        if self.window not in WINDOWS:
            raise ConfigError(f"window {self.window!r} is not one of {', '.join(WINDOWS)}")
        if self.win_length > self.n_fft:
            raise ConfigError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")
        if self.log_guard_type not in ("add", "clamp"):
            raise ConfigError(f"log_guard_type {self.log_guard_type!r} is neither add nor clamp")
        if isinstance(self.normalize, str) and self.normalize not in (
            "per_feature",
            "all_features",
        ):
            raise ConfigError(
                f"normalize {self.normalize!r} is not per_feature, all_features, None or a pair"
            )
