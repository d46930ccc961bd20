"""Scripted networks, and decoders that read one step after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

State = tuple[Tensor, ...]


class CountingPredictor:
    """The state is a sum over all tokens read, so that a token missed or read twice shows.

    It goes up by 1 to 6 with every token but the blank, which must be the first token read and
    the only blank.
    """

    def __init__(self, blank_id: int, size: int = 97) -> None:
        self.blank_id, self.size, self.calls = blank_id, size, 0

    def initial_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return (torch.zeros(1, batch, 1, dtype=torch.int64),)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        self.calls += 1
        (old,) = state
        assert bool(((old[0, :, 0] > 0) | (tokens == self.blank_id)).all())
        new = 1 + (old[0, :, 0] + tokens) % self.size
        return torch.nn.functional.one_hot(new, self.size + 1).float(), (new[None, :, None],)


class TableJoint:
    """Every (encoding, history) has a row of random logits; encodings are whole numbers.

    For every encoding there is a stretch of histories, too long to be jumped over, with nothing
    but blanks: so no step emits for ever.
    """

    def __init__(self, outputs: int, blank_id: int, blank_bias: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(50, 98, outputs, generator=generator)
        self.table[..., blank_id] += blank_bias
        far = (torch.arange(98) - 7 * torch.arange(50)[:, None]) % 97 < 7
        self.table[..., blank_id][far] = 1000.0
        self.steps_read = 0

    def project_encodings(self, encodings: Tensor) -> Tensor:
        return encodings

    def project_predictions(self, predictions: Tensor) -> Tensor:
        return predictions.argmax(dim=-1, keepdim=True).float()

    def __call__(self, f: Tensor, g: Tensor) -> Tensor:
        f, g = torch.broadcast_tensors(f, g)
        self.steps_read += f[..., 0].numel()
        return self.table[f[..., 0].long(), g[..., 0].long()]


@dataclass
class Emission:
    """One token as the slow decoder found it."""

    id: int
    start: int
    duration: int
    confidence: float
    log_prob: float


def slow_transducer(
    encodings: Tensor,
    predictor: CountingPredictor,
    joint: TableJoint,
    durations: tuple[int, ...],
    max_symbols: int | None,
) -> list[Emission]:
    """One clip [T, D], step by step, by the definition."""
    blank = predictor.blank_id
    state = predictor.initial_state(1, encodings.device, encodings.dtype)
    out, state = predictor.step(torch.tensor([blank]), state)
    emitted: list[Emission] = []
    time, here = 0, 0
    while time < len(encodings):
        logits = joint(encodings[time], joint.project_predictions(out)[0])
        scores = logits[: blank + 1].log_softmax(dim=0)
        token = int(scores.argmax())
        jump = durations[int(logits[blank + 1 :].argmax())] if durations else 0
        if token == blank:
            jump = max(jump, 1)
        else:
            best = float(scores[token])
            sure = (torch.tensor(best).exp() * (blank + 1) - 1) / blank
            emitted.append(Emission(token, time, jump, float(sure), best))
            out, state = predictor.step(torch.tensor([token]), state)
            here += 1
            if jump == 0 and max_symbols is not None and here >= max_symbols:
                time, here = time + 1, 0
        if jump:
            time, here = time + jump, 0
    return emitted
