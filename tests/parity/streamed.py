"""A checkpoint's streams, and how much of NeMo's streams must equal them.

NeMo's streams are not quite its own offline forward, see `tests/models/nemo_grid.py`: where zeros
stand before the second chunk none of it is comparable, elsewhere everything before the last chunk.

Letters in shapes: S samples, M mel bins, T frames then steps, D width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

import auricle
from auricle import checkpoints
from auricle.models.asr import ASR
from auricle.models.chunked import ChunkedEncoder
from auricle.models.conformer import ConformerEncoder

Samples = npt.NDArray[np.float32]
Tokens = list[tuple[int, int]]  # ids and the steps at which they begin


class Streamed:
    """One checkpoint with all its heads."""

    def __init__(self, path: Path) -> None:
        self.model: ASR = checkpoints.build(checkpoints.load(path)).eval()
        assert isinstance(self.model.encoder, ConformerEncoder)
        self.encoder = self.model.encoder
        self.config = self.encoder.config
        self.recognizers = {h: auricle.load(path, device="cpu", head=h) for h in self.model.heads}

    def tokens(
        self, head: str, clip: Samples, context: Sequence[int], language: str | None, seed: int = 0
    ) -> Tokens:
        """What a stream says of `clip` [S], pushed in random cuts."""
        asr = self.recognizers[head]
        stream = asr.stream(lookahead=list(context), language=language)
        rng, at = random.Random(seed), 0
        while at < len(clip):
            size = rng.choice([1, 160, 592, 4001, 16000])
            stream.push(clip[at : at + size])
            at += size
        step = self.model.seconds_per_step
        return [(token.id, round(token.start / step)) for token in stream.finish().tokens]

    def expected(self, record: Any, clip: Samples) -> Tokens:
        """A recorded result: ids and steps of a transducer, or the best id of each step.

        As our times, steps end with the clip.
        """
        if isinstance(record, dict):
            found = list(zip(record["ids"], record["timestamp"], strict=True))
        else:
            found = collapsed(record, self.model.blank_id)
        last = len(clip) / self.model.config.features.sample_rate / self.model.seconds_per_step
        return [(id, round(min(step, last))) for id, step in found]

    def features(self, clip: Samples) -> Tensor:
        """Its own frames, [1, M, T]."""
        found, lengths = self.model.features(
            torch.from_numpy(clip)[None], torch.tensor([len(clip)])
        )
        return found[:, :, : int(lengths[0])]

    def encodings(self, frames: Tensor, context: Sequence[int]) -> Tensor:
        """`frames` [1, M, T] stepped chunk by chunk: [T', D]."""
        chunked = ChunkedEncoder(self.encoder, tuple(context))
        state, steps = chunked.initial_state(1), chunked.steps_in(frames.shape[2])
        state.frames[0] = frames.shape[2]
        chunks = -(-(steps + chunked.lag) // chunked.chunking.steps)
        missing = chunks * chunked.frames - chunked.lead - frames.shape[2]
        whole = F.pad(frames, (chunked.lead, max(0, missing)))
        parts = [
            chunked.step(whole[:, :, i * chunked.frames : (i + 1) * chunked.frames], state, [0])[0]
            for i in range(chunks)
        ]
        return torch.cat(parts)[chunked.lag : chunked.lag + steps]

    def common_steps(self, frames: int, context: Sequence[int]) -> int:
        """The first steps of a clip, which NeMo's stream without `pad` hears as it should."""
        right, factor = context[1], self.config.subsampling_factor
        regular = self.config.att_context_style == "regular"
        if (right == 0 or regular) and factor > 4:
            return 0
        if self.config.conv_context[1] > 0:
            return 0  # NeMo 3.0.0 keeps the zeros behind a chunk for the next one's convolution
        sound = -(-frames // factor)  # the next one hears the column behind the last frame
        if not regular:
            return sound // (right + 1) * (right + 1)
        # There every layer looks ahead.
        return max(0, sound - right * self.config.n_layers)


def collapsed(best: Sequence[int], blank: int) -> Tokens:
    """Best ids of each step without repetitions and blanks."""
    before = [blank, *best[:-1]]
    pairs = enumerate(zip(best, before, strict=True))
    return [(a, step) for step, (a, b) in pairs if a not in (blank, b)]


def until(tokens: Tokens, steps: int) -> Tokens:
    """Those that begin before a step."""
    return [(id, step) for id, step in tokens if step < steps]
