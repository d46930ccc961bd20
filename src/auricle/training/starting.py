"""The model that a training begins with: fresh numbers, or those of a checkpoint.

Either way it is a `Checkpoint`, so that what follows does not ask which.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from auricle import checkpoints, hub
from auricle.checkpoints import Checkpoint, build
from auricle.errors import ConfigError
from auricle.models.asr import ASR, ModelConfig
from auricle.tokenizers import Tokenizer
from auricle.training.architecture import model_config
from auricle.training.recipe import ModelRecipe, Recipe, TokenizerRecipe


def beginning(recipe: Recipe, tokenizer: Tokenizer | None) -> Checkpoint:
    """The checkpoint to train: `init_from`, or random weights for `tokenizer` by the recipe's seed.

    Raises:
        ConfigError: The recipe asks for another architecture or tokenizer than `init_from` has.
    """
    if recipe.init_from is None:
        assert tokenizer is not None
        return fresh(model_config(recipe.model, len(tokenizer.pieces)), tokenizer, recipe)
    for key, default in (("model", ModelRecipe()), ("tokenizer", TokenizerRecipe())):
        if getattr(recipe, key) != default:
            raise ConfigError(
                f"the recipe has both init_from and {key}; a model to begin from brings its own: "
                f"leave {key} out"
            )
    path = hub.resolve(recipe.init_from)
    return replace(checkpoints.load(path), name=recipe.name)


def fresh(config: ModelConfig, tokenizer: Tokenizer, recipe: Recipe) -> Checkpoint:
    """Random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        tensors = ASR(config).state_dict()
    return Checkpoint(config, tokenizer, tensors, recipe.name)


def trainable(checkpoint: Checkpoint) -> ASR:
    """The networks in training mode, with memory of their own: a mapped file stays as it is."""
    own = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
    return build(replace(checkpoint, tensors=own)).train()
