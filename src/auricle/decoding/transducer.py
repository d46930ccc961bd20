"""Greedy decoding of transducers: RNNT and TDT are one loop, which differ by how far a token moves.

The networks run on their device, the book-keeping is NumPy on the host, and they meet once a
round: every row that still has encoder steps reads a block of them with the prediction it has,
walks over the blanks, and emits the first token it meets. So blanks cost no predictor and no
Python each, and no row waits for another.

Letters in shapes: B batch, A rows still reading, E rows that emit, T encoder steps, K steps in a
block, D encoder width, J joint width, V vocabulary without blank, N tokens emitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auricle.decoding import Head, Hypothesis
from auricle.decoding.confidence import Measure, max_prob
from auricle.models.asr import MOST_SYMBOLS

if TYPE_CHECKING:
    from auricle.models.asr import ASR

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
State = tuple[Tensor, ...]

LONGEST_BLOCK = 64
PENDING_VALUES = 1 << 21  # logits kept for one batched softmax: 8 MB


class PredictorLike(Protocol):
    """What decoding needs of `models.heads.Predictor` and `StatelessPredictor`."""

    def initial_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        """The state before the first token; the batch is dimension 1."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read tokens [B]; gives [B, P] and the next state."""


class JointLike(Protocol):
    """What decoding needs of `models.heads.Joint`."""

    def project_encodings(self, encodings: Tensor) -> Tensor:
        """[..., D] to [..., J]."""

    def project_predictions(self, predictions: Tensor) -> Tensor:
        """[..., P] to [..., J]."""

    def __call__(self, f: Tensor, g: Tensor) -> Tensor:
        """Combine projections that broadcast; gives logits [..., V + 1 + durations]."""


@dataclass(frozen=True)
class Transducer:
    """The networks of a head and the rules of its search: what all calls share.

    `durations` are the steps that each of the joint's duration outputs stands for, empty for RNNT.
    `max_symbols` bounds the tokens at one step; None is no bound but `MOST_SYMBOLS`.
    """

    predictor: PredictorLike
    joint: JointLike
    blank_id: int
    durations: tuple[int, ...] = ()
    max_symbols: int | None = None


def of(model: ASR) -> Transducer | None:
    """A model's own transducer; None where it has CTC alone."""
    config = model.config.transducer
    if config is None or model.predictor is None or model.joint is None:
        return None
    return Transducer(
        model.predictor, model.joint, model.blank_id, config.durations, config.max_symbols
    )


@dataclass(frozen=True)
class TransducerState:
    """Where decoding stands between two chunks of a stream, for a batch of streams.

    A row leaves a chunk only by moving past its last step, so that no count of tokens at one
    step has to be carried along.
    """

    prediction: Tensor  # [B, J] the predictor's projected answer to the last token
    memory: State  # the predictor's state; in each tensor the batch is dimension 1
    skip: Tensor  # [B] steps of the next chunk that a TDT jump has already passed; on the host
    steps: Tensor  # [B] steps seen so far; on the host

    def select(self, rows: Sequence[int]) -> TransducerState:
        """A copy of those rows."""
        at = torch.tensor(rows, dtype=torch.int64)
        there = at.to(self.prediction.device)
        return TransducerState(
            self.prediction.index_select(0, there),
            tuple(m.index_select(1, there) for m in self.memory),
            self.skip.index_select(0, at),
            self.steps.index_select(0, at),
        )

    def put(self, rows: Sequence[int], part: TransducerState) -> TransducerState:
        """A new state, in which the rows of `part` stand at `rows`.

        `part` may come from another device or precision.
        """
        at = torch.tensor(rows, dtype=torch.int64)
        there = at.to(self.prediction.device)
        return TransducerState(
            self.prediction.index_copy(0, there, part.prediction.to(self.prediction)),
            tuple(
                m.index_copy(1, there, n.to(m))
                for m, n in zip(self.memory, part.memory, strict=True)
            ),
            self.skip.index_copy(0, at, part.skip),
            self.steps.index_copy(0, at, part.steps),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything in it, for saving; the memory's tensors are numbered."""
        memory = {f"memory{i}": m.contiguous() for i, m in enumerate(self.memory)}
        return {"prediction": self.prediction, **memory, "skip": self.skip, "steps": self.steps}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TransducerState:
        """The inverse of `tensors`.

        Raises:
            ValueError: Steps that are less than none.
        """
        if any(int(tensors[name].min()) < 0 for name in ("skip", "steps")):
            raise ValueError("a decoder stands before its first step")
        count = sum(name.startswith("memory") for name in tensors)
        memory = tuple(tensors[f"memory{i}"] for i in range(count))
        skip, steps = tensors["skip"].cpu(), tensors["steps"].cpu()
        return cls(tensors["prediction"], memory, skip, steps)


@torch.inference_mode()
def initial_state(networks: Transducer, like: Tensor) -> TransducerState:
    """Before the first token: the predictor has read one blank.

    Batch, device and dtype are those of `like` [B, T, D].
    """
    memory = networks.predictor.initial_state(len(like), like.device, like.dtype)
    blanks = torch.full((len(like),), networks.blank_id, device=like.device)
    out, memory = networks.predictor.step(blanks, memory)
    skip = torch.zeros(len(like), dtype=torch.int64)
    return TransducerState(networks.joint.project_predictions(out), memory, skip, skip.clone())


@torch.inference_mode()
def greedy(
    networks: Transducer,
    encodings: Tensor,
    lengths: Tensor,
    *,
    measure: Measure = max_prob,
    state: TransducerState | None = None,
) -> tuple[list[Hypothesis], TransducerState]:
    """Decode a batch of clips, or of the next chunks of streams.

    Gives what NeMo's `greedy_batch` with label looping gives: after `max_symbols` tokens at one
    step the row moves on by one, and a blank of duration 0 counts as one step.

    Args:
        networks: The head; its joint gives V+1 token scores, then one per duration.
        encodings: [B, T, D].
        lengths: [B], steps that count in each row; 0 is allowed.
        measure: Confidence of a token, from the log-probabilities at its step.
        state: What the call for the chunks before returned; it is not changed.
    """
    joint, blank_id = networks.joint, networks.blank_id
    start = state or initial_state(networks, encodings)
    bound = MOST_SYMBOLS if networks.max_symbols is None else networks.max_symbols
    lengths = lengths.cpu()
    cursor = _Cursor(lengths.numpy(), start.skip.numpy().copy(), bound)
    emitted = _Emitted(blank_id, measure)
    f = joint.project_encodings(encodings)  # [B, T, J]
    g, memory = start.prediction, start.memory
    jumps = np.array(networks.durations, dtype=np.int64)
    block = _first_block(f)
    while (rows := cursor.reading()).size:
        size = min(block, int(cursor.left(rows).max()))
        some = None if len(rows) == len(g) else _move(rows, f)
        logits = joint(_window(f, rows, cursor.time[rows], size), _take(g, some)[:, None])
        tokens, moves = _best(logits, blank_id, jumps)  # [A, K] on the host
        hit, at = cursor.walk(rows, tokens == blank_id, moves)
        if not hit.size:
            block = min(2 * block, LONGEST_BLOCK)
            continue
        block = _first_block(f)
        who, labels, far = rows[hit], tokens[hit, at], moves[hit, at]
        scores = logits[_move(hit, f), _move(at, f), : blank_id + 1]  # [E, V+1]
        emitted.add(who, cursor.time[who], labels, far, scores)
        cursor.emit(who, far)
        g, memory = _advance(networks, g, memory, who, labels)
    skip = torch.from_numpy(cursor.overshoot())
    ends = TransducerState(g, memory, skip, start.steps + lengths)
    tdt = bool(networks.durations)
    return emitted.hypotheses(start.steps.numpy(), ends.steps.numpy(), tdt), ends


@dataclass
class _Cursor:
    """Where each row stands: its next step, and how many tokens it has emitted there."""

    lengths: Ints  # [B]
    time: Ints  # [B]
    max_symbols: int
    repeats: Ints = field(init=False)  # [B]

    def __post_init__(self) -> None:
        self.repeats = np.zeros_like(self.time)

    def reading(self) -> Ints:
        """The rows that have steps left, [A]."""
        return (self.time < self.lengths).nonzero()[0]

    def left(self, rows: Ints) -> Ints:
        """How many steps each of `rows` has left."""
        return self.lengths[rows] - self.time[rows]

    def overshoot(self) -> Ints:
        """Steps beyond its end that each row has moved, [B]."""
        return self.time - self.lengths

    def walk(self, rows: Ints, blank: Bools, moves: Ints) -> tuple[Ints, Ints]:
        """Move `rows` over the blanks of the block that was read.

        Args:
            rows: [A].
            blank: [A, K], where the best token is the blank.
            moves: [A, K], how far the best token moves.

        Returns:
            The numbers within `rows` of those that met a token, and its place in the block.
        """
        size = blank.shape[1]
        inside = np.minimum(self.left(rows), size)  # [A]
        at = _first_stop(blank & (np.arange(size) < inside[:, None]), moves)
        self.time[rows] += at
        self.repeats[rows[at > 0]] = 0
        hit = (at < inside).nonzero()[0]
        return hit, at[hit]

    def emit(self, rows: Ints, moves: Ints) -> None:
        """Count a token for each of `rows` and move on by its duration."""
        self.repeats[rows] += 1
        moves = np.where(self.repeats[rows] >= self.max_symbols, np.maximum(moves, 1), moves)
        self.time[rows] += moves
        self.repeats[rows[moves > 0]] = 0


class _Emitted:
    """The tokens emitted so far, in the order of rounds.

    Scores and confidences need a softmax that the search does not: it is done for many tokens
    at once.
    """

    def __init__(self, blank_id: int, measure: Measure) -> None:
        self._measure = measure
        self._room = max(1, PENDING_VALUES // (blank_id + 1))
        self._columns: list[tuple[Ints, Ints, Ints, Ints]] = []
        self._pending: list[Tensor] = []
        self._waiting = 0
        self._scores: list[tuple[Tensor, Tensor]] = []

    def add(self, rows: Ints, starts: Ints, ids: Ints, moves: Ints, logits: Tensor) -> None:
        """One token for each of `rows`, all [E]; `logits` [E, V+1] are those that chose it."""
        self._columns.append((rows, starts, ids, moves))
        self._pending.append(logits)
        self._waiting += len(rows)
        if self._waiting >= self._room:
            self._settle()

    def _settle(self) -> None:
        log_probs = torch.cat(self._pending).float().log_softmax(dim=-1)  # [N, V+1]
        # The token is the best output, so its log-probability is the largest.
        self._scores.append((log_probs.amax(dim=-1), self._measure(log_probs)))
        self._pending.clear()
        self._waiting = 0

    def hypotheses(self, before: Ints, after: Ints, tdt: bool) -> list[Hypothesis]:
        """One hypothesis a row; `before` and `after` [B] are its steps without and with these."""
        if self._pending:
            self._settle()
        if not self._columns:
            return [Hypothesis((), (), (), (), 0.0, (), n, _head(tdt)) for n in after.tolist()]
        rows, starts, ids, moves = (np.concatenate(c) for c in zip(*self._columns, strict=True))
        scores, sure = (torch.cat(c).cpu().numpy() for c in zip(*self._scores, strict=True))
        starts = starts + before[rows]
        ends = starts + np.maximum(moves, 1)
        order = np.argsort(rows, kind="stable")
        borders = np.searchsorted(rows[order], np.arange(1, len(before)))
        return [
            Hypothesis(
                ids=tuple(ids[own].tolist()),
                starts=tuple(starts[own].tolist()),
                ends=tuple(ends[own].tolist()),
                confidences=tuple(sure[own].tolist()),
                score=float(scores[own].sum()),
                durations=tuple(moves[own].tolist()) if tdt else (),
                steps=int(steps),
                head=_head(tdt),
            )
            for own, steps in zip(np.split(order, borders), after, strict=True)
        ]


def _head(tdt: bool) -> Head:
    return "tdt" if tdt else "rnnt"


def _first_block(f: Tensor) -> int:
    """Steps read at once after a token.

    On the CPU one row waits for the joint's weights and many rows for its products; elsewhere a
    round costs the same whatever it holds.
    """
    if f.device.type != "cpu":
        return 16
    return 8 if len(f) == 1 else 4


def _move(indices: Ints, like: Tensor) -> Tensor:
    return torch.from_numpy(indices).to(like.device, non_blocking=True)


def _take(g: Tensor, rows: Tensor | None) -> Tensor:
    return g if rows is None else g[rows]


def _window(f: Tensor, rows: Ints, time: Ints, size: int) -> Tensor:
    """The next `size` steps [A, K, J] of each of `rows`; behind a row's end they mean nothing."""
    if len(f) == 1:
        return f[:, int(time[0]) : int(time[0]) + size]
    steps = np.minimum(time[:, None] + np.arange(size), f.shape[1] - 1)  # [A, K]
    flat = _move((rows[:, None] * f.shape[1] + steps).ravel(), f)
    return f.flatten(0, 1).index_select(0, flat).view(*steps.shape, -1)


def _best(logits: Tensor, blank_id: int, durations: Ints) -> tuple[Ints, Ints]:
    """Best token and how far it moves, [A, K] each, on the host: the one wait for the device."""
    tokens = logits[..., : blank_id + 1].argmax(dim=-1)
    if not durations.size:
        labels: Ints = tokens.cpu().numpy()
        return labels, np.zeros_like(labels)
    jumps = logits[..., blank_id + 1 :].argmax(dim=-1)
    labels, which = torch.stack((tokens, jumps)).cpu().numpy()
    return labels, durations[which]


def _first_stop(blank: Bools, moves: Ints) -> Ints:
    """Where each row [A] stands after walking over blanks from the first step of its block.

    On a step that is no blank, or at the first step behind the block that it reaches.
    """
    size = blank.shape[1]
    longest = int(moves.max())
    if longest <= 1:
        first: Ints = np.where(blank.all(axis=1), size, blank.argmin(axis=1))
        return first
    reach = np.tile(np.arange(size + longest), (len(blank), 1))  # [A, K + longest]
    reach[:, :size] += np.where(blank, np.maximum(moves, 1), 0)
    rows = np.arange(len(blank))[:, None]
    for _ in range((size - 1).bit_length()):  # each round doubles the hops taken
        reach = reach[rows, reach]
    return reach[:, 0]


def _advance(
    networks: Transducer, g: Tensor, memory: State, rows: Ints, tokens: Ints
) -> tuple[Tensor, State]:
    """Let the predictor read the tokens that rows emitted, [E] each; other rows stay."""
    predictor, joint = networks.predictor, networks.joint
    if len(rows) == len(g):
        out, memory = predictor.step(_move(tokens, g), memory)
        return joint.project_predictions(out), memory
    where = _move(rows, g)
    out, new = predictor.step(_move(tokens, g), tuple(m.index_select(1, where) for m in memory))
    g = g.index_copy(0, where, joint.project_predictions(out))
    return g, tuple(m.index_copy(1, where, n) for m, n in zip(memory, new, strict=True))
