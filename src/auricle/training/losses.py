"""Losses: CTC, and RNNT and TDT without ever holding the joint's outputs whole.

The outputs [B, T, U, V] of a transducer's joint are by far the largest tensor of a training step.
They are computed a piece at a time and reduced at once to the few numbers that the lattice needs;
the backward computes again those that have a share in the gradient. All losses are sums over one
utterance [B]; what cannot be aligned costs 0 and has no gradient, and NaN stays NaN.

Letters in shapes: B batch, T encoder steps, U tokens, N nodes of all lattices (`lattice.Nodes`),
J joint width, V tokens without the blank, D durations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn import functional as F

from auricle.models.heads import Joint
from auricle.training.lattice import NEVER, Lattice, Nodes, Scores

# Nodes on hardly any path are left out of the backward. With this share of fp32's rounding their
# sum is below what rounding does, and a trained model has few others.
NEGLIGIBLE = 1e-3
CPU_ROWS = 1024  # of the joint's outputs at a time: more leave the processor's cache


def ctc_loss(logits: Tensor, tokens: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
    """The CTC loss of each utterance [B], in fp32.

    Args:
        logits: [B, T, V + 1], the blank last.
        tokens: [B, U], padded with any token.
        steps: Encoder steps of each utterance [B].
        lengths: Tokens of each utterance [B].
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # [T, B, V + 1]
    blank = logits.shape[-1] - 1
    options: dict[str, Any] = {"blank": blank, "reduction": "none", "zero_infinity": True}
    return F.ctc_loss(log_probs, tokens, steps, lengths, **options)


def transducer_loss(  # noqa: PLR0917
    joint: Joint,
    encodings: Tensor,
    predictions: Tensor,
    tokens: Tensor,
    steps: Tensor,
    lengths: Tensor,
    *,
    durations: tuple[int, ...] = (),
    sigma: float = 0.0,
    as_rnnt: bool = False,
    joint_memory_mb: int = 512,
) -> Tensor:
    """The RNNT loss, or with `durations` the TDT loss (Xu et al. 2023), of each utterance [B].

    Computes in the precision of its input or of autocast, but losses and the lattice in fp32 at
    least. In training the joint's dropout is applied.

    Args:
        joint: Its outputs are tokens, the blank, durations.
        encodings: [B, T, D].
        predictions: The predictor after 0 to U tokens [B, U + 1, P].
        tokens: [B, U], padded with any token.
        steps: Encoder steps of each utterance [B].
        lengths: Tokens of each utterance [B].
        durations: In encoder steps; () for an RNNT.
        sigma: A TDT's logit under-normalisation: taken off every token's log-probability. An
            RNNT has none.
        as_rnnt: Train a TDT's tokens by the RNNT loss; the durations then have gradients of 0.
        joint_memory_mb: Bounds the tensors of the joint that exist at one time.
    """
    f, g = joint.project_encodings(encodings), joint.project_predictions(predictions)
    nodes = Nodes.of(steps, lengths)
    labels = F.pad(tokens, (0, 1))[nodes.utterance, nodes.token]  # [N]
    plan = _Plan(
        joint=joint,
        nodes=nodes,
        f_rows=nodes.utterance * f.shape[1] + nodes.step,
        g_rows=nodes.utterance * g.shape[1] + nodes.token,
        labels=labels,
        outputs=joint.config.n_outputs - len(durations),
        durations=() if as_rnnt else durations,
        sigma=sigma if durations and not as_rnnt else 0.0,
        dtype=_compute_dtype(f),
        rows=_rows(joint, f, joint_memory_mb),
        seed=_seed(joint),
        backward=torch.is_grad_enabled(),
    )
    weights = tuple(joint.out.parameters())
    losses: Tensor = _TransducerLoss.apply(f.flatten(0, 1), g.flatten(0, 1), plan, *weights)  # type: ignore[no-untyped-call]
    return losses


@dataclass(frozen=True)
class _Plan:
    """What both passes over the nodes must know alike."""

    joint: Joint
    nodes: Nodes
    f_rows: Tensor  # [N], each node's row of the projected encodings
    g_rows: Tensor  # [N], of the projected predictions
    labels: Tensor  # [N], the next token
    outputs: int  # tokens and the blank
    durations: tuple[int, ...]
    sigma: float
    dtype: torch.dtype  # of the joint's last layer
    rows: int  # nodes in a piece
    seed: int | None  # of dropout
    backward: bool

    def pieces(self, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Some of the nodes, in rising order [n], a piece at a time; and what dropout leaves there.

        With dropout the pieces are cut where they are cut for all nodes, and each has its own seed:
        a node has the same dropout whichever others are chosen.
        """
        if self.seed is None:
            yield from ((piece, None) for piece in torch.split(chosen, self.rows))
            return
        starts = torch.arange(0, len(self.nodes), self.rows, device=chosen.device)
        cuts = torch.searchsorted(chosen, starts[1:]).cpu()
        for number, piece in enumerate(chosen.tensor_split(cuts)):
            if len(piece) > 0:
                shape = self.rows, self.joint.config.hidden
                kept = _kept(self.seed + number, shape, self.joint.dropout.p, piece.device)
                yield piece, kept[piece - number * self.rows]

    def logits(self, x: Tensor, kept: Tensor | None, weights: dict[str, Tensor]) -> Tensor:
        """The joint from the sums of its two sides [n, J] on."""
        hidden = self.joint.activation(x)
        if kept is not None:
            hidden = hidden * kept / (1.0 - self.joint.dropout.p)
        out: Tensor = functional_call(self.joint.out, weights, (hidden.to(self.dtype),))
        return out

    def weights(self, weights: tuple[Tensor, ...], *, grad: bool = False) -> dict[str, Tensor]:
        """The last layer's parameters by name, as it computes with them."""
        names = (name for name, _ in self.joint.out.named_parameters())
        cast = (weight.detach().to(self.dtype).requires_grad_(grad) for weight in weights)
        return dict(zip(names, cast, strict=True))


class _TransducerLoss(torch.autograd.Function):
    """From the projections [B * T, J] and [B * (U + 1), J] to losses [B], in two passes."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, g: Tensor, plan: _Plan, *weights: Tensor) -> Tensor:
        lattice = Lattice(plan.nodes, _scores(plan, f, g, plan.weights(weights)), plan.durations)
        found = lattice.log_likelihood()
        losses = torch.where(found < NEVER / 2, 0.0, -found).to(_exact(f.dtype))
        ctx.plan = plan
        if plan.backward:
            # Saved as tensors so that changing one in place before the backward is noticed.
            ctx.save_for_backward(f, g, *weights)
            ctx.posteriors = lattice.posteriors(losses.dtype)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan, (f, g, *weights) = ctx.plan, ctx.saved_tensors
        sums = _Gradients(plan, f, g, tuple(weights))
        used = ctx.posteriors.blank + ctx.posteriors.token  # [N]
        grads = grad[plan.nodes.utterance]
        # Not `used > ...`: NaN has to reach the gradient.
        least = NEGLIGIBLE * torch.finfo(used.dtype).eps
        chosen = (~(used <= least) & (grads != 0)).nonzero()[:, 0]
        for piece, kept in plan.pieces(chosen):
            sums.add(piece, kept, ctx.posteriors.scaled(piece, grads[piece]))
        return sums.result(ctx.needs_input_grad)


def _scores(plan: _Plan, f: Tensor, g: Tensor, weights: dict[str, Tensor]) -> Scores:
    """What the lattice needs to know of every node."""
    dtype, count, outputs = _exact(f.dtype), len(plan.nodes), plan.outputs
    blank, token = f.new_empty(count, dtype=dtype), f.new_empty(count, dtype=dtype)
    durations = f.new_empty(count, len(plan.durations), dtype=dtype) if plan.durations else None
    for piece, kept in plan.pieces(torch.arange(count, device=f.device)):
        x = _added(f, g, plan, piece)
        logits = plan.logits(x, kept, weights)  # [n, V + 1 + D]
        tokens = logits[:, :outputs].log_softmax(-1, dtype=dtype)
        blank[piece] = tokens[:, -1] - plan.sigma
        token[piece] = tokens.gather(1, plan.labels[piece, None])[:, 0] - plan.sigma
        if durations is not None:
            durations[piece] = logits[:, outputs:].log_softmax(-1, dtype=dtype)
    return Scores(blank, token, durations)


def _added(f: Tensor, g: Tensor, plan: _Plan, piece: Tensor) -> Tensor:
    """The sums of the two sides at some nodes [n, J]."""
    rows = f.index_select(0, plan.f_rows[piece])
    return rows.add_(g.index_select(0, plan.g_rows[piece]))


class _Gradients:
    """The gradients of the losses, summed over pieces of nodes."""

    def __init__(self, plan: _Plan, f: Tensor, g: Tensor, weights: tuple[Tensor, ...]) -> None:
        self.plan, self.f, self.g, self.originals = plan, f, g, weights
        self.weights = plan.weights(weights, grad=True)
        self.sums = [torch.zeros_like(x, dtype=_exact(x.dtype)) for x in (f, g, *weights)]

    def add(self, piece: Tensor, kept: Tensor | None, used: Scores) -> None:
        """The part of some nodes [n]; `used` are their posteriors, times the losses' gradients."""
        f_rows, g_rows = self.plan.f_rows[piece], self.plan.g_rows[piece]
        x = _added(self.f, self.g, self.plan, piece).requires_grad_()
        with torch.enable_grad():
            logits = self.plan.logits(x, kept, self.weights)
        slopes = self._slopes(logits.detach(), self.plan.labels[piece], used)
        found = torch.autograd.grad(logits, (x, *self.weights.values()), slopes.to(logits.dtype))
        for total, rows in zip(self.sums, (f_rows, g_rows), strict=False):
            total.index_add_(0, rows, found[0].to(total.dtype))
        for total, part in zip(self.sums[2:], found[1:], strict=True):
            total += part

    def _slopes(self, logits: Tensor, labels: Tensor, used: Scores) -> Tensor:
        """The gradient with respect to the logits: what was expected, less what was taken."""
        tokens, durations = logits[:, : self.plan.outputs], logits[:, self.plan.outputs :]
        total = used.blank + used.token  # [n]
        slopes = tokens.softmax(-1, dtype=total.dtype).mul_(total[:, None])
        slopes[:, -1] -= used.blank
        slopes.scatter_add_(1, labels[:, None], -used.token[:, None])
        if used.durations is not None:
            expected = durations.softmax(-1, dtype=total.dtype).mul_(total[:, None])
            return torch.cat([slopes, expected - used.durations], dim=1)
        return F.pad(slopes, (0, durations.shape[1])) if durations.shape[1] else slopes

    def result(self, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """One for each argument of the function; the plan has none."""
        f, g, *weights = (
            total.to(x.dtype)
            for total, x in zip(self.sums, (self.f, self.g, *self.originals), strict=True)
        )
        grads = (f, g, None, *weights)
        return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The precision of losses: fp32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _compute_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _rows(joint: Joint, x: Tensor, megabytes: int) -> int:
    """How many nodes may be computed at one time."""
    # In the backward: logits, softmax and its gradient; sums, hidden units and their gradients.
    numbers = 3 * joint.config.n_outputs + 5 * joint.config.hidden
    rows = int(megabytes * 2**20 / (numbers * _exact(x.dtype).itemsize))
    return max(1, min(rows, CPU_ROWS) if x.device.type == "cpu" else rows)


def _seed(joint: Joint) -> int | None:
    """Drawn from the global generator, where dropout needs one."""
    if not joint.dropout.training or joint.dropout.p == 0:
        return None
    return int(torch.randint(2**48, ()))


def _kept(seed: int, shape: tuple[int, int], share: float, device: torch.device) -> Tensor:
    """Which numbers dropout leaves; `share` are lost.

    Made of 16 random bits each, which are drawn several times as fast as Bernoulli's numbers.
    """
    rows, columns = shape
    generator = torch.Generator(device).manual_seed(seed)
    bits = torch.empty(rows, -(-columns // 4), dtype=torch.int64, device=device)
    bits.random_(-(2**63), None, generator=generator)
    return bits.view(torch.int16)[:, :columns] >= round((share - 0.5) * 2**16)
