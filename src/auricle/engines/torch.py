"""The engine of NVIDIA's families: a batch of clips through one PyTorch model.

Holds no per-call state, so that one engine serves many threads. Knows nothing of files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from auricle.checkpoints import Checkpoint, build
from auricle.checkpoints.adapters import load_adapter
from auricle.config import nearest, shown
from auricle.decoding import Greedy, Hypothesis, ctc, transducer
from auricle.decoding.times import decode_text, tokens_words_segments
from auricle.engines import EngineOptions
from auricle.errors import ConfigError
from auricle.models.adapted import adapted
from auricle.models.asr import ASR, optimise
from auricle.text import matching_languages
from auricle.tokenizers import Tokenizer
from auricle.types import Transcript

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_SECONDS = 1.0


class DecoderState(Protocol):
    """What a head remembers of a batch of streams: a `CTCState` or a `TransducerState`."""

    def select(self, rows: Sequence[int]) -> Self:
        """A copy of those rows."""
        ...

    def put(self, rows: Sequence[int], part: Self) -> Self:
        """A new state, in which the rows of `part` stand at `rows`."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything in it, for saving."""
        ...

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """The inverse of `tensors`."""
        ...


class TorchEngine:
    """Encode and decode with a checkpoint of the CTC, RNNT, TDT or hybrid kind."""

    any_length = False

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        head: str | None = None,
    ) -> None:
        """Build the model on `device`.

        Args:
            checkpoint: What `checkpoints.load` returned.
            device: "auto" takes a CUDA device where there is one.
            precision: "fp32", "bf16" or "fp16"; "auto" is fp32 on the CPU and bf16 (else fp16) on
                CUDA. Features are always fp32.
            head: "ctc", "rnnt" or "tdt" for hybrids; None takes the checkpoint's own choice.

        Raises:
            ConfigError: A head, device or precision that this model or machine does not have.
        """
        self.device = _device(device)
        model = build(_without_frame_padding(checkpoint))
        self.head = _head(model, head, checkpoint.name)
        self.name = checkpoint.name
        self.tokenizer: Tokenizer = checkpoint.tokenizer
        self.fingerprint = checkpoint.fingerprint()
        self._dtype = _dtype(precision, self.device)
        self.model = optimise(model.to(self.device, self._dtype))
        self.transducer = transducer.of(self.model)
        self.batch_seconds = 60.0 if self.device.type == "cpu" else 600.0

    def adapted(self, path: str | Path) -> tuple[str, Self]:
        """An adapter's name, and an engine that has it and shares everything else with this one.

        Raises:
            ModelNotFound, CheckpointError: As for `load_adapter`.
        """
        blank = self.tokenizer.spec.get("blank")
        adapter = load_adapter(path, self.model.config, blank=blank)
        twin = copy.copy(self)
        twin.model = adapted(self.model, adapter.tensors, adapter.scale)
        twin.transducer = transducer.of(twin.model)
        twin.name = f"{self.name}+{adapter.name}"
        twin.fingerprint = f"{self.fingerprint}+{adapter.fingerprint()}"
        return adapter.name, twin

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that the checkpoint has, of "ctc", "rnnt" and "tdt"."""
        return self.model.heads

    @property
    def sample_rate(self) -> int:
        """Samples per second that the clips must have."""
        return self.model.config.features.sample_rate

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that `language=` may name; empty where there is nothing to choose."""
        prompt = self.model.config.prompt
        return tuple(prompt.languages) if prompt else ()

    @torch.inference_mode()
    def transcribe(
        self, clips: Sequence[npt.NDArray[np.float32]], options: EngineOptions
    ) -> list[Transcript]:
        """Transcribe one batch.

        A clip shorter than a second is centred in a second of silence first, as NeMo does with
        arrays; its times still count from its own start.
        """
        if options.task != "transcribe":
            raise ConfigError(f"{self.name} only transcribes: task={options.task!r} needs Whisper")
        encodings, steps, leads = self._encode(clips, options.language)
        hypotheses, _ = self.decode(encodings, steps, options.decode)
        return [
            self._transcript(hypothesis, len(clip) / self.sample_rate, lead, options)
            for hypothesis, clip, lead in zip(hypotheses, clips, leads, strict=True)
        ]

    @torch.inference_mode()
    def log_probs(
        self, clips: Sequence[npt.NDArray[np.float32]], language: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
        """What the CTC head gives for one batch, whichever head decodes.

        Returns:
            Log-probabilities [B, T, V+1] in fp32, the steps that count in each row [B], and the
            seconds of silence that were put before each clip (see `transcribe`).

        Raises:
            ConfigError: The model has no CTC head, or does not know the language.
        """
        if self.model.ctc is None:
            raise ConfigError(f"{self.name} has no CTC head; it has {', '.join(self.heads)}")
        encodings, steps, leads = self._encode(clips, language)
        log_probs = self.model.ctc(encodings).float().log_softmax(dim=-1)
        return log_probs, steps, [lead / self.sample_rate for lead in leads]

    def _encode(
        self, clips: Sequence[npt.NDArray[np.float32]], language: str | None
    ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Encodings [B, T, D], the steps in each row [B], and the zeros put before each clip."""
        number = self.prompt(language)
        prompt = None if number is None else torch.full((len(clips),), number, device=self.device)
        minimum = int(MIN_SECONDS * self.sample_rate)
        leads = [max(0, minimum - len(clip)) // 2 for clip in clips]
        samples, lengths = _pad(clips, leads, minimum)
        encodings, steps = self.model.encode(
            samples.to(self.device), lengths.to(self.device), prompt=prompt
        )
        return encodings, steps, leads

    def prompt(self, language: str | None) -> int | None:
        """The number that tells the model a language; None for models that take none.

        Raises:
            ConfigError: A language that the model does not know, or has no choice of.
        """
        prompt = self.model.config.prompt
        if prompt is None:
            if language is not None:
                raise ConfigError(f"{self.name} has no choice of language: leave language= out")
            return None
        language = language or prompt.default_language
        fits = matching_languages(language, prompt.languages)
        if len(fits) != 1:
            near = fits or nearest(language, prompt.languages, 3)
            known = ", ".join(near or list(prompt.languages)[:8])
            raise ConfigError(
                f"{self.name} does not know the language {shown(language)}; try {known}"
            )
        return prompt.languages[fits[0]]

    def takes(self, prompt: int | None) -> bool:
        """Whether `prompt` is a number, or a lack of one, that the model can be shown."""
        prompts = self.model.config.prompt
        if prompts is None or prompt is None:
            return prompts is None and prompt is None
        return 0 <= prompt < prompts.num_prompts

    @torch.inference_mode()
    def initial_state(self, streams: int) -> DecoderState:
        """What the head remembers before streams begin."""
        if self.head == "ctc":
            return ctc.initial_state(streams, self.model.blank_id)
        assert self.transducer is not None
        like = torch.empty(streams, 0, 0, device=self.device, dtype=self._dtype)
        return transducer.initial_state(self.transducer, like)

    @torch.inference_mode()
    def decode(
        self,
        encodings: torch.Tensor,
        steps: torch.Tensor,
        decode: Greedy = Greedy(),
        *,
        state: DecoderState | None = None,
    ) -> tuple[list[Hypothesis], DecoderState]:
        """Decode clips, or the next chunks of streams, with the engine's head.

        Args:
            encodings: [B, T, D].
            steps: [B], those that count in each row.
            decode: How to search.
            state: What the call for the chunks before returned; None begins.
        """
        if self.head == "ctc":
            assert self.model.ctc is not None
            assert state is None or isinstance(state, ctc.CTCState)
            return ctc.greedy(self.model.ctc(encodings), steps, measure=decode.measure, state=state)
        assert self.transducer is not None
        assert state is None or isinstance(state, transducer.TransducerState)
        networks = self.transducer
        if decode.max_symbols is not None:
            networks = replace(networks, max_symbols=decode.max_symbols)
        return transducer.greedy(networks, encodings, steps, measure=decode.measure, state=state)

    def _transcript(
        self, hypothesis: Hypothesis, duration: float, lead: int, options: EngineOptions
    ) -> Transcript:
        text, language = decode_text(hypothesis.ids, self.tokenizer)
        if not options.timestamps:
            return Transcript(text, language=language, duration=duration, model=self.name)
        tokens, words, segments = tokens_words_segments(
            hypothesis,
            self.tokenizer,
            self.model.seconds_per_step,
            style="nemo" if options.timestamps == "nemo" else "auricle",
            lead=lead / self.sample_rate,
            duration=duration,
        )
        return Transcript(text, segments, words, tokens, language, duration, self.name)


def _without_frame_padding(checkpoint: Checkpoint) -> Checkpoint:
    """NeMo's `transcribe()` sets `pad_to` to 0 whatever the checkpoint says, and so do we."""
    config = checkpoint.config
    return replace(checkpoint, config=replace(config, features=replace(config.features, pad_to=0)))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, but PyTorch sees no CUDA device")
    return device


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if precision not in _DTYPES:
        raise ConfigError(f"unknown precision {precision!r}: use auto, {', '.join(_DTYPES)}")
    return _DTYPES[precision]


def _head(model: ASR, head: str | None, name: str) -> str:
    if head is None:
        return model.config.default_head
    if head not in model.heads:
        raise ConfigError(f"{name} has no head {head!r}; it has {', '.join(model.heads)}")
    return head


def _pad(
    clips: Sequence[npt.NDArray[np.float32]], leads: Sequence[int], minimum: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack clips into [B, S] with zeros behind, each after `leads` zeros; lengths [B]."""
    lengths = [max(len(clip), minimum) for clip in clips]
    samples = np.zeros((len(clips), max(lengths)), dtype=np.float32)
    for row, clip, lead in zip(samples, clips, leads, strict=True):
        row[lead : lead + len(clip)] = clip
    return torch.from_numpy(samples), torch.tensor(lengths)
