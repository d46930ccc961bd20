"""A model with an adapter beside its weights is the model with the adapter in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auricle.checkpoints import build, load
from auricle.checkpoints.adapters import merged
from auricle.errors import ConfigError
from auricle.models.adapted import adapted
from auricle.models.asr import optimise
from tests.checkpoints.goldens import HUGGINGFACE, nemo
from tests.checkpoints.random_adapters import error, outputs, random_adapter

MODELS = [
    *HUGGINGFACE,
    *(nemo(name) for name in ("citrinet", "conformer_ctc", "local_global_ctc", "prompt_hybrid")),
    *(nemo(name) for name in ("hybrid_tdt_ctc", "streaming_tdt", "stateless_rnnt")),
]


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_beside_the_weights_is_as_in_them(path: Path, dora: bool) -> None:
    checkpoint = load(path)
    adapter = random_adapter(checkpoint, dora=dora)
    plain = build(checkpoint)
    wanted = outputs(build(merged(checkpoint, adapter)))
    for model in (plain, optimise(plain)):
        before = outputs(model)  # and what it remembers is not the adapted model's
        assert error(before, wanted) > 0.05
        assert error(outputs(adapted(model, adapter.tensors, adapter.scale)), wanted) < 1e-5
        assert error(outputs(model), before) == 0.0


def test_merging_in_half_precision_rounds_once() -> None:
    checkpoint = load(HUGGINGFACE[-1])
    adapter = random_adapter(checkpoint, ["encoder.layers.0.self_attn.linear_q"])
    lora = adapter.tensors["encoder.layers.0.self_attn.linear_q"]
    weight = checkpoint.tensors["encoder.layers.0.self_attn.linear_q.weight"].bfloat16()
    changed = lora.merged(weight, adapter.scale)
    assert changed.dtype == torch.bfloat16
    assert torch.equal(changed, lora.merged(weight.float(), adapter.scale).bfloat16())


def test_in_half_precision_it_works_too() -> None:
    checkpoint = load(HUGGINGFACE[-1])
    adapter = random_adapter(checkpoint, dora=True)
    half = optimise(build(checkpoint, dtype=torch.bfloat16))
    ours = outputs(adapted(half, adapter.tensors, adapter.scale))
    wanted = outputs(build(merged(checkpoint, adapter)))
    assert error([x.float() for x in ours], wanted) < 0.1
    with pytest.raises(ConfigError, match="nothing to save"):
        adapted(half, adapter.tensors, adapter.scale).state_dict()


def test_only_what_is_changed_is_new() -> None:
    model = optimise(build(load(HUGGINGFACE[-1])))
    adapter = random_adapter(load(HUGGINGFACE[-1]), ["encoder.layers.1.feed_forward1.linear1"])
    twin = adapted(model, adapter.tensors, adapter.scale)
    new = {name for name, module in twin.named_modules() if module not in set(model.modules())}
    layer = "encoder.layers.1.feed_forward1"
    assert new == {"", "encoder", "encoder.layers", "encoder.layers.1", layer, f"{layer}.linear1"}
    assert twin.encoder.layers[0] is model.encoder.layers[0]
