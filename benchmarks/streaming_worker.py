"""Streams of one engine in one process, asked by `streaming.py`; a JSON line an answer.

    python benchmarks/streaming_worker.py auricle|nemo MODEL CLIPS.npz CORE

A line on standard input is {"do": "open" | "step" | "finish" | "memory", ...}, see `Worker`.
Imports nothing but its engine.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from speed_worker import answer, memory, open_answers

RATE, FRAME, FACTOR = 16000, 160, 8
STEP_SECONDS = FRAME * FACTOR / RATE
LEFT = 70  # encoder steps that a layer remembers
WARM = 150  # encoder steps until all layers' memories are full and tokens come at a steady rate
APART = 77777  # samples by which each stream's audio begins later than the one before

Tokens = list[tuple[int, int]]  # encoder step and id


class Session(Protocol):
    """Some streams that go on together, a chunk at a time."""

    steps: int  # chunks that each stream has had

    def begin(self) -> None:
        """Open the streams; audio was prepared before."""

    def step(self) -> float:
        """One chunk of each stream to text; gives the seconds it took."""

    def finish(self) -> list[Tokens]:
        """What each stream has said in the chunks that it was given."""


class AuricleSession:
    """Samples are pushed and the pool steps, as a server does it: mel spectra and events are in."""

    def __init__(self, asr: Any, lookahead: int, audio: Any) -> None:
        self.asr, self.lookahead, self.audio = asr, lookahead, audio
        self.chunk, self.steps = _chunk(lookahead), 0

    def begin(self) -> None:
        """Open the streams."""
        self.pool = self.asr.streams(max_delay_ms=0)
        self.streams = [self.pool.open(lookahead=self.lookahead) for _ in self.audio]

    def step(self) -> float:
        """Seconds from samples to events."""
        chunks = self.audio[:, self.steps * self.chunk : (self.steps + 1) * self.chunk]
        begun = time.perf_counter()
        for stream, samples in zip(self.streams, chunks, strict=True):
            stream.push(samples)
        self.pool.step()
        self.steps += 1
        return time.perf_counter() - begun

    def finish(self) -> list[Tokens]:
        """The tokens of each stream, without those that flushing adds."""
        heard = self.steps * (self.lookahead + 1)
        spoken = [
            [(round(token.start / STEP_SECONDS), token.id) for token in stream.finish().tokens]
            for stream in self.streams
        ]
        return [[(step, id) for step, id in tokens if step < heard] for tokens in spoken]


class NemoSession:
    """NeMo's streaming script, with its mel spectra computed beforehand and not counted."""

    def __init__(self, asr: Any, lookahead: int, audio: Any) -> None:
        from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer

        self.asr, self.batch, self.steps = asr, len(audio), 0
        asr.encoder.set_default_att_context_size([LEFT, lookahead])
        self.buffer = CacheAwareStreamingAudioBuffer(asr, online_normalization=False)
        for clip in audio:
            self.buffer.append_audio(clip, stream_id=-1)
        self.chunks = iter(self.buffer)

    def begin(self) -> None:
        """Open the streams."""
        self.caches = self.asr.encoder.get_initial_cache_state(batch_size=self.batch)
        self.hypotheses = None

    def step(self) -> float:
        """Seconds from mel spectra to hypotheses."""
        import torch

        features, lengths = next(self.chunks)
        channel, times, channel_lengths = self.caches
        dropped = self.asr.encoder.streaming_cfg.drop_extra_pre_encoded if self.steps else 0
        begun = time.perf_counter()
        with torch.inference_mode():
            _, _, *self.caches, self.hypotheses = self.asr.conformer_stream_step(
                processed_signal=features,
                processed_signal_length=lengths,
                cache_last_channel=channel,
                cache_last_time=times,
                cache_last_channel_len=channel_lengths,
                keep_all_outputs=False,
                previous_hypotheses=self.hypotheses,
                drop_extra_pre_encoded=dropped,
            )
        self.steps += 1
        return time.perf_counter() - begun

    def finish(self) -> list[Tokens]:
        """The tokens of each stream."""
        assert self.hypotheses is not None
        pairs = [zip(h.timestamp, h.y_sequence, strict=True) for h in self.hypotheses]
        return [[(int(step), int(id)) for step, id in stream] for stream in pairs]


class Worker:
    """Answers questions about streams over the same audio."""

    def __init__(self, session: Callable[[int, Any], Session], clips: Any) -> None:
        self._new, self._clips = session, clips
        self._open: Session

    def open(self, lookahead: int, batch: int, steps: int) -> dict[str, Any]:
        """Open `batch` streams, to be stepped up to `steps` times after they are warm."""
        self._lookahead = lookahead
        self._open = self._prepared(lookahead, batch, steps)
        self._warm_up(self._open, lookahead)
        return {}

    def step(self, count: int) -> dict[str, Any]:
        """Milliseconds of each of the next steps."""
        return {"ms": [1000 * self._open.step() for _ in range(count)]}

    def finish(self) -> dict[str, Any]:
        """What each stream has said, and how many tokens a second while it was timed."""
        first, steps = _warm_steps(self._lookahead), self._open.steps
        tokens = self._open.finish()
        del self._open
        gc.collect()
        size = self._lookahead + 1
        timed = sum(step >= first * size for stream in tokens for step, _ in stream)
        seconds = (steps - first) * size * STEP_SECONDS
        return {"tokens": tokens, "rate": timed / len(tokens) / seconds}

    def memory(self, lookahead: int, streams: int, batch: int) -> dict[str, Any]:
        """Megabytes that stay for each of `streams` more streams, stepped `batch` at a time."""
        sessions = [self._prepared(lookahead, batch, 0) for _ in range(streams // batch + 1)]
        self._warm_up(sessions[0], lookahead)  # brings what does not grow with the streams
        before = _live()
        for session in sessions[1:]:
            self._warm_up(session, lookahead)
        return {"megabytes": 1000 * (_live() - before) / (len(sessions) - 1) / batch}

    def _prepared(self, lookahead: int, batch: int, steps: int) -> Session:
        import numpy as np

        samples = (_warm_steps(lookahead) + steps) * _chunk(lookahead) + RATE
        starts = APART * np.arange(batch)[:, None]
        at = (starts + np.arange(samples)) % len(self._clips)
        return self._new(lookahead, self._clips[at])

    def _warm_up(self, session: Session, lookahead: int) -> None:
        session.begin()
        for _ in range(_warm_steps(lookahead)):
            session.step()


def main() -> None:
    engine, model, clips_file, core = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    answers = open_answers()
    import numpy as np

    with np.load(clips_file) as archive:
        clips = np.concatenate([archive[name] for name in archive.files])
    begun = time.perf_counter()
    session, version = ENGINES[engine](Path(model))
    worker = Worker(session, clips)
    answer(answers, seconds=time.perf_counter() - begun, version=version)
    for line in sys.stdin:
        question = json.loads(line)
        action = getattr(worker, question.pop("do"))
        answer(answers, **action(**question))


def auricle_engine(model: Path) -> tuple[Callable[[int, Any], Session], str]:
    import torch

    import auricle

    torch.set_num_threads(1)
    asr = auricle.load(model, precision="fp32")
    return lambda lookahead, audio: AuricleSession(asr, lookahead, audio), auricle.__version__


def nemo_engine(model: Path) -> tuple[Callable[[int, Any], Session], str]:
    import nemo
    import torch
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(nemo_logging.ERROR)
    torch.set_num_threads(1)
    asr = ASRModel.restore_from(str(model), map_location="cpu").eval()
    assert asr.cfg.decoding.strategy == "greedy_batch"
    return lambda lookahead, audio: NemoSession(asr, lookahead, audio), nemo.__version__


ENGINES = {"auricle": auricle_engine, "nemo": nemo_engine}


def _live() -> float:
    """Resident memory in GB, after what is free has been given back."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    return memory("VmRSS")


def _chunk(lookahead: int) -> int:
    """Samples of one step."""
    return FRAME * FACTOR * (lookahead + 1)


def _warm_steps(lookahead: int) -> int:
    """Chunks until streams are warm."""
    return -(-WARM // (lookahead + 1))


if __name__ == "__main__":
    main()
