"""What a training begins with: usable data, a tokenizer, and a model.

The model has fresh numbers, or those of a checkpoint. Either way it is a `Checkpoint`, so that what
follows does not ask which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from auricle import checkpoints
from auricle.checkpoints import Checkpoint, build
from auricle.checkpoints.checkpoint import skeleton
from auricle.checkpoints.whisper import folder_kind
from auricle.checkpoints.whisper_model import load_whisper
from auricle.errors import ConfigError, ManifestError
from auricle.models.asr import ASR, ModelConfig
from auricle.models.conformer import ConformerEncoder
from auricle.recognizer import locate
from auricle.tokenizers import Tokenizer
from auricle.training import tokenizing
from auricle.training.adapting import adapt, own_memory
from auricle.training.alignment import ModelFacts
from auricle.training.architecture import model_config
from auricle.training.checking import check, sifted
from auricle.training.estimate import free_bytes
from auricle.training.objective import Objective
from auricle.training.progress import Progress
from auricle.training.recipe import DataRecipe, ModelRecipe, Recipe
from auricle.training.recomputing import layers_of, recompute_layers
from auricle.training.run import RunFolder
from auricle.training.sources import Source, texts
from auricle.training.spec_augment import SpecAugment
from auricle.training.trainee import AsrTrainee, Trainee
from auricle.training.vocabulary import in_common, remade, with_tokenizer
from auricle.training.whisper import whisper_trainee

EXPORTED_LOSS = ("ctc_weight", "reduction", "sigma", "omega")  # which a .nemo has places for


def tokenizer_of(recipe: Recipe, learnt: Sequence[Source], run: RunFolder) -> Tokenizer:
    """That of the run, where one goes on: the texts may have changed since."""
    assert recipe.tokenizer is not None
    kept = run.path / "tokenizer"
    if run.resumed and kept.exists():
        return tokenizing.open_tokenizer(kept)
    tokenizer = tokenizing.build(texts(learnt), recipe.tokenizer)
    tokenizing.save(tokenizer, kept)
    return tokenizer


def usable(
    learnt: Sequence[Source],
    tokenizer: Tokenizer,
    facts: ModelFacts,
    data: DataRecipe,
    progress: Progress,
) -> list[Source]:
    """The sources without what nothing can be learnt from; streams cannot be looked at before.

    Raises:
        ManifestError: Nothing is left of a source, or the recipe refuses what is bad.
        ConfigError: What it refuses is text that the tokenizer cannot write.
    """
    known = [source for source in learnt if source.size is not None]
    report = check(known, tokenizer, data, facts)
    if known:
        report.refuse()
    if report.dropped:
        progress.said(
            f"{len(report.dropped)} of {report.items} items are left out; --dry-run says why"
        )
    for source in known:
        if source.dropped.faulty:
            progress.said(
                f"{source.name}: {source.dropped.faulty:,} rows are left out "
                f"({source.dropped.examples[0]} ...); --dry-run says why"
            )
    left = [sifted(source, report) for source in learnt]
    for source in left:
        if source.size == 0:
            raise ManifestError(
                f"{source.name}: nothing can be learnt from any of its items; --dry-run says why"
            )
    return left


def trainee_of(recipe: Recipe, tokenizer: Tokenizer | None, progress: Progress) -> Trainee:
    """What the loop trains: the model of `init_from`, or random weights by the recipe's seed.

    A `tokenizer` beside `init_from` takes the place of the model's own.

    Raises:
        ConfigError: The recipe asks for what the model does not have.
    """
    if recipe.init_from is None:
        assert tokenizer is not None
        start = fresh(model_config(recipe.model, len(tokenizer.pieces)), tokenizer, recipe)
    else:
        path = locate(recipe.init_from)
        if folder_kind(path) is not None:
            return whisper_trainee(load_whisper(path, name=recipe.name), recipe, progress)
        start = _begun_from(path, recipe, tokenizer, progress)
    loss = {key: getattr(recipe.loss, key) for key in EXPORTED_LOSS}
    start = replace(start, origin={**start.origin, "loss": loss})
    model, base = trainable(recipe, start, progress)
    spec = recipe.augment.spec
    objective = Objective(model, recipe.loss, SpecAugment(spec) if spec else None)
    return AsrTrainee(start, base, objective, recipe)


def _begun_from(
    path: Path, recipe: Recipe, tokenizer: Tokenizer | None, progress: Progress
) -> Checkpoint:
    if recipe.model != ModelRecipe():
        raise ConfigError(
            "the recipe has both init_from and model; a model to begin from brings its own: "
            "leave model out"
        )
    start = replace(checkpoints.load(path), name=recipe.name)
    if tokenizer is None:
        return start
    progress.said(
        f"new tokenizer: {in_common(start.tokenizer, tokenizer)} of its {len(tokenizer.pieces)} "
        "pieces are the model's too and keep what was learnt of them"
    )
    return with_tokenizer(start, tokenizer, recipe.train.seed)


def keeps_statistics(recipe: Recipe) -> bool:
    """Whether every BatchNorm stays with the mean and variance that it has."""
    frozen = recipe.train.freeze_batch_norm
    return recipe.init_from is not None if frozen is None else frozen


def fresh(config: ModelConfig, tokenizer: Tokenizer, recipe: Recipe) -> Checkpoint:
    """Random weights, the same for the same seed.

    Raises:
        ConfigError: There is no memory for so many.
    """
    _refuse_what_does_not_fit(config, recipe.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        model = ASR(config)
        _initialise(model)
    return Checkpoint(config, tokenizer, model.state_dict(), recipe.name)


def _refuse_what_does_not_fit(config: ModelConfig, name: str) -> None:
    weights = skeleton(config, name).parameters()
    count = sum(weight.numel() for weight in weights)
    free = free_bytes(torch.device("cpu"))
    if free is not None and 4 * count > free:
        raise ConfigError(
            f"{name}: model has {count / 1e9:,.1f} G parameters, which take {4 * count / 1e9:,.0f} "
            f"GB, and {free / 1e9:,.0f} GB of memory are free: make model.encoder smaller"
        )


def _initialise(model: ASR) -> None:
    """Other first numbers than PyTorch's, where they matter.

    Citrinet and its kin have Xavier's, as in NeMo: Novograd's steps are as large as the weights. A
    FastConformer's subsampling has He's, so that layer 1 hears something: with PyTorch's, which
    NeMo takes, what depends on the sound comes out of `dw_striding` at a sixth of what does not
    (noise, RMS), and a small model first learns to hear, for hundreds of steps.
    """
    if isinstance(model.encoder, ConformerEncoder):
        for module in model.encoder.pre_encode.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
    else:
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)


def trainable(recipe: Recipe, start: Checkpoint, progress: Progress) -> tuple[ASR, str | None]:
    """The networks in training mode, as the recipe wants them.

    What moves has memory of its own: a mapped file stays as it is.

    Returns:
        Beside them the fingerprint of `start`, where some of it does not move.
    """
    model = build(start).train()
    if recipe.adapt is not None:
        new = () if recipe.tokenizer is None else remade(start.tensors)
        progress.said(adapt(model, recipe.adapt, remade=new, seed=recipe.train.seed))
    own_memory(model)
    if recipe.train.gradient_checkpointing:
        recompute_layers(layers_of(model))
    whole = all(parameter.requires_grad for parameter in model.parameters())
    return model, None if whole else start.fingerprint()
