"""From sound and transcripts to what Whisper's networks take: log-mels of a window, and tokens.

Letters in shapes: B batch, S samples, M mel bins, T frames, P encoder positions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.audio import Samples
from auricle.checkpoints.whisper_model import WhisperCheckpoint
from auricle.engines.whisper_facts import HOP, LANGUAGES, SAMPLE_RATE, SPACELESS, WINDOW
from auricle.errors import ConfigError
from auricle.features import LogMelConfig, mel_filterbank
from auricle.models.asr import PromptConfig
from auricle.tokenizers import HFTokenizer
from auricle.training.items import Batch, Item, PlannedBatch
from auricle.training.loading import Augmentation, Loading, Lost
from auricle.training.sounds import FileSound

FRAMES_PER_POSITION = 2
_STEP = 10  # positions that a window is a multiple of, 0.2 s
_KEPT_BYTES = 4 << 30
_N_FFT = 400
_FLOOR, _RANGE, _SHIFT, _SCALE = 1e-10, 8.0, 4.0, 4.0  # of log10 power; Radford et al. 2022


class WhisperTokenizer(HFTokenizer):
    """Whisper's text, as it writes it: words begin with a space, and the end is a token too."""

    def __init__(self, checkpoint: WhisperCheckpoint) -> None:
        self.end = checkpoint.special["<|endoftext|>"]
        super().__init__(checkpoint.beside["tokenizer.json"], size=self.end + 1)

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Ids of `text` and of its end."""
        spaced = text if language in SPACELESS else f" {text.strip()}"
        return [*super().encode(spaced, language), self.end]


def prompt_config(checkpoint: WhisperCheckpoint) -> PromptConfig | None:
    """The tokens of languages, by codes and by English names; None for English-only models."""
    generation = checkpoint.generation
    known = generation.get("lang_to_id")
    if not generation.get("is_multilingual", bool(known)) or not known:
        return None
    codes = {token.strip("<|>"): int(id) for token, id in known.items()}
    names = {LANGUAGES[code]: id for code, id in codes.items() if code in LANGUAGES}
    return PromptConfig(max(codes.values()) + 1, codes | names, default_language="")


def window_of(max_seconds: float, slowest: float, positions: int) -> int:
    """The encoder's positions that clips of `max_seconds` take, at most those that it has.

    Args:
        max_seconds: Of the longest clip.
        slowest: The factor of its speed that makes it longest.
        positions: What the encoder has; 1500 are 30 s.

    Raises:
        ConfigError: A clip would not fit into what the encoder has.
    """
    most = positions * FRAMES_PER_POSITION * HOP / SAMPLE_RATE
    if max_seconds > most:
        raise ConfigError(
            f"Whisper hears {most:g} s at once: set data.max_seconds to that or less, "
            f"not {max_seconds:g}"
        )
    needed = max_seconds / min(1.0, slowest) * SAMPLE_RATE / HOP / FRAMES_PER_POSITION
    return min(positions, _STEP * math.ceil(needed / _STEP))


class WhisperMel(nn.Module):
    """Log-mels of clips in a window of `frames`, silence behind them, as Whisper computes them."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, n_mels: int, frames: int = WINDOW) -> None:
        super().__init__()
        self.config = LogMelConfig(
            sample_rate=SAMPLE_RATE,
            n_mels=n_mels,
            n_fft=_N_FFT,
            win_length=_N_FFT,
            hop_length=HOP,
            preemphasis=None,
            normalize=None,
            dither=0.0,
        )
        self.frames = frames
        self.register_buffer("window", torch.hann_window(_N_FFT))
        self.register_buffer("filterbank", mel_filterbank(self.config))

    @torch.no_grad()
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of samples [B, S], of which each row has `lengths` [B].

        Returns:
            Features [B, M, frames], and the frames of each row that are not silence [B].
        """
        size = self.frames * HOP
        heard = F.pad(samples[:, :size].float(), (0, max(0, size - samples.shape[1])))  # [B, S]
        spectrum = torch.stft(heard, _N_FFT, HOP, window=self.window, return_complex=True)
        power = spectrum[..., :-1].abs().square()  # [B, F, T]
        mels = (self.filterbank @ power).clamp(min=_FLOOR).log10()  # [B, M, T]
        loudest = mels.amax(dim=(1, 2), keepdim=True)
        mels = (torch.maximum(mels, loudest - _RANGE) + _SHIFT) / _SCALE
        return mels, (-(-lengths // HOP)).clamp(max=self.frames)


class WhisperLoading(Loading):
    """Items as batches for Whisper: mels [B, M, T], or what a frozen encoder makes of them.

    Args:
        features: Says how long the window is.
        tokenizer: Writes the transcripts.
        augmentation: What is done to the sound, or None; what becomes too long by it stays as it
            was.
        prompt: The tokens of languages.
        invalid: As `Loading`'s; texts that are too long count as invalid too.
        most_tokens: That a text may have.
        width: D.
        encode: From mels [B, M, T] to encodings [B, P, D], where the encoder does not change: each
            clip is then heard once, and batches hold encodings [B, D, P] in place of mels.
    """

    def __init__(
        self,
        features: WhisperMel,
        tokenizer: WhisperTokenizer,
        *,
        augmentation: Augmentation | None = None,
        prompt: PromptConfig | None = None,
        invalid: Literal["skip", "refuse"] = "skip",
        most_tokens: int,
        width: int,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(
            features, tokenizer, augmentation=augmentation, prompt=prompt, invalid=invalid
        )
        self._window, self._most_tokens = features.frames, most_tokens
        self._width, self._encode = width, encode
        self.here = encode is not None  # an encoder is not sent to other processes
        self._encodings: dict[FileSound, Tensor] = {}  # [P, D] each
        self._bytes = 0

    def load(self, planned: PlannedBatch) -> Batch:
        """See `Loading.load`."""
        if self._encode is None:
            return super().load(planned)
        kept = [self._kept_encoding(item) for item in planned.items]
        pairs = zip(planned.items, kept, strict=True)
        made = super().load(replace(planned, items=tuple(i for i, e in pairs if e is None)))
        if made.items:
            fresh = dict(zip(map(id, made.items), self._encode(made.features), strict=True))
        else:
            fresh = {}
        items, rows = [], []
        for item, encoding in zip(planned.items, kept, strict=True):
            row = fresh.get(id(item)) if encoding is None else encoding
            if row is not None:
                items.append(item)
                rows.append(row)
                self._keep(item, row)
        tokens, lengths = self._written(items)
        nothing = torch.zeros(0, self._width, 1)
        encodings = torch.stack(rows).transpose(1, 2) if rows else nothing  # [B, D, P]
        return replace(
            made,
            features=encodings,
            frames=torch.full((len(rows),), encodings.shape[2]),
            tokens=tokens,
            lengths=lengths,
            prompt=self._prompts(items),
            items=tuple(items),
        )

    def _kept_encoding(self, item: Item) -> Tensor | None:
        return self._encodings.get(item.sound) if isinstance(item.sound, FileSound) else None

    def _keep(self, item: Item, encoding: Tensor) -> None:
        sound, fits = item.sound, self._bytes + encoding.nbytes <= _KEPT_BYTES
        if fits and isinstance(sound, FileSound) and sound not in self._encodings:
            self._encodings[sound] = encoding.clone()
            self._bytes += encoding.nbytes

    def _clip(self, item: Item, seed: tuple[int, ...]) -> Samples:
        count = len(self._tokenizer.encode(item.text, item.language))
        if count > self._most_tokens:
            said = f"{item.name}: {count} tokens, and Whisper writes {self._most_tokens} at most"
            if self._invalid == "refuse":
                raise ConfigError(f"{said}; leave it out, or cut it")
            raise Lost(said)
        return super()._clip(item, seed)

    def _changed(self, samples: Samples, seed: tuple[int, ...]) -> Samples:
        changed = super()._changed(samples, seed)
        return samples if len(changed) > self._window * HOP >= len(samples) else changed


def prompts(checkpoint: WhisperCheckpoint, language: Tensor | None, batch: int) -> Tensor:
    """What stands before the text [B, L]: the start, for multilingual models language and task.

    Args:
        checkpoint: Of the model.
        language: The tokens of languages [B], for multilingual models.
        batch: How many rows.
    """
    ids = checkpoint.special
    start, plain = ids["<|startoftranscript|>"], ids["<|notimestamps|>"]
    if language is None:
        return torch.tensor([[start, plain]]).expand(batch, 2)
    column = torch.ones_like(language)
    task = ids["<|transcribe|>"]
    return torch.stack([start * column, language, task * column, plain * column], dim=1)


def shifted(prompt: Tensor, tokens: Tensor, lengths: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """The decoder's input and its labels [B, L + U - 1]: each label is the input's next token.

    Labels of the prompt and of padding are -100, which no loss counts.

    Args:
        prompt: [B, L].
        tokens: [B, U] with the end of each text, padded with anything.
        lengths: Tokens of each row [B].
        pad: Any token.
    """
    real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]  # [B, U]
    inputs = torch.cat([prompt, tokens.masked_fill(~real, pad)[:, :-1]], dim=1)
    labels = tokens.masked_fill(~real, -100)
    nothing = prompt.new_full((len(prompt), prompt.shape[1] - 1), -100)
    return inputs, torch.cat([nothing, labels], dim=1)
