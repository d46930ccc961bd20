"""Whisper on CTranslate2, by faster-whisper's loop over 30-second windows.

Knows the two libraries and how their results become ours; languages and tasks arrive checked.
Nothing here samples at random: a window that loops or is unlikely is decoded again by beam search,
so a text depends on its audio alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auricle.engines.whisper_languages import LANGUAGES
from auricle.errors import CheckpointError, ConfigError
from auricle.types import Segment, Token, Transcript, Word

SAMPLE_RATE = 16000
_HOP = 160  # samples per feature frame, the unit of a faster-whisper segment's `seek`
_MAX_COMPRESSION = 2.4  # Whisper's own thresholds for a failed window
_MIN_LOGPROB = -1.0

_COMPUTE_TYPES = {
    ("auto", "cpu"): "int8",
    ("auto", "cuda"): "float16",
    ("int8", "cpu"): "int8",
    ("int8", "cuda"): "int8_float16",
}


def installed() -> bool:
    """Whether the packages of the extra `whisper` are there (looked up, not imported)."""
    return find_spec("ctranslate2") is not None and find_spec("faster_whisper") is not None


class CTranslate2Whisper:
    """A Whisper folder in CTranslate2 form, ready to transcribe from any thread."""

    def __init__(self, folder: Path, name: str, device: str, precision: str) -> None:
        from faster_whisper import WhisperModel

        # Without this file faster-whisper would fetch another tokenizer from the hub.
        if not (folder / "tokenizer.json").is_file():
            raise CheckpointError(
                f"{folder} has no tokenizer.json; copy the one of the original Whisper model there"
            )
        self.name = name
        kind, index = _device(device)
        compute_type = _compute_type(kind, precision)
        threads, self.workers = _threads() if kind == "cpu" else (0, 1)
        try:
            self._model = WhisperModel(
                str(folder),
                device=kind,
                device_index=index,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=self.workers,
                local_files_only=True,
            )
        except Exception as error:  # the library raises RuntimeError, ValueError and bare Exception
            raise CheckpointError(f"{folder} is not a readable Whisper model: {error}") from error
        self._tokenizer = self._model.hf_tokenizer
        self.multilingual: bool = self._model.model.is_multilingual
        self.languages: tuple[str, ...] = ("en",)
        if self.multilingual:
            known = self._tokenizer.token_to_id
            self.languages = tuple(c for c in LANGUAGES if known(f"<|{c}|>") is not None)

    def transcribe(
        self, clip: NDArray[np.float32], language: str | None, task: str, words: bool
    ) -> Transcript:
        """One clip [S] of any length; `language` None is detected in the first 30 s."""
        options = {
            "task": task,
            "word_timestamps": words,
            # One window's mistake must not prompt the next: that is how loops spread.
            "condition_on_previous_text": False,
            "log_prob_threshold": _MIN_LOGPROB,
            "temperature": 0.0,
        }
        found, info = self._model.transcribe(clip, language=language, beam_size=1, **options)
        rescue = {**options, "language": info.language, "beam_size": 5, "no_repeat_ngram_size": 5}
        found = self._again_where_failed(clip, list(found), rescue)
        duration = len(clip) / SAMPLE_RATE
        segments, tokens = [], []
        for raw in found:
            segment, of_segment = self._translate(raw, duration)
            segments.append(segment)
            tokens += of_segment
        return Transcript(
            text="".join(raw.text for raw in found).strip(),
            segments=tuple(segments),
            words=tuple(word for segment in segments for word in segment.words),
            tokens=tuple(tokens),
            language=info.language,
            duration=duration,
            model=self.name,
        )

    def _again_where_failed(
        self, clip: NDArray[np.float32], found: list[Any], rescue: dict[str, Any]
    ) -> list[Any]:
        """Decode looping or unlikely windows once more, and keep the better of the two."""
        windows = [(seek, list(group)) for seek, group in groupby(found, lambda s: s.seek)]
        starts = [seek * _HOP for seek, _ in windows] + [len(clip)]
        kept: list[Any] = []
        for number, (_, window) in enumerate(windows):
            if not _failed(window[0]):
                kept += window
                continue
            piece = clip[starts[number] : starts[number + 1]]
            other = list(self._model.transcribe(piece, **rescue)[0])
            for segment in other:
                _shift(segment, starts[number] / SAMPLE_RATE)
            kept += window if _badness(window) <= _badness(other) else other
        return kept

    def _translate(self, raw: Any, duration: float) -> tuple[Segment, list[Token]]:
        """A faster-whisper segment as ours; padding may not carry a time past the clip's end."""

        def seconds(value: float) -> float:
            return round(min(max(float(value), 0.0), duration), 3)

        words = tuple(
            Word(w.word.strip(), seconds(w.start), seconds(w.end), round(float(w.probability), 4))
            for w in raw.words or ()
        )
        start, end = seconds(raw.start), seconds(raw.end)
        confidence = min((w.confidence for w in words if w.confidence is not None), default=None)
        segment = Segment(raw.text.strip(), start, end, words, confidence)
        ids = [id for id in raw.tokens if id < self._end_of_text]
        pieces = [self._tokenizer.id_to_token(id) for id in ids]
        owners = _owners(pieces, [w.word for w in raw.words or ()])
        spans = [words[owner] if words else segment for owner in owners]
        tokens = [
            Token(id, piece, span.start, span.end, span.confidence if words else None)
            for id, piece, span in zip(ids, pieces, spans, strict=True)
        ]
        return segment, tokens

    @property
    def _end_of_text(self) -> int:
        """The first special id; everything below it is text."""
        return int(self._tokenizer.token_to_id("<|endoftext|>"))


def _owners(pieces: Sequence[str], words: Sequence[str]) -> list[int]:
    """The word that each token begins in (0 where there are no words).

    Byte-level pieces spell one byte a character, so bytes line the two up.
    """
    starts = np.cumsum([0, *(len(piece) for piece in pieces)])[:-1]
    ends = np.cumsum([len(word.encode("utf-8")) for word in words])
    owners = np.searchsorted(ends, starts, side="right")
    return [int(owner) for owner in np.clip(owners, 0, max(len(words) - 1, 0))]


def _failed(segment: Any) -> bool:
    return bool(segment.compression_ratio > _MAX_COMPRESSION or segment.avg_logprob < _MIN_LOGPROB)


def _badness(window: Sequence[Any]) -> tuple[bool, float]:
    """Loops are worse than anything; then the likelier text is better. Silence is neutral."""
    if not window:
        return False, -_MIN_LOGPROB
    loops = any(segment.compression_ratio > _MAX_COMPRESSION for segment in window)
    return loops, -float(np.mean([segment.avg_logprob for segment in window]))


def _shift(segment: Any, seconds: float) -> None:
    for timed in (segment, *(segment.words or ())):
        timed.start += seconds
        timed.end += seconds


def _device(device: str) -> tuple[str, int]:
    import ctranslate2

    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ConfigError(f"Whisper runs on 'cpu' or 'cuda' (or 'cuda:1'), not on {device!r}")
    if kind == "cuda" and not ctranslate2.get_cuda_device_count():
        raise ConfigError(f"device {device!r} asked for, but CTranslate2 sees no CUDA device")
    return kind, int(index or 0)


def _compute_type(device: str, precision: str) -> str:
    import ctranslate2

    compute_type = _COMPUTE_TYPES.get((precision, device), precision)
    if compute_type not in ctranslate2.get_supported_compute_types(device):
        raise ConfigError(
            f"CTranslate2 cannot run in precision {precision!r} on this {device}; use 'auto'"
        )
    return compute_type


def _threads() -> tuple[int, int]:
    """(threads per clip, clips at once).

    Two clips side by side beat both one clip on two threads and a batch of clips (30 against 19
    and 23 times real time on two cores, tiny.en), and clips that wait for Python leave cores idle:
    hence twice as many threads as cores in all.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(asked) if asked.isdigit() and int(asked) > 0 else min(4, cores)
    return threads, max(1, min(8, cores, 2 * cores // threads))
