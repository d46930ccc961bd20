"""Whisper on CTranslate2, by faster-whisper's loop over 30-second windows.

Knows the two libraries and how their results become ours; languages and tasks arrive checked.
Nothing here samples at random: a window whose text loops is decoded again by beam search, so a
text depends on its audio alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auricle.decoding.confidence import mean
from auricle.engines.whisper_facts import HOP, LANGUAGES, SAMPLE_RATE, WINDOW
from auricle.errors import ConfigError
from auricle.tokenizers import panics_refused
from auricle.types import Segment, Token, Transcript, Word

_MIN_ALIGNED = 50  # frames below which there is nothing to align in
_MAX_COMPRESSION = 2.4  # Whisper's own threshold for text that loops
_PREPENDED = "\"'“¿([{-"  # Whisper's punctuation that joins the word after it, and before it
_APPENDED = "\"'.。,，!！?？:：”)]}、"

_COMPUTE_TYPES = {
    ("auto", "cpu"): "int8",
    ("auto", "cuda"): "float16",
    ("int8", "cpu"): "int8",
    ("int8", "cuda"): "int8_float16",
}


def installed() -> bool:
    """Whether the packages of the extra `whisper` are there (looked up, not imported)."""
    return find_spec("ctranslate2") is not None and find_spec("faster_whisper") is not None


@dataclass
class _Window:
    """What was heard from one position: frames [start, stop), all text that begins there.

    Frames are the unit of a faster-whisper segment's `seek`.
    """

    start: int
    segments: list[Any]
    encoding: Any
    stop: int = 0

    @property
    def loops(self) -> bool:
        """Whether the text repeats itself; the figure is the window's, in each segment."""
        return bool(self.segments[0].compression_ratio > _MAX_COMPRESSION)


class CTranslate2Whisper:
    """A Whisper folder in CTranslate2 form, ready to transcribe from any thread."""

    def __init__(self, folder: Path, name: str, device: str, precision: str) -> None:
        from faster_whisper import WhisperModel

        self.name = name
        kind, index = _device(device)
        compute_type = _compute_type(kind, precision)
        threads, self.workers = _threads() if kind == "cpu" else (0, 1)
        with panics_refused(f"{folder} is not a readable Whisper model; copy or convert it anew"):
            self._model = WhisperModel(
                str(folder),
                device=kind,
                device_index=index,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=self.workers,
                local_files_only=True,
            )
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
            "language": language,
            "task": task,
            "beam_size": 1,
            "temperature": 0.0,
            # A window's text prompts the next only within 30 s, where the next is the rest of an
            # unfinished one. Further on, that is how one window's mistake spreads.
            "condition_on_previous_text": len(clip) <= WINDOW * HOP,
        }
        windows, language = self._decode(clip, options, words)
        rescue = {**options, "language": language, "beam_size": 5, "no_repeat_ngram_size": 5}
        found: list[Any] = []
        for window in windows:
            found += self._rescued(clip, window, rescue, words) if window.loops else window.segments
        duration = len(clip) / SAMPLE_RATE
        segments, tokens = [], []
        for raw in found:
            segment, of_segment = self._segment(raw, duration)
            segments.append(segment)
            tokens += of_segment
        return Transcript(
            text="".join(raw.text for raw in found).strip(),
            segments=tuple(segments),
            words=tuple(word for segment in segments for word in segment.words),
            tokens=tuple(tokens),
            language=language,
            duration=duration,
            model=self.name,
        )

    def languages_of(self, clip: NDArray[np.float32]) -> dict[str, float]:
        """The probability of each language in the first 30 s of a clip [S].

        A short clip has silence behind it, as in OpenAI's code; faster-whisper's own detection
        puts zeros behind its features instead.
        """
        window = np.zeros(WINDOW * HOP, np.float32)
        window[: len(clip)] = clip[: len(window)]
        _, _, found = self._model.detect_language(window)
        return {code: float(p) for code, p in found}

    def _decode(
        self, clip: NDArray[np.float32], options: dict[str, Any], words: bool
    ) -> tuple[list[_Window], str]:
        """The windows in which faster-whisper found text, and the language.

        Word times are made after the text, from the same encodings: asked for word times,
        faster-whisper itself resumes after the last word, and the text gets worse (WER 5.18
        instead of 5.05 % on the benchmark's set).
        """
        from faster_whisper.tokenizer import Tokenizer

        model = copy(self._model)  # this call's own, so that its `encode` may remember
        latest: list[Any] = [None]

        def encode(features: Any) -> Any:
            latest[0] = self._model.encode(features)
            return latest[0]

        model.encode = encode
        found, info = model.transcribe(clip, **options)
        tokenizer = Tokenizer(
            self._tokenizer, self.multilingual, task=options["task"], language=info.language
        )
        windows: list[_Window] = []
        for segment in found:
            if not windows or windows[-1].start != segment.seek:
                if windows:
                    self._close(windows, segment.seek, tokenizer, words)
                windows.append(_Window(segment.seek, [], latest[0]))
            windows[-1].segments.append(segment)
        if windows:
            self._close(windows, len(clip) // HOP, tokenizer, words)
        return windows, str(info.language)

    def _close(self, windows: Sequence[_Window], stop: int, tokenizer: Any, words: bool) -> None:
        """Note where the last window's text ends, and find its words there."""
        window = windows[-1]
        window.stop = stop
        if words:
            timed = [vars(segment).copy() for segment in window.segments]
            frames = min(max(stop - window.start, _MIN_ALIGNED), WINDOW)
            spoken = windows[-2].segments[-1].end if len(windows) > 1 else 0.0
            self._model.add_word_timestamps(
                [timed], tokenizer, window.encoding, frames, _PREPENDED, _APPENDED, spoken
            )
            for segment, times in zip(window.segments, timed, strict=True):
                segment.words = [SimpleNamespace(**word) for word in times["words"]]
                segment.start, segment.end = times["start"], times["end"]
        window.encoding = None  # megabytes that nothing needs any more

    def _rescued(
        self, clip: NDArray[np.float32], window: _Window, rescue: dict[str, Any], words: bool
    ) -> list[Any]:
        """A looping window's segments, or those of a second decoding if they are better."""
        piece = clip[window.start * HOP : window.stop * HOP]
        again = [s for w in self._decode(piece, rescue, words)[0] for s in w.segments]
        if _badness(window.segments) <= _badness(again):
            return window.segments
        for timed in [*again, *(word for segment in again for word in segment.words or ())]:
            timed.start += window.start * HOP / SAMPLE_RATE
            timed.end += window.start * HOP / SAMPLE_RATE
        return again

    def _segment(self, raw: Any, duration: float) -> tuple[Segment, list[Token]]:
        """A faster-whisper segment as ours; padding may not carry a time past the clip's end."""

        def seconds(value: float) -> float:
            return round(min(max(float(value), 0.0), duration), 3)

        words = tuple(
            Word(w.word.strip(), seconds(w.start), seconds(w.end), round(float(w.probability), 4))
            for w in raw.words or ()
        )
        start, end = seconds(raw.start), seconds(raw.end)
        sure = mean(word.confidence for word in words)
        segment = Segment(raw.text.strip(), start, end, words, sure)
        ids = [id for id in raw.tokens if id < self._end_of_text]
        pieces = [self._tokenizer.id_to_token(id) for id in ids]
        owners = _owners(pieces, [w.word for w in raw.words or ()])
        spans = [words[owner] if words else segment for owner in owners]
        tokens = [
            Token(id, self._tokenizer.decode([id]), s.start, s.end, s.confidence if words else None)
            for id, s in zip(ids, spans, strict=True)
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


def _badness(segments: Sequence[Any]) -> tuple[bool, float]:
    """Loops are worse than anything, silence included; then the likelier text is better."""
    loops = any(segment.compression_ratio > _MAX_COMPRESSION for segment in segments)
    return loops, -float(np.mean([segment.avg_logprob for segment in segments] or [0.0]))


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
