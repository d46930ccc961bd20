"""Log-mel features as NeMo's preprocessor computes them in evaluation, always in float32.

Letters in shapes: B batch, S samples, T frames, M mel bins, F frequency bins of the transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.config import Size, Within, settle
from auricle.errors import ConfigError

Normalisation = str | tuple[tuple[float, ...], tuple[float, ...]] | None

WINDOWS = ("hann", "hamming", "blackman", "bartlett", "none")


@dataclass(frozen=True)
class LogMelConfig:
    """Lengths are in samples, frequencies in Hz; the defaults are those of NeMo's Conformers.

    `normalize` is "per_feature", "all_features", None, or fixed (means, deviations), one of each
    for every mel bin. `fmax` None means half the sample rate.
    """

    sample_rate: Annotated[int, Within(1, 384_000)] = 16000
    n_mels: Annotated[int, Within(1, 512)] = 80
    n_fft: Annotated[int, Within(2, 2**14)] = 512
    win_length: Annotated[int, Within(2, 2**14)] = 400
    hop_length: Size = 160
    window: str = "hann"
    preemphasis: float | None = 0.97
    fmin: float = 0.0
    fmax: float | None = None
    mel_norm: str | None = "slaney"
    log: bool = True
    log_guard_type: str = "add"
    log_guard: float = 2**-24
    normalize: Normalisation = "per_feature"
    pad_to: Annotated[int, Within(0, 2**12)] = 0
    pad_value: float = 0.0
    mag_power: float = 2.0
    exact_pad: bool = False
    dither: float = 1e-5
    frame_splicing: Annotated[int, Within(1, 64)] = 1

    def __post_init__(self) -> None:
        settle(self)
        if self.window not in WINDOWS:
            raise ConfigError(f"window {self.window!r} is not one of {', '.join(WINDOWS)}")
        if self.win_length > self.n_fft:
            raise ConfigError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")
        if self.mel_norm not in ("slaney", None):
            raise ConfigError(f"mel_norm {self.mel_norm!r} is neither slaney nor None")
        if self.log_guard_type not in ("add", "clamp"):
            raise ConfigError(f"log_guard_type {self.log_guard_type!r} is neither add nor clamp")
        if isinstance(self.normalize, str) and self.normalize not in (
            "per_feature",
            "all_features",
        ):
            raise ConfigError(
                f"normalize {self.normalize!r} is not per_feature, all_features, None or a pair"
            )


class LogMel(nn.Module):
    """The features of recordings of different lengths in one batch.

    `window` [win_length] and `filterbank` [M, F] are saved with a model, which was trained with
    just these numbers.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        # Real numbers even where a model is laid out on "meta": computing these two there would
        # import PyTorch's compiler, which takes seconds.
        with torch.device("cpu"):
            self.register_buffer("window", _window(config.window, config.win_length))
            self.register_buffer("filterbank", mel_filterbank(config))

    @torch.no_grad()
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features; training adds dither.

        Args:
            samples: [B, S] float32; what lies beyond a row's length is not heard.
            lengths: Samples in each row [B].

        Returns:
            Features [B, M, T] in float32, `pad_value` beyond a row's length, and lengths [B] in
            frames. One frame more than the longest row needs is there, as with NeMo.
        """
        config = self.config
        frames = self.frames(lengths)
        with torch.autocast(samples.device.type, enabled=False):
            x = self._mel(self._spectrum(self._emphasised(samples.float(), lengths)))
        valid = torch.arange(x.shape[2], device=x.device) < frames[:, None]  # [B, T]
        x = _normalised(x, valid, config.normalize)
        x = x.masked_fill(~valid.unsqueeze(1), config.pad_value)
        if config.pad_to > 0:
            x = F.pad(x, (0, -x.shape[2] % config.pad_to), value=config.pad_value)
        return x, frames

    @torch.no_grad()
    def step(
        self, samples: Tensor, before: Tensor, stops: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The features of a stream, piece by piece; those of `forward` to rounding.

        A frame is ready `ahead` samples behind its middle: NeMo's transform looks at 512 samples,
        but its window of 400 hides the outer ones.

        Args:
            samples: [B, N * hop_length] float32, the next ones of every stream.
            before: [B, overlap], the samples before these; zeros where a stream begins.
            stops: Samples in each row [B] that exist, where a stream ends; None where none does.

        Returns:
            N frames [B, M, N] in float32, and what is `before` for the next samples.

        Raises:
            ConfigError: The features of this model hang on the whole recording.
        """
        config = self.config
        if not self.can_step:
            raise ConfigError(
                f"features with normalize {config.normalize!r}, exact_pad {config.exact_pad} "
                "need the whole recording"
            )
        with torch.autocast(samples.device.type, enabled=False):
            x = torch.cat([before, samples.float()], dim=1)
            after = x[:, x.shape[1] - self.overlap :].clone()
            y = x[:, 1:]
            if config.preemphasis is not None:
                y = y - config.preemphasis * x[:, :-1]
            if stops is not None:
                y = _silenced(y, stops + self.overlap - 1)
            y = y.unfold(1, config.win_length, config.hop_length) * self.window  # [B, N, W]
            # Placed as the transform of `forward` places it, so that rounding is the same too.
            y = F.pad(y, (self._margin, config.n_fft - config.win_length - self._margin))
            spectrum = torch.fft.rfft(y).transpose(1, 2)  # [B, F, N]
            features = self._mel(spectrum.real.square() + spectrum.imag.square())
        if isinstance(config.normalize, tuple):
            everything = features.new_ones((), dtype=torch.bool)
            features = _normalised(features, everything, config.normalize)
        return features, after

    @property
    def can_step(self) -> bool:
        """Whether a frame hangs on its own samples alone."""
        return not isinstance(self.config.normalize, str) and not self.config.exact_pad

    @property
    def ahead(self) -> int:
        """Samples that a frame hears from its middle on."""
        return self._margin + self.config.win_length - self.config.n_fft // 2

    @property
    def _margin(self) -> int:
        """Samples of the transform before those that its window shows."""
        return (self.config.n_fft - self.config.win_length) // 2

    @property
    def overlap(self) -> int:
        """Samples that the next frame hears again, one for the pre-emphasis among them."""
        return self.config.win_length - self.config.hop_length + 1

    def frames(self, lengths: Tensor) -> Tensor:
        """Frames that `lengths` samples make."""
        config = self.config
        pad = 2 * self._exact_pad if config.exact_pad else config.n_fft // 2 * 2
        frames = (lengths + pad - config.n_fft) // config.hop_length
        return torch.where(lengths == 0, 0, frames)

    @property
    def _exact_pad(self) -> int:
        return (self.config.n_fft - self.config.hop_length) // 2

    def _emphasised(self, x: Tensor, lengths: Tensor) -> Tensor:
        config = self.config
        if config.preemphasis is None:  # otherwise done below
            x = _silenced(x, lengths)
        if config.exact_pad:
            x = F.pad(x, (self._exact_pad, self._exact_pad))
        if self.training and config.dither > 0:
            x = x + config.dither * torch.randn_like(x)
        if config.preemphasis is not None:
            x = torch.cat([x[:, :1], x[:, 1:] - config.preemphasis * x[:, :-1]], dim=1)
            x = _silenced(x, lengths)
        return x

    def _spectrum(self, x: Tensor) -> Tensor:
        """Squared magnitudes: [B, S] to [B, F, T]."""
        config = self.config
        spectrum = torch.stft(
            x,
            config.n_fft,
            config.hop_length,
            config.win_length,
            self.window,
            center=not config.exact_pad,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.real.square() + spectrum.imag.square()  # [B, F, T]

    def _mel(self, power: Tensor) -> Tensor:
        """Squared magnitudes [B, F, T] to log-mels [B, M, T]."""
        config = self.config
        if config.mag_power != 2.0:
            power = power.pow(config.mag_power / 2)
        x = torch.matmul(self.filterbank, power)
        if config.log:
            x = self._log(x)
        return x.repeat(1, config.frame_splicing, 1)  # NeMo stacks copies of the frame itself

    def _log(self, x: Tensor) -> Tensor:
        guard = self.config.log_guard
        return torch.log(x + guard if self.config.log_guard_type == "add" else x.clamp(min=guard))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the model to a device, but never to half precision."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor[:0]).device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self


def _silenced(x: Tensor, lengths: Tensor) -> Tensor:
    """`x` [B, S] with zeros beyond each row's length [B]."""
    return x.masked_fill(torch.arange(x.shape[1], device=x.device) >= lengths[:, None], 0.0)


def _normalised(x: Tensor, valid: Tensor, kind: Normalisation) -> Tensor:
    """`x` [B, M, T] less a mean and by a deviation; beyond `valid` [B, T] anything may come."""
    if kind is None:
        return x
    if isinstance(kind, tuple):
        means, deviations = (torch.tensor(values, device=x.device)[:, None] for values in kind)
        return (x - means) / deviations  # [M, 1] against [B, M, T]
    dims = (2,) if kind == "per_feature" else (1, 2)
    seen = valid.unsqueeze(1)  # [B, 1, T]
    count = valid.sum(1)[:, None, None] * (1 if kind == "per_feature" else x.shape[1])
    mean = x.where(seen, 0.0).sum(dims, keepdim=True) / count
    centred = (x - mean).where(seen, 0.0)
    # Once more, for what rounding left: over a deviation of nearly nothing it would be everything.
    centred = (centred - centred.sum(dims, keepdim=True) / count).where(seen, 0.0)
    deviation = (centred.square().sum(dims, keepdim=True) / (count - 1.0)).sqrt()
    return centred / (deviation.nan_to_num(0.0) + 1e-5)  # one frame alone has no deviation


def _window(name: str, length: int) -> Tensor:
    """A symmetric window."""
    match name:
        case "hann":
            return torch.hann_window(length, periodic=False)
        case "hamming":
            return torch.hamming_window(length, periodic=False)
        case "blackman":
            return torch.blackman_window(length, periodic=False)
        case "bartlett":
            return torch.bartlett_window(length, periodic=False)
    return torch.ones(length)


def mel_filterbank(config: LogMelConfig) -> Tensor:
    """Triangles evenly spaced on Slaney's mel scale, [M, F], as librosa makes them.

    With `mel_norm` "slaney" every triangle has the same area.
    """
    top = config.fmax or config.sample_rate / 2
    ends = _hz_to_mel(config.fmin), _hz_to_mel(top)
    corners = _mel_to_hz(torch.linspace(*ends, config.n_mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    widths = corners.diff()[:, None]  # [M + 1, 1]
    slopes = corners[:, None] - bins  # [M + 2, F]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = torch.minimum(rising, falling).clamp(min=0.0)  # [M, F]
    if config.mel_norm == "slaney":
        triangles = triangles * (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return triangles.float()


# Slaney's scale: linear up to 1 kHz at 15 mels, above it 27 mels for every factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _KNEE_MEL = 200.0 / 3, 1000.0, 15.0
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _KNEE_HZ:
        return hz / _HZ_PER_MEL
    return _KNEE_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: Tensor) -> Tensor:
    above = _KNEE_HZ * torch.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return torch.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, above)
