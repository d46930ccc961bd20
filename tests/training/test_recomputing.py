"""Layers computed twice learn what layers computed once learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.checkpoints import build, load
from auricle.models.asr import ASR
from auricle.training.objective import Objective
from auricle.training.recipe import LossRecipe
from auricle.training.recomputing import layers_of, recompute_layers, uncounted
from tests.checkpoints.goldens import nemo

MODELS = ("hybrid_tdt_ctc", "citrinet", "jasper_dense_char", "local_global_ctc", "streaming_hybrid")


def learnt(name: str, *, twice: bool, frozen: bool = False) -> tuple[ASR, Tensor]:
    model = build(load(nemo(name))).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    model.encoder.layers[0].requires_grad_(False) if frozen else None  # type: ignore[union-attr, operator]
    if twice:
        recompute_layers(layers_of(model))
    torch.manual_seed(0)
    features = torch.randn(2, model.config.features.n_mels, 240)
    tokens = torch.randint(0, model.config.vocab_size, (2, 4))
    objective = Objective(model, LossRecipe())
    lengths = torch.tensor([4, 3])
    loss = objective(features, torch.tensor([240, 190]), tokens, lengths)["loss"]
    loss.backward()
    return model, loss


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_statistics_are_the_same(name: str) -> None:
    """With dropout, whose masks must be those of the first pass."""
    (once, loss), (twice, other) = (learnt(name, twice=t) for t in (False, True))
    assert torch.equal(loss, other)
    for (key, ours), theirs in zip(twice.named_parameters(), once.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, key
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-7)
    for (key, ours), theirs in zip(twice.named_buffers(), once.buffers(), strict=True):
        assert torch.equal(ours, theirs), key
    counts = [b for n, b in twice.named_buffers() if n.endswith("num_batches_tracked")]
    started = load(nemo(name)).tensors
    before = [started[n] for n, _ in twice.named_buffers() if n.endswith("num_batches_tracked")]
    assert [int(c) for c in counts] == [int(b) + 1 for b in before]


def test_below_frozen_layers() -> None:
    (once, _), (twice, _) = (learnt("hybrid_tdt_ctc", twice=t, frozen=True) for t in (False, True))
    for (key, ours), theirs in zip(twice.named_parameters(), once.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None) == ("layers.0." in key), key


def test_less_is_kept() -> None:
    kept = []
    for twice in (False, True):
        model = build(load(nemo("fastconformer_ctc"))).train()
        if twice:
            recompute_layers(layers_of(model))
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.encode_features(torch.randn(1, 80, 800), torch.tensor([800]))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_statistics_stay_and_the_mode_comes_back() -> None:
    norm = torch.nn.BatchNorm1d(3)
    with uncounted(norm):
        norm(torch.randn(5, 3))
    assert torch.equal(norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]
    assert int(norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    norm(torch.randn(5, 3))
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]
