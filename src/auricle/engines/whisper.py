"""The Whisper engine: any size, CTranslate2 or Hugging Face folders.

Checks what is asked, chooses the library that runs the folder, and spreads a batch over its
workers. CTranslate2 runs both kinds of folder (a Hugging Face one is converted once, into the
cache); transformers is the second choice, for machines that have it and not CTranslate2.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auricle.checkpoints import whisper as checkpoints
from auricle.decoding import Greedy
from auricle.engines import EngineOptions, whisper_ctranslate2, whisper_transformers
from auricle.engines.whisper_facts import SAMPLE_RATE, language_code
from auricle.errors import CheckpointError, ConfigError, MissingExtra
from auricle.types import Transcript

_PRECISIONS = {
    "auto": "auto",
    "int8": "int8",
    "fp32": "float32",
    "float32": "float32",
    "fp16": "float16",
    "float16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
}


class _Runner(Protocol):
    """A library that runs one Whisper model; safe to call from many threads."""

    workers: int
    multilingual: bool
    languages: tuple[str, ...]

    def transcribe(
        self, clip: NDArray[np.float32], language: str | None, task: str, words: bool
    ) -> Transcript: ...

    def languages_of(self, clip: NDArray[np.float32]) -> dict[str, float]: ...


class WhisperEngine:
    """Transcribes and translates with one Whisper model.

    `Greedy()` means beam 1 at temperature 0, never sampling; a window whose text loops is decoded
    once more with beam 5. Past 30 s windows do not prompt each other. No voice activity detector.
    """

    heads: tuple[str, ...] = ("whisper",)
    sample_rate = SAMPLE_RATE
    batch_seconds = 600.0
    any_length = True

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        precision: str = "auto",
        *,
        name: str | None = None,
    ) -> None:
        """Load the model in `folder`.

        Raises:
            CheckpointError: Not a Whisper folder, or a damaged one.
            ConfigError: A device or precision that is unknown or not to be had here.
            MissingExtra: Neither CTranslate2 nor transformers is installed.
        """
        self.name = name or folder.name
        if precision not in _PRECISIONS:
            raise ConfigError(f"unknown precision {precision!r}; use one of {sorted(_PRECISIONS)}")
        self._runner = _open(folder, self.name, device, _PRECISIONS[precision])

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model understands."""
        return self._runner.languages

    def transcribe(
        self, clips: Sequence[NDArray[np.float32]], options: EngineOptions
    ) -> list[Transcript]:
        """One transcript per clip [S], 16 kHz float32 mono, of any length.

        Tokens have their word's times and confidence (the segment's times where word times were
        not asked for). `Transcript.language` is that of the speech, also when translating.

        Raises:
            ConfigError: A language, task or decoding that this model does not have.
        """
        language, task = self._checked(options)
        words = bool(options.timestamps)

        def one(clip: NDArray[np.float32]) -> Transcript:
            if not len(clip):
                return Transcript("", language=language, model=self.name)
            return self._runner.transcribe(clip, language, task, words)

        if len(clips) < 2 or self._runner.workers == 1:
            return [one(clip) for clip in clips]
        with ThreadPoolExecutor(self._runner.workers, "whisper") as pool:
            return list(pool.map(one, clips))

    def languages_of(self, clip: NDArray[np.float32]) -> dict[str, float]:
        """How likely each language is in the first 30 s of a clip [S], by code; they sum to 1.

        Raises:
            ConfigError: The model knows English only.
        """
        if not self._runner.multilingual:
            raise ConfigError(
                f"{self.name} understands English only and cannot tell languages; "
                "use a multilingual Whisper"
            )
        return self._runner.languages_of(clip)

    def _checked(self, options: EngineOptions) -> tuple[str | None, str]:
        if not isinstance(options.decode, Greedy):
            raise ConfigError(f"Whisper decodes with Greedy(), not {options.decode!r}")
        if options.task == "translate" and not self._runner.multilingual:
            raise ConfigError(
                f"{self.name} understands English only and cannot translate; "
                "use a multilingual Whisper"
            )
        if options.language is None:
            return (None if self._runner.multilingual else "en"), options.task
        return language_code(options.language, self.languages, self.name), options.task


def _open(folder: Path, name: str, device: str, precision: str) -> _Runner:
    kind = checkpoints.folder_kind(folder)
    if kind is None:
        raise CheckpointError(
            f"{folder} holds no Whisper, neither in CTranslate2 nor in Hugging Face form"
        )
    if whisper_ctranslate2.installed():
        if kind == "huggingface":
            folder = checkpoints.cached_ctranslate2(folder)
        else:
            try:
                checkpoints.check_ctranslate2(folder)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{folder} is not a readable Whisper model: {error}"
                ) from None
        return whisper_ctranslate2.CTranslate2Whisper(folder, name, device, precision)
    if kind == "huggingface" and whisper_transformers.installed():
        checkpoints.check_huggingface(folder)
        return whisper_transformers.TransformersWhisper(folder, name, device, precision)
    raise MissingExtra("Whisper needs the extra 'whisper': pip install auricle[whisper]")
