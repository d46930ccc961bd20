"""Whisper on transformers, for Hugging Face folders on machines without CTranslate2.

Slower than CTranslate2 and one clip at a time: `generate` keeps state in the model, so a lock
guards it. Transformers gives the end of every token; words and their starts are made here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auricle.checkpoints.whisper_model import quiet
from auricle.decoding.confidence import least, mean
from auricle.engines.whisper_facts import (
    HOP,
    LANGUAGES,
    SAMPLE_RATE,
    SPACELESS,
    WINDOW,
)
from auricle.errors import CheckpointError, ConfigError, first_line
from auricle.text import is_punctuation
from auricle.types import Segment, Token, Transcript, Word


def installed() -> bool:
    """Whether the package of the extra `whisper-hf` is there (looked up, not imported)."""
    return find_spec("transformers") is not None


class TransformersWhisper:
    """A Whisper folder in Hugging Face form, ready to transcribe from any thread."""

    workers = 1

    def __init__(self, folder: Path, name: str, device: str, precision: str) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self.name = name
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if precision == "auto":
            precision = "float16" if device.startswith("cuda") else "float32"
        if precision == "int8":
            raise ConfigError("transformers runs Whisper in floating point; use precision 'auto'")
        try:
            with quiet():
                self._processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
                model = WhisperForConditionalGeneration.from_pretrained(
                    folder,
                    local_files_only=True,
                    dtype=getattr(torch, precision),
                    attn_implementation="eager",  # word times read the attention
                )
        except Exception as error:  # whatever a damaged folder makes transformers raise
            raise CheckpointError(
                f"{folder} is not a readable Whisper model ({first_line(error)}); copy it anew"
            ) from None
        try:
            self._model = model.to(device).eval()
        except RuntimeError as error:
            raise ConfigError(f"device {device!r} cannot be used: {error}") from error
        self._lock = threading.Lock()
        self._tokenizer = self._processor.tokenizer
        settings = self._model.generation_config
        self.multilingual: bool = bool(getattr(settings, "is_multilingual", False))
        self.languages: tuple[str, ...] = ("en",)
        if self.multilingual:
            self.languages = tuple(c for c in LANGUAGES if f"<|{c}|>" in settings.lang_to_id)

    def transcribe(
        self, clip: NDArray[np.float32], language: str | None, task: str, words: bool
    ) -> Transcript:
        """One clip [S] of any length; `language` None is detected in the first 30 s."""
        import torch

        long = len(clip) > WINDOW * HOP
        inputs = self._processor.feature_extractor(
            clip,
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
            truncation=False,
            padding="longest" if long else "max_length",
        )
        features = inputs.input_features.to(self._model.device, self._model.dtype)  # [1, M, T]
        with self._lock, torch.inference_mode(), quiet():
            if language is None:
                (found,) = self._model.detect_language(features[:, :, :WINDOW])
                language = self._tokenizer.convert_ids_to_tokens(int(found)).strip("<|>")
            spoken = {"language": language, "task": task} if self.multilingual else {}
            output = self._model.generate(
                features,
                attention_mask=inputs.attention_mask.to(self._model.device),
                return_timestamps=True,
                return_segments=True,
                return_dict_in_generate=True,
                output_scores=True,
                return_token_timestamps=words,
                num_beams=1,
                do_sample=False,
                temperature=0.0,
                condition_on_prev_tokens=False,
                logprob_threshold=-1.0,
                no_speech_threshold=0.6,
                **spoken,
            )
        return self._transcript(output["segments"][0], language, len(clip) / SAMPLE_RATE)

    def languages_of(self, clip: NDArray[np.float32]) -> dict[str, float]:
        """The probability of each language in the first 30 s of a clip [S]."""
        import torch

        inputs = self._processor.feature_extractor(
            clip[: WINDOW * HOP], sampling_rate=SAMPLE_RATE, return_tensors="pt"
        )
        features = inputs.input_features.to(self._model.device, self._model.dtype)  # [1, M, T]
        settings = self._model.generation_config
        begin = torch.full((1, 1), settings.decoder_start_token_id, device=self._model.device)
        with self._lock, torch.inference_mode(), quiet():
            logits = self._model(features, decoder_input_ids=begin).logits[0, -1].float()  # [V]
        of_languages = logits[[settings.lang_to_id[f"<|{code}|>"] for code in self.languages]]
        found = of_languages.softmax(dim=-1).tolist()
        return dict(zip(self.languages, found, strict=True))

    def _transcript(self, found: list[Any], language: str, duration: float) -> Transcript:
        segments, tokens = [], []
        for raw in found:
            segment, of_segment = self._segment(raw, language, duration)
            if segment.text:
                segments.append(segment)
                tokens += of_segment
        return Transcript(
            text=self._tokenizer.decode([token.id for token in tokens]).strip(),
            segments=tuple(segments),
            words=tuple(word for segment in segments for word in segment.words),
            tokens=tuple(tokens),
            language=language,
            duration=duration,
            model=self.name,
        )

    def _segment(self, raw: Any, language: str, duration: float) -> tuple[Segment, list[Token]]:
        start, end = (round(min(float(raw[key]), duration), 3) for key in ("start", "end"))
        ids = [int(id) for id in raw["tokens"]]
        is_text = np.array(ids) < self._tokenizer.convert_tokens_to_ids("<|endoftext|>")
        spans = [(start, end)] * len(ids)
        times = raw.get("token_timestamps")
        if times is not None:
            ends = [round(min(float(t), duration), 3) for t in times]
            spans = list(pairwise([start if is_text[0] else ends[0], *ends]))
        columns = zip(ids, spans, _probabilities(raw), is_text, strict=True)
        tokens = [
            Token(id, self._spelled(id), *span, probability)
            for id, span, probability, text in columns
            if text
        ]
        words = () if times is None else tuple(self._words(tokens, language))
        text = self._tokenizer.decode([token.id for token in tokens]).strip()
        if words:
            start, end = words[0].start, words[-1].end
        return Segment(text, start, end, words, mean(w.confidence for w in words)), tokens

    def _words(self, tokens: Sequence[Token], language: str) -> Iterator[Word]:
        """Punctuation joins the word before it and does not stretch it."""
        for group in self._grouped(tokens, language):
            spoken = [t for t in group if not is_punctuation(self._decode([t]))] or group
            text = self._decode(group)
            if text:
                yield Word(
                    text, spoken[0].start, spoken[-1].end, least(t.confidence for t in group)
                )

    def _grouped(self, tokens: Sequence[Token], language: str) -> Iterator[list[Token]]:
        """Runs of tokens that spell a word: up to the next space, or one character without."""
        group: list[Token] = []
        for token in tokens:
            new = token.text.startswith(" ")
            if language in SPACELESS and group:
                whole = not self._decode(group).endswith("\ufffd")
                new |= whole and not is_punctuation(self._decode([token]))
            if new and group:
                yield group
                group = []
            group.append(token)
        if group:
            yield group

    def _spelled(self, id: int) -> str:
        """A token's text with the space before it; part of a character is U+FFFD."""
        return str(self._tokenizer.decode([id], clean_up_tokenization_spaces=False))

    def _decode(self, tokens: Sequence[Token]) -> str:
        return str(self._tokenizer.decode([token.id for token in tokens])).strip()


def _probabilities(raw: Any) -> list[float]:
    """The probability of each of a segment's tokens, from the scores of its window's decoding."""
    import torch

    result = raw["result"]
    first, last = raw["idxs"]
    prompt = len(result["sequences"]) - len(result["scores"])
    scores = torch.stack(result["scores"][first - prompt : last - prompt]).float()  # [U, V]
    chosen = result["sequences"][first:last, None]  # [U, 1]
    found = scores.softmax(dim=-1).gather(1, chosen)  # [U, V] -> [U, 1]
    return [round(float(p), 4) for p in found]
