"""`cascade`: a fast model hears everything, and what is hard for it goes on to a better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from auricle.curation.choosing import Facts
from auricle.curation.graph import Composite, Node, When
from auricle.curation.step import refuse_unused
from auricle.curation.steps.transcribe import Transcribe, keys_of
from auricle.curation.steps.wer import Wer
from auricle.errors import ConfigError


@dataclass(frozen=True)
class Cascade(Composite):
    """Models one after another, each for the items that were hard for the one before.

    An item is hard if its confidence is below `confidence`, or its WER against `reference` above
    `wer`, where these are given: both of the last model that heard it. Where nothing was heard the
    confidence is 0; without a reference there is no WER, and the confidence alone decides. The text
    of the last model stays, with its number under `tier`, from 1. What each tier heard and took is
    counted by its `transcribe` step.

    Args:
        tiers: The models, each as in `transcribe`, from the fastest to the best.
        confidence: Below it, an item goes on.
        wer: Above it, an item goes on.
        reference: The key of what was said, for `wer`.
        into: The key of the text.
    """

    tiers: Sequence[Transcribe]
    confidence: float | None = None
    wer: float | None = None
    reference: str = "text"
    into: str = "pred_text"

    def __post_init__(self) -> None:
        if len(self.tiers) < 2:
            raise ConfigError(f"tiers must be two models or more, not {len(self.tiers)}")
        if self.confidence is None and self.wer is None:
            raise ConfigError("say when an item goes on: confidence, below it, or wer, above it")
        if self.wer is None:
            refuse_unused(self, ["reference"], "without wer")
        for tier in self.tiers:
            refuse_unused(tier, ["into", "tier"], "in a cascade, which has its own `into`")
        for one, other in pairwise(self.tiers):
            if replace(one, tier=None) == replace(other, tier=None):
                raise ConfigError(f"two tiers in a row are the same: {one.model}")

    @property
    def unsettled(self) -> bool:
        """Whether a model must still be chosen."""
        return any(tier.unsettled for tier in self.tiers)

    def settled(self, facts: Facts) -> tuple[Cascade, str]:
        """The same with models that suit the rows, and why those."""
        found = [tier.settled(facts) for tier in self.tiers]
        reasons = [f"tier {number}: {why}" for number, (_, why) in enumerate(found, 1) if why]
        return replace(self, tiers=tuple(tier for tier, _ in found)), "; ".join(reasons)

    def nodes(self) -> Sequence[Node]:
        """The models, each behind the first under the condition; WERs in between."""
        _, confidence, _ = keys_of(self.into)
        prefix = "" if self.into == "pred_text" else f"{self.into}_"
        hard: list[dict[str, Any]] = []
        if self.confidence is not None:
            hard.append({confidence: {"lt": self.confidence}})
        if self.wer is not None:
            hard.append({f"{prefix}wer": {"gt": self.wer}})
        conditions = hard[0] if len(hard) == 1 else {"any_of": hard}
        nodes: list[Node] = []
        for number, tier in enumerate(self.tiers, start=1):
            step = replace(tier, into=self.into, tier=number)
            nodes.append(step if number == 1 else When(step, conditions))
            if self.wer is not None:
                nodes.append(Wer(reference=self.reference, hypothesis=self.into, prefix=prefix))
        return nodes
