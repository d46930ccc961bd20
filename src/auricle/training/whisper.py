"""Whisper as the loop trains it: the loss of its text, its greedy decoding, its saved form.

The networks are transformers'; they stand on no path that is not the loop's of every other model.

Letters in shapes: B batch, M mel bins, T frames, P encoder positions, D width, L tokens of the
prompt, U tokens of the text with its end, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auricle.checkpoints.whisper_model import (
    POSITIONS,
    WhisperCheckpoint,
    build_whisper,
    shortened,
)
from auricle.engines.whisper_facts import HOP, SAMPLE_RATE
from auricle.errors import ConfigError
from auricle.tokenizers import Tokenizer
from auricle.training.adapting import adapt
from auricle.training.alignment import ModelFacts
from auricle.training.augment import Waveform
from auricle.training.estimate import TOKENS
from auricle.training.items import Batch
from auricle.training.progress import Progress
from auricle.training.recipe import ModelRecipe, Recipe, TextStyle
from auricle.training.recomputing import recompute_layers
from auricle.training.spec_augment import SpecAugment
from auricle.training.texts import normalise
from auricle.training.whisper_data import (
    FRAMES_PER_POSITION,
    WhisperLoading,
    WhisperMel,
    WhisperTokenizer,
    prompt_config,
    prompts,
    shifted,
    window_of,
)

HEAD = "whisper"
_PROMPT = 4  # tokens before the text at most
_SPARE = 16  # tokens that a short window may have besides its share of those of 30 s


class WhisperObjective(nn.Module):
    """The cross-entropy of a text's tokens and of its end, and what the model would have written.

    Args:
        model: transformers' WhisperForConditionalGeneration.
        start: Says what stands before the text, and what is never written.
        style: How transcripts are written; what the model writes is compared in that style.
        spec_augment: Masks features in training.
    """

    heads = (HEAD,)
    default_head = HEAD
    never: Tensor  # [V], what is not written, and not as the first token
    never_first: Tensor
    layers = ("WhisperEncoderLayer", "WhisperDecoderLayer")
    drops_layers = False

    def __init__(
        self,
        model: Any,
        start: WhisperCheckpoint,
        style: TextStyle | None = None,
        spec_augment: SpecAugment | None = None,
    ) -> None:
        super().__init__()
        self.model, self.spec_augment = model, spec_augment
        self.encoded = False  # whether batches hold encodings in place of mels
        self._start, self._style = start, style
        self._end = start.special["<|endoftext|>"]
        size = model.config.vocab_size
        never, first = torch.arange(size) > self._end, torch.zeros(size, dtype=torch.bool)
        never[start.generation.get("suppress_tokens") or []] = True
        first[start.generation.get("begin_suppress_tokens") or []] = True
        self.register_buffer("never", never, persistent=False)
        self.register_buffer("never_first", first, persistent=False)

    def forward(
        self,
        features: Tensor,
        frames: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        prompt: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The sum over the batch's tokens, to be divided by what all batches of a step count.

        Args:
            features: Mels [B, M, T], or encodings [B, D, P] where they are made before.
            frames: Of each utterance [B], for the masks.
            tokens: [B, U], with the end of each text.
            lengths: Tokens of each utterance [B].
            prompt: The tokens of languages [B], for multilingual models.
        """
        if self.training and self.spec_augment is not None:
            features = self.spec_augment(features, frames)
        return self.losses(self.encoded_from(features), tokens, lengths, prompt)

    def encoded_from(self, features: Tensor) -> Tensor:
        """Encodings [B, P, D]; mels that are shorter than the window are padded with silence."""
        if self.encoded:
            return features.transpose(1, 2)
        frames = self.model.config.max_source_positions * FRAMES_PER_POSITION
        silence = float(features.min()) if features.shape[2] < frames else 0.0
        padded = F.pad(features, (0, frames - features.shape[2]), value=silence)
        encodings: Tensor = self.model.model.encoder(padded).last_hidden_state
        return encodings

    def losses(
        self, encodings: Tensor, tokens: Tensor, lengths: Tensor, prompt: Tensor | None
    ) -> dict[str, Tensor]:
        """`forward` from encodings [B, P, D] on."""
        before = prompts(self._start, prompt, len(tokens)).to(tokens.device)  # [B, L]
        inputs, labels = shifted(before, tokens, lengths, self._end)
        decoder = self.model.model.decoder
        states = decoder(
            input_ids=inputs, encoder_hidden_states=encodings, use_cache=False
        ).last_hidden_state  # [B, L + U - 1, D]
        asked = before.shape[1] - 1  # what follows the prompt is learnt, not the prompt
        logits = self.model.proj_out(states[:, asked:][:, : tokens.shape[1]])  # [B, U, V]
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(), labels[:, asked:].flatten(), reduction="sum"
        )
        return {"loss": loss}

    @torch.no_grad()
    def judged(
        self, batch: Batch, tokenizer: Tokenizer
    ) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
        """The losses of a batch, and the texts that each head hears in it."""
        encodings = self.encoded_from(batch.features)
        losses = self.losses(encodings, batch.tokens, batch.lengths, batch.prompt)
        rows = self.greedy(encodings, batch.prompt)
        texts = [normalise(tokenizer.decode(row).strip(), self._style) for row in rows]
        return losses, {HEAD: texts}

    @torch.no_grad()
    def greedy(self, encodings: Tensor, prompt: Tensor | None) -> list[list[int]]:
        """The tokens of encodings [B, P, D], without times, without the end."""
        config = self._start.config
        share = encodings.shape[1] / config["max_source_positions"]
        most = int(min(1.0, share) * self.model.config.max_target_positions) + _SPARE
        inputs = prompts(self._start, prompt, len(encodings)).to(encodings.device)  # [B, L]
        most = min(most, self.model.config.max_target_positions - inputs.shape[1])
        past, chosen = None, list[Tensor]()
        done = torch.zeros(len(encodings), dtype=torch.bool, device=encodings.device)
        never = self.never | self.never_first
        # Ranks that hold pieces of the layers take as many steps as each other.
        alone = not any(hasattr(p, "full_tensor") for p in self.model.parameters())
        while len(chosen) < most and not (alone and done.all()):
            output = self.model.model.decoder(
                input_ids=inputs,
                encoder_hidden_states=encodings,
                past_key_values=past,
                use_cache=True,
            )
            past = output.past_key_values
            logits = self.model.proj_out(output.last_hidden_state[:, -1])  # [B, V]
            token = logits.masked_fill(never, -torch.inf).argmax(dim=1)
            token = token.masked_fill(done, self._end)
            done |= token == self._end
            chosen.append(token)
            inputs, never = token[:, None], self.never
        columns = torch.stack(chosen, dim=1).tolist()  # [B, U]
        return [[token for token in row if token != self._end] for row in columns]


@dataclass(frozen=True)
class WhisperTrainee:
    """A Whisper for the loop: see `trainee.Trainee`."""

    start: WhisperCheckpoint
    base: str
    objective: WhisperObjective
    tokenizer: WhisperTokenizer
    recipe: Recipe
    said: Callable[[str], None]

    @property
    def facts(self) -> ModelFacts:
        """Steps are the encoder's positions."""
        return ModelFacts(
            (HEAD,),
            lambda seconds: round(seconds * SAMPLE_RATE) // (HOP * FRAMES_PER_POSITION),
            prompt_config(self.start),
        )

    def loading(self, *, training: bool) -> WhisperLoading:
        """How items become batches; of a frozen encoder, without any change, its encodings."""
        recipe, config = self.recipe, self.objective.model.config
        sound = Waveform(recipe.augment, SAMPLE_RATE)
        self.objective.encoded = self._hears_the_same(sound)
        if training:
            once = ", and encoded once: the encoder is frozen" * self.objective.encoded
            self.said(f"sound is heard in windows of {self.window:g} s{once}")
        return WhisperLoading(
            WhisperMel(config.num_mel_bins, config.max_source_positions * FRAMES_PER_POSITION),
            self.tokenizer,
            augmentation=sound if training and sound.changes else None,
            prompt=prompt_config(self.start),
            invalid=recipe.data.invalid,
            most_tokens=config.max_target_positions - _PROMPT,
            width=config.d_model,
            encode=self._encode if self.objective.encoded else None,
        )

    @property
    def window(self) -> float:
        """What the encoder hears at once."""
        positions = int(self.objective.model.config.max_source_positions)
        return positions * FRAMES_PER_POSITION * HOP / SAMPLE_RATE

    @property
    def workspace(self) -> int:
        """None."""
        return 0

    def noise(self, clips: int, seconds: float) -> tuple[Tensor | None, ...]:
        """Mels, or encodings where those are made before."""
        config, prompt = self.objective.model.config, prompt_config(self.start)
        positions, tokens = int(config.max_source_positions), max(1, int(seconds * TOKENS))
        if self.objective.encoded:
            heard = torch.randn(clips, config.d_model, positions)
        else:
            heard = torch.randn(clips, config.num_mel_bins, positions * FRAMES_PER_POSITION)
        languages = None if prompt is None else torch.full((clips,), min(prompt.languages.values()))
        return (
            heard,
            torch.full((clips,), positions * FRAMES_PER_POSITION),
            torch.randint(self.tokenizer.end, (clips, tokens)),
            torch.full((clips,), tokens),
            languages,
        )

    def _hears_the_same(self, sound: Waveform) -> bool:
        """Whether a clip's encoding never changes, and can be made outside of the objective."""
        encoder = list(self.objective.model.model.encoder.parameters())
        still = not any(p.requires_grad for p in encoder)
        in_pieces = any(hasattr(p, "full_tensor") for p in encoder)  # by FSDP
        masks = self.objective.spec_augment is not None
        return still and not (in_pieces or masks or sound.changes)

    @torch.no_grad()
    def _encode(self, mels: Tensor) -> Tensor:
        encoder = self.objective.model.model.encoder.eval()  # without dropout
        encodings: Tensor = encoder(mels.to(next(encoder.parameters()).device)).last_hidden_state
        return encodings.cpu()


def whisper_trainee(start: WhisperCheckpoint, recipe: Recipe, progress: Progress) -> WhisperTrainee:
    """What is needed to train a Whisper by a recipe.

    Raises:
        ConfigError: The recipe asks for what a Whisper does not have.
    """
    _check(recipe)
    speed, spec = recipe.augment.speed, recipe.augment.spec
    slowest = speed.factors[0] if speed is not None and speed.prob > 0 else 1.0
    whole = int(start.config["max_source_positions"])
    window = window_of(recipe.data.max_seconds, slowest, whole)
    model = build_whisper(start.config, start.tensors)
    if window < whole:
        shortened(model, window)
    if recipe.adapt is not None:
        progress.said(adapt(model, recipe.adapt, seed=recipe.train.seed))
    if recipe.train.gradient_checkpointing:
        recompute_layers([*model.model.encoder.layers, *model.model.decoder.layers])
    light = replace(start, tensors={}, fixed={POSITIONS: start.tensors[POSITIONS]})
    masks = SpecAugment(spec) if spec else None
    objective = WhisperObjective(model, light, recipe.data.text, masks)
    tokenizer = WhisperTokenizer(start)
    return WhisperTrainee(light, start.fingerprint(), objective, tokenizer, recipe, progress.said)


def _check(recipe: Recipe) -> None:
    """Refuse what would be without meaning."""
    if recipe.model != ModelRecipe():
        raise ConfigError("a Whisper brings its own networks: leave model out")
    if recipe.tokenizer is not None:
        raise ConfigError("a Whisper keeps its own tokenizer: set tokenizer to null")
    if recipe.train.average:
        raise ConfigError("train.average is not for Whisper: take train.ema")
