"""From encodings to hypotheses, and from hypotheses to words with times.

Pure functions: scores and state in, hypotheses and state out. Knows nothing of audio or files,
and importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auricle.decoding.confidence import Measure, max_prob
from auricle.errors import ConfigError

Head = Literal["ctc", "rnnt", "tdt"]


@dataclass(frozen=True)
class Greedy:
    """Take the best token at every step.

    `max_symbols` bounds the tokens a transducer may emit at one encoder step; None takes the
    model's own bound. `measure` says how sure a token is, see `auricle.decoding.confidence`.
    """

    max_symbols: int | None = None
    measure: Measure = max_prob

    def __post_init__(self) -> None:
        if self.max_symbols is not None and self.max_symbols < 1:
            raise ConfigError(f"max_symbols={self.max_symbols}: it must be at least 1, or None")


@dataclass(frozen=True)
class Hypothesis:
    """What a head made of one clip; every tuple but `durations` has one entry per token.

    `starts` and `ends` are encoder steps, `ends` exclusive; a stream's count from its beginning.
    `durations` are a TDT head's own jumps, 0 among them. `score` is the sum of the emitted
    tokens' log-probabilities (CTC: of all non-blank steps), `steps` the number of encoder steps.
    In a stream each chunk has a hypothesis of its own, whose `steps` reach back to the stream's
    beginning. Where it `continues`, its first token is the last one of the chunk before, which
    went on: it replaces that one, with the same id and start. Only CTC sets it.
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    confidences: tuple[float, ...]
    score: float
    durations: tuple[int, ...] = ()
    steps: int = 0
    head: Head = "rnnt"
    continues: bool = False
