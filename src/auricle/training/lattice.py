"""A transducer's lattice: how likely all its paths are together, and how often each arc is used.

A node (t, u) is encoder step t after u tokens. Arcs leave it with the blank, to (t + d, u), or with
the next token, to (t + d, u + 1); d is 1 and 0 in an RNNT, and one of the durations in a TDT, whose
blank takes no 0. A path ends with a blank that goes to (steps, length) exactly.

Letters in shapes: B utterances, N nodes of them all, A arcs of a node, D durations,
W columns (tokens), R rows (diagonals t + u).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The logarithm of a probability of 0. Infinity would make NaN of differences.
NEVER = -1e30


@dataclass(frozen=True)
class Nodes:
    """The nodes of a batch of lattices in one row of N, utterance by utterance, without padding."""

    steps: Tensor  # [B]
    lengths: Tensor  # [B]
    utterance: Tensor  # [N]
    step: Tensor  # [N]
    token: Tensor  # [N], how many tokens are before

    @classmethod
    def of(cls, steps: Tensor, lengths: Tensor) -> Nodes:
        """All nodes of utterances of so many encoder steps [B] and tokens [B]."""
        shape = (int(steps.max()), int(lengths.max()) + 1) if len(steps) else (0, 0)
        t, u = (torch.arange(size, device=steps.device) for size in shape)
        there = (t < steps[:, None])[:, :, None] & (u <= lengths[:, None])[:, None]  # [B, T, U+1]
        return cls(steps, lengths, *there.nonzero(as_tuple=True))

    def __len__(self) -> int:
        return len(self.utterance)


@dataclass(frozen=True)
class Scores:
    """Log-probabilities at every node; `durations` [N, D] are a TDT's."""

    blank: Tensor  # [N]
    token: Tensor  # [N], of the next token; anything where there is none
    durations: Tensor | None = None

    def scaled(self, nodes: Tensor, by: Tensor) -> Scores:
        """Those of some nodes [n], multiplied."""
        durations = None if self.durations is None else self.durations[nodes] * by[:, None]
        return Scores(self.blank[nodes] * by, self.token[nodes] * by, durations)


class Lattice:
    """The sum over all paths, and after it the posterior probabilities of arcs.

    The arcs lie in rows by the diagonal they leave and in columns by the number of tokens after
    them, so that what leaves a diagonal, and what enters it by one kind of arc, are slices. Sums of
    thousands of log-probabilities leave fp32 four digits: they are float64 where a device has it.
    """

    def __init__(self, nodes: Nodes, scores: Scores, durations: tuple[int, ...] = ()) -> None:
        self.nodes, self.durations = nodes, durations
        blanks = [d for d in durations if d > 0] if durations else [1]
        self.blanks = len(blanks)
        self.advances = [*blanks, *(durations or (0,))]  # encoder steps, of each of the A arcs
        emits = [0] * self.blanks + [1] * (len(self.advances) - self.blanks)
        self.reaches = [d + e for d, e in zip(self.advances, emits, strict=True)]  # in diagonals
        self.margin = max(self.reaches)
        device = nodes.steps.device
        self.last = nodes.steps + nodes.lengths  # [B], the diagonal of the end
        self.rows = int(self.last.max()) + 1
        shape = self.margin + self.rows, len(self.reaches), len(nodes.steps)
        columns = int(nodes.lengths.max()) + 2
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.arcs = torch.full((*shape, columns), NEVER, dtype=dtype, device=device)
        self.places = self._places(emits)
        for arc, place in enumerate(self.places):
            self.arcs.view(-1)[place] = self._weights(scores, arc, emits[arc]).to(dtype)
        self.sums = self._forward()

    def _places(self, emits: list[int]) -> list[Tensor]:
        """Where in `arcs` each node's arc of each kind lies: [N] a kind."""
        _, kinds, batch, columns = self.arcs.shape
        nodes = self.nodes
        row = self.margin + nodes.step + nodes.token
        start = (row * kinds * batch + nodes.utterance) * columns + nodes.token
        return [start + arc * batch * columns + emit for arc, emit in enumerate(emits)]

    def _weights(self, scores: Scores, arc: int, emit: int) -> Tensor:
        """The log-probabilities [N] of one kind of arc; those that overshoot are never taken."""
        nodes = self.nodes
        weight = scores.token if emit else scores.blank
        if scores.durations is not None:
            weight = weight + scores.durations[:, self.durations.index(self.advances[arc])]
        # A token must leave at least one step, for the blank that ends the path.
        fits = nodes.step + self.advances[arc] <= (nodes.steps - emit)[nodes.utterance]
        if emit:
            fits &= nodes.token < nodes.lengths[nodes.utterance]
        return weight.clamp(min=NEVER).where(fits, NEVER)

    def _forward(self) -> Tensor:
        """Log-probabilities of reaching each node [R + margin, B, W], added to the arcs' own."""
        padded, kinds, batch, columns = self.arcs.shape
        flat = self.arcs.view(-1, batch, columns)
        sums = self.arcs.new_zeros(padded, batch, columns)
        sums[0, :, 1:] = NEVER
        origins = self._rows([self.margin - reach for reach in self.reaches])
        entering = origins * kinds + torch.arange(kinds, device=flat.device)
        for n in range(self.rows):
            if n > 0:
                into = flat.index_select(0, entering[n])  # [A, B, W]
                top = into.amax(0)
                torch.add((into - top).exp_().sum(0).log_(), top, out=sums[n])
            leaving = self.arcs[self.margin + n]
            leaving[: self.blanks] += sums[n]
            leaving[self.blanks :, :, 1:] += sums[n, :, :-1]
        return sums

    def _rows(self, offsets: list[int]) -> Tensor:
        """[R, A]: at every diagonal, the diagonal of each kind of arc that is so far ahead."""
        diagonals = torch.arange(self.rows, device=self.arcs.device)[:, None]
        return diagonals + torch.tensor(offsets, device=self.arcs.device)

    def log_likelihood(self) -> Tensor:
        """Of each utterance [B]; at most NEVER / 2 where no path fits."""
        utterance = torch.arange(len(self.last), device=self.last.device)
        return self.sums[self.last, utterance, self.nodes.lengths]

    def posteriors(self, dtype: torch.dtype) -> Scores:
        """How probable it is, given the tokens, that a path takes what each score stands for.

        Consumes the lattice. Walks back from the end: what reaches a node came along its arcs in
        proportion to their part in its sum, so that everything stays between 0 and 1.
        """
        flows = self.arcs[self.margin :]  # [R, A, B, W]
        for arc, reach in enumerate(self.reaches):
            flows[:, arc] -= self.sums[reach : reach + self.rows]
        flows.exp_()
        visits = torch.zeros_like(self.sums)
        utterance = torch.arange(len(self.last), device=self.last.device)
        reached = ~(self.log_likelihood() < NEVER / 2)
        visits[self.last, utterance, self.nodes.lengths] = reached.to(visits.dtype)
        targets = self._rows(self.reaches)
        for n in reversed(range(self.rows)):
            flow = flows[n].mul_(visits.index_select(0, targets[n]))
            visits[n] += flow[: self.blanks].sum(0)
            visits[n, :, :-1] += flow[self.blanks :].sum(0)[:, 1:]
        return self._gather(dtype)

    def _gather(self, dtype: torch.dtype) -> Scores:
        """The posteriors of arcs, node by node."""
        taken = [self.arcs.view(-1)[place].to(dtype) for place in self.places]
        blank, token = sum(taken[: self.blanks]), sum(taken[self.blanks :])
        assert isinstance(blank, Tensor)
        assert isinstance(token, Tensor)
        if not self.durations:
            return Scores(blank, token)
        durations = blank.new_zeros(len(self.nodes), len(self.durations))
        for advance, arc in zip(self.advances, taken, strict=True):
            durations[:, self.durations.index(advance)] += arc
        return Scores(blank, token, durations)
