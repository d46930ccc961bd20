"""What turns encodings into scores of tokens: the CTC head, and the transducer's two networks.

Letters in shapes: B batch, T encoder steps, U tokens, D encoder width, P predictor width,
J joint width, V vocabulary without blank. The blank is always number V. No decoding here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.config import Probability, Size, Within, settle

# What a predictor remembers; in each tensor the batch is dimension 1.
State = tuple[Tensor, ...]

JOINT_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True)
class PredictorConfig:
    """`kind` "lstm" remembers everything, "stateless" the last `context_size` tokens.

    `rnn_hidden` above `hidden` makes an LSTM with projections. With `blank_as_pad` off the
    checkpoint has no embedding for the blank; ours then gets a row of zeros, which is the same.
    """

    vocab_size: Annotated[int, Within(1, 2**22)]
    hidden: Size
    layers: Annotated[int, Within(1, 64)] = 1
    kind: Literal["lstm", "stateless"] = "lstm"
    context_size: Annotated[int, Within(1, 64)] = 2
    normalization_mode: Literal["layer"] | None = None
    rnn_hidden: Size | None = None
    blank_as_pad: bool = True
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True)
class JointConfig:
    """`n_outputs` counts tokens, the blank and durations."""

    encoder_dim: Size
    predictor_dim: Size
    hidden: Size
    n_outputs: Annotated[int, Within(1, 2**23)]
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        settle(self)


class CTCHead(nn.Linear):
    """Scores of every token at every step; the softmax is the decoder's business."""


class Predictor(nn.Module):
    """The LSTM that reads the tokens emitted so far.

    A state is (hidden [layers, B, P], cell [layers, B, H]). Decoding starts from zeros with the
    blank as the token before the first, whose embedding is zero.
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        rnn_hidden = config.rnn_hidden or config.hidden
        self.embed = nn.Embedding(
            config.vocab_size + 1, config.hidden, padding_idx=config.vocab_size
        )
        self.lstm = nn.LSTM(
            config.hidden,
            rnn_hidden,
            config.layers,
            dropout=config.dropout if config.layers > 1 else 0.0,
            proj_size=config.hidden if config.hidden < rnn_hidden else 0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.table: Tensor | None = None

    def initial_state(
        self, batch: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> State:
        """What is remembered before the first token: zeros."""
        shapes = (self.config.hidden, self.config.rnn_hidden or self.config.hidden)
        return tuple(
            torch.zeros(self.config.layers, batch, size, device=device, dtype=dtype)
            for size in shapes
        )

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Read `tokens` [B, U]; gives [B, U, P] and the state after the last one."""
        embedded = self.embed(tokens.transpose(0, 1))  # [U, B, P]
        out, state = self.lstm(embedded, state)
        return self.dropout(out).transpose(0, 1), state  # [B, U, P]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token each, [B]; gives [B, P] and the next state.

        The cell is written out because PyTorch's LSTM on the CPU spends twenty times longer in
        preparing a single step than in computing it.
        """
        hidden, cell = state
        after: list[tuple[Tensor, Tensor]] = []
        out = tokens
        for layer in range(self.config.layers):
            gates = self._from_below(out, layer)  # [B, 4H]
            gates = torch.addmm(gates, hidden[layer], self._weight("weight_hh", layer).t())
            i, f, g, o = gates.chunk(4, dim=-1)
            c = torch.sigmoid(f) * cell[layer] + torch.sigmoid(i) * torch.tanh(g)
            out = torch.sigmoid(o) * torch.tanh(c)
            if self.lstm.proj_size:
                out = F.linear(out, self._weight("weight_hr", layer))
            after.append((out, c))
        return out, (torch.stack([h for h, _ in after]), torch.stack([c for _, c in after]))

    def premultiply(self) -> None:
        """Keep what the first layer's gates get from each token: one row of [V+1, 4H] each."""
        self.table = self._below(self.embed.weight, 0)

    def _from_below(self, below: Tensor, layer: int) -> Tensor:
        if layer > 0:
            return self._below(below, layer)
        if self.table is not None:
            return self.table[below]
        return self._below(self.embed(below), 0)

    def _below(self, x: Tensor, layer: int) -> Tensor:
        bias = self._weight("bias_ih", layer) + self._weight("bias_hh", layer)
        return F.linear(x, self._weight("weight_ih", layer), bias)

    def _weight(self, name: str, layer: int) -> Tensor:
        weight: Tensor = getattr(self.lstm, f"{name}_l{layer}")
        return weight


class StatelessPredictor(nn.Module):
    """Looks at the last tokens only; the nearest one has the widest embedding.

    A state is one tensor, the tokens before the next one [1, B, context - 1], oldest first.
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        far = config.hidden // 2 // config.context_size
        near = config.hidden - far * (config.context_size - 1)
        self.embeds = nn.ModuleList(
            nn.Embedding(config.vocab_size + 1, near if i == 0 else far, config.vocab_size)
            for i in range(config.context_size)
        )
        self.norm = (
            nn.LayerNorm(config.hidden, elementwise_affine=False)
            if config.normalization_mode == "layer"
            else nn.Identity()
        )
        self.dropout = nn.Dropout(config.dropout)

    def initial_state(
        self, batch: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> State:
        """What is remembered before the first token: blanks. `dtype` is for the LSTM alone."""
        shape = (1, batch, self.config.context_size - 1)
        return (torch.full(shape, self.config.vocab_size, device=device),)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Read `tokens` [B, U]; gives [B, U, P] and the state after the last one."""
        (before,) = state or self.initial_state(len(tokens), tokens.device)
        history = torch.cat([before[0], tokens], dim=1)  # [B, context - 1 + U]
        size, last = tokens.shape[1], self.config.context_size - 1
        out = [embed(history[:, last - i : last - i + size]) for i, embed in enumerate(self.embeds)]
        kept = history[:, history.shape[1] - last :]
        return self.norm(self.dropout(torch.cat(out, dim=-1))), (kept[None],)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token each, [B]; gives [B, P] and the next state."""
        out, state = self(tokens[:, None], state)
        return out[:, 0], state


class Joint(nn.Module):
    """Scores of the outputs at one encoder step after some tokens.

    Both sides are projected apart, so that each is projected once and combined often.
    """

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.enc = nn.Linear(config.encoder_dim, config.hidden)
        self.pred = nn.Linear(config.predictor_dim, config.hidden)
        self.out = nn.Linear(config.hidden, config.n_outputs)
        self.activation = JOINT_ACTIVATIONS[config.activation]
        self.dropout = nn.Dropout(config.dropout)

    def project_encodings(self, encodings: Tensor) -> Tensor:
        """[..., D] to [..., J]."""
        projected: Tensor = self.enc(encodings)
        return projected

    def project_predictions(self, predictions: Tensor) -> Tensor:
        """[..., P] to [..., J]."""
        projected: Tensor = self.pred(predictions)
        return projected

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        """Combine projections [..., J] that broadcast; gives logits [..., n_outputs]."""
        logits: Tensor = self.out(self.dropout(self.activation(f + g)))
        return logits


def build_predictor(config: PredictorConfig) -> Predictor | StatelessPredictor:
    """The network that `config.kind` names."""
    return Predictor(config) if config.kind == "lstm" else StatelessPredictor(config)
