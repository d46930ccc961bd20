"""What the loop must know of a model to train it, and the two kinds of which it is known.

Everything else about a training is the same for both: data, batches, steps, saves, reports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from auricle.checkpoints import Checkpoint
from auricle.checkpoints.whisper_model import WhisperCheckpoint
from auricle.tokenizers import Tokenizer
from auricle.training.alignment import ModelFacts
from auricle.training.estimate import noise_for
from auricle.training.items import Batch
from auricle.training.loading import Loading
from auricle.training.objective import Objective
from auricle.training.recipe import Recipe
from auricle.training.whisper import WhisperObjective

AnyCheckpoint = Checkpoint | WhisperCheckpoint
AnyObjective = Objective | WhisperObjective


class Learner(Protocol):
    """The module that is trained: called with a batch's tensors it gives sums of losses.

    What is saved is its `model`.
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the classes of its layers, which FSDP spreads one by one."""

    @property
    def drops_layers(self) -> bool:
        """Whether a step may leave parameters without a gradient."""

    @property
    def heads(self) -> tuple[str, ...]:
        """What is judged, each by itself."""

    @property
    def default_head(self) -> str:
        """The head whose WER is that of the model."""

    def eval(self) -> Any:
        """Be judged from now on, not trained."""

    def judged(
        self, batch: Batch, tokenizer: Tokenizer
    ) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
        """The losses of a batch, and the texts that each head hears in it."""


class Trainee(Protocol):
    """A model about to be trained."""

    @property
    def start(self) -> AnyCheckpoint:
        """What it was, without its tensors; with those of the end it is what is written."""

    @property
    def base(self) -> str | None:
        """The fingerprint of what it began with, where some of that does not move."""

    @property
    def objective(self) -> AnyObjective:
        """A `Learner`."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Writes the transcripts, and reads what is heard."""

    @property
    def facts(self) -> ModelFacts:
        """What looking at the data must know."""

    @property
    def window(self) -> float | None:
        """The seconds that every clip is padded to; None where it is those of the batch."""

    @property
    def workspace(self) -> int:
        """Bytes that the loss takes for a while, whatever the batch."""

    def loading(self, *, training: bool) -> Loading:
        """How items become batches; in validation nothing is changed in them."""

    def noise(self, clips: int, seconds: float) -> tuple[Tensor | None, ...]:
        """What the objective takes for such a batch, to see what it keeps of it."""


@dataclass(frozen=True)
class AsrTrainee:
    """One of our own networks, of any family and with any heads."""

    whole: Checkpoint
    base: str | None
    objective: Objective
    recipe: Recipe

    @property
    def start(self) -> Checkpoint:
        """The objective has the tensors."""
        return replace(self.whole, tensors={})

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the checkpoint."""
        return self.whole.tokenizer

    @property
    def facts(self) -> ModelFacts:
        """Those of the configuration."""
        return ModelFacts.of(self.whole.config)

    @property
    def window(self) -> None:
        """There is none."""

    @property
    def workspace(self) -> int:
        """The joint network is computed in pieces of this size."""
        transducer = self.whole.config.transducer is not None
        return self.recipe.loss.joint_memory_mb << 20 if transducer else 0

    def loading(self, *, training: bool) -> Loading:
        """With the features that the checkpoint was trained with."""
        return Loading.of(self.whole, self.recipe, training=training)

    def noise(self, clips: int, seconds: float) -> tuple[Tensor | None, ...]:
        """By the configuration."""
        return noise_for(self.whole.config, clips, seconds)
