"""`ensemble`: several models side by side, and one text out of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from auricle.curation.choosing import Facts
from auricle.curation.graph import Branches, Composite, Node
from auricle.curation.step import refuse_unused
from auricle.curation.steps.select import Select
from auricle.curation.steps.transcribe import Transcribe
from auricle.curation.steps.vote import Vote
from auricle.errors import ConfigError

How = Literal["vote", "confidence", "agreement", "wer"]


@dataclass(frozen=True)
class Ensemble(Composite):
    """Branches of `transcribe`, one a model, merged by `vote` or by `select`.

    Each model's text stays under `pred_NAME`, with its confidence.

    Args:
        models: Name to model, each as in `transcribe`; of equals the first counts.
        by: "vote" makes a text word by word; the others take the best model's whole text, see
            `select`.
        into: The key of the text.
        reference: For `wer`.
    """

    models: Mapping[str, Transcribe]
    by: How = "vote"
    into: str = "pred_text"
    reference: str = "text"

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ConfigError(f"models must be two or more, not {len(self.models)}")
        if self.by not in get_args(How):
            raise ConfigError(f"by is {self.by!r}; use {', '.join(get_args(How))}")
        if self.by != "wer":
            refuse_unused(self, ["reference"], f"by {self.by}")
        for model in self.models.values():
            refuse_unused(model, ["into"], "in an ensemble: its texts go to pred_NAME")

    @property
    def unsettled(self) -> bool:
        """Whether a model must still be chosen."""
        return any(model.unsettled for model in self.models.values())

    def settled(self, facts: Facts) -> tuple[Ensemble, str]:
        """The same with models that suit the rows, and why those."""
        found = {name: model.settled(facts) for name, model in self.models.items()}
        reasons = [f"{name}: {why}" for name, (_, why) in found.items() if why]
        return replace(self, models={n: m for n, (m, _) in found.items()}), "; ".join(reasons)

    def nodes(self) -> Sequence[Node]:
        """The branches, and what merges their texts."""
        keys = {name: f"pred_{name}" for name in self.models}
        ways: dict[str, Sequence[Node]] = {}
        for name, model in self.models.items():
            words = model.timestamps or self.by == "vote"  # which weighs each word by itself
            ways[name] = [replace(model, into=keys[name], timestamps=words)]
        merged: Node
        if self.by == "vote":
            merged = Vote(tuple(keys.values()), into=self.into)
        else:
            merged = Select(
                tuple(keys.values()), by=self.by, into=self.into, reference=self.reference
            )
        return [Branches(ways), merged]
