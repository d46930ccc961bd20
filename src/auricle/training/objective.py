"""What a step of training minimises: from the features of a batch to the sum of its losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auricle.decoding import ctc, transducer
from auricle.decoding.times import decode_text
from auricle.models.asr import ASR
from auricle.tokenizers import Tokenizer
from auricle.training.items import Batch
from auricle.training.losses import ctc_loss, transducer_loss
from auricle.training.recipe import LossRecipe


class Objective(nn.Module):
    """The losses of a model's heads; the module that a loop wraps for many devices.

    Every parameter takes part in every loss, if need be with a gradient of 0, so that ranks that
    draw differently stay in step.
    """

    layers = ("ConformerLayer", "JasperBlock")

    def __init__(self, model: ASR, loss: LossRecipe, spec_augment: nn.Module | None = None) -> None:
        super().__init__()
        self.model, self.loss, self.spec_augment = model, loss, spec_augment
        self.heads, self.default_head = model.heads, model.config.default_head
        self.drops_layers = getattr(model.config.encoder, "stochastic_depth_drop_prob", 0.0) > 0

    def forward(
        self,
        features: Tensor,
        frames: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        prompt: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Sums over the batch, to be divided by what all batches of a step count.

        Args:
            features: [B, M, T].
            frames: Of each utterance [B].
            tokens: [B, U], padded with any token.
            lengths: Tokens of each utterance [B].
            prompt: The number of each utterance's language [B], for models with a prompt.

        Returns:
            "loss", the sum to minimise, and without gradients that of each head by its name.
        """
        if self.training and self.spec_augment is not None:
            features = self.spec_augment(features, frames)
        encodings, steps = self.model.encode_features(features, frames, prompt=prompt)
        return self.losses(encodings, steps, tokens, lengths)

    def losses(
        self, encodings: Tensor, steps: Tensor, tokens: Tensor, lengths: Tensor
    ) -> dict[str, Tensor]:
        """`forward` from encodings [B, T, D] and their lengths [B] on."""
        sums: dict[str, Tensor] = {}
        if self.model.ctc is not None:
            sums["ctc"] = ctc_loss(self.model.ctc(encodings), tokens, steps, lengths).sum()
        if self.model.config.transducer is not None:
            losses = self._transducer(encodings, tokens, steps, lengths)
            sums[self.model.heads[-1]] = losses.sum()
        heads = {head: value.detach() for head, value in sums.items()}
        return {"loss": self._weighted(sums), **heads}

    @torch.no_grad()
    def judged(
        self, batch: Batch, tokenizer: Tokenizer
    ) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
        """The losses of a batch, and the texts that each head hears in it, greedily."""
        encodings, steps = self.model.encode_features(
            batch.features, batch.frames, prompt=batch.prompt
        )
        losses = self.losses(encodings, steps, batch.tokens, batch.lengths)
        return losses, {head: self._texts(head, encodings, steps, tokenizer) for head in self.heads}

    def _texts(
        self, head: str, encodings: Tensor, steps: Tensor, tokenizer: Tokenizer
    ) -> list[str]:
        if head == "ctc":
            assert self.model.ctc is not None
            hypotheses, _ = ctc.greedy(self.model.ctc(encodings), steps)
        else:
            networks = transducer.of(self.model)
            assert networks is not None
            hypotheses, _ = transducer.greedy(networks, encodings, steps)
        return [decode_text(hypothesis.ids, tokenizer)[0] for hypothesis in hypotheses]

    def _weighted(self, sums: dict[str, Tensor]) -> Tensor:
        if len(sums) == 1:
            return next(iter(sums.values()))
        share = self.loss.ctc_weight
        return sum(
            ((share if head == "ctc" else 1.0 - share) * value for head, value in sums.items()),
            start=torch.zeros_like(sums["ctc"]),
        )

    def _transducer(
        self, encodings: Tensor, tokens: Tensor, steps: Tensor, lengths: Tensor
    ) -> Tensor:
        """RNNT or TDT losses [B]."""
        model, recipe = self.model, self.loss
        assert model.config.transducer is not None
        assert model.predictor is not None
        assert model.joint is not None
        durations = model.config.transducer.durations
        blank = tokens.new_full((len(tokens), 1), model.blank_id)
        predictions, _ = model.predictor(torch.cat([blank, tokens], dim=1))  # [B, U + 1, P]
        return transducer_loss(
            model.joint,
            encodings,
            predictions,
            tokens,
            steps,
            lengths,
            durations=durations,
            sigma=recipe.sigma,
            as_rnnt=bool(durations) and self._drawn(recipe.omega),
            joint_memory_mb=recipe.joint_memory_mb,
        )

    def _drawn(self, chance: float) -> bool:
        """Whether this batch trains a TDT as an RNNT; a validation never does, to be comparable."""
        return self.training and float(torch.rand(())) < chance
