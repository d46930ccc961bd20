"""What turns encodings into scores of tokens: the CTC head, and the transducer's two networks.

Letters in shapes: B batch, T encoder steps, U tokens, D encoder width, P predictor width,
J joint width, V vocabulary without blank. The blank is always number V. No decoding here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PredictorConfig:
    """`kind` "lstm" remembers everything, "stateless" the last `context_size` tokens.

    `rnn_hidden` above `hidden` makes an LSTM with projections. With `blank_as_pad` off the
    checkpoint has no embedding for the blank; ours then gets a row of zeros, which is the same.
    """

    vocab_size: int
    hidden: int
    layers: int = 1
    kind: Literal["lstm", "stateless"] = "lstm"
    context_size: int = 2
    normalization_mode: Literal["layer"] | None = None
    rnn_hidden: int | None = None
    blank_as_pad: bool = True
    dropout: float = 0.0


@dataclass(frozen=True)
class JointConfig:
    """`n_outputs` counts tokens, the blank, big blanks and durations."""

    encoder_dim: int
    predictor_dim: int
    hidden: int
    n_outputs: int
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.0
