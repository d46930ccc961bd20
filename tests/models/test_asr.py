from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from auricle.errors import ConfigError
from auricle.features import LogMelConfig
from auricle.models import optimising
from auricle.models.asr import ASR, ModelConfig, PromptConfig, TransducerConfig, optimise
from auricle.models.heads import JointConfig, PredictorConfig
from auricle.models.packed import PackedLinear
from tests.models import test_conformer, test_jasper
from tests.models.lively import difference, lively

FEATURES = LogMelConfig(n_mels=13, n_fft=256, win_length=200)
CONFORMER = test_conformer.SMALL
JASPER = test_jasper.JasperConfig(13, test_jasper.STACKS["citrinet"])
TRANSDUCER = TransducerConfig(
    PredictorConfig(20, 12, layers=2), JointConfig(16, 12, 10, 24), durations=(0, 1, 2)
)
CTC = ModelConfig(FEATURES, CONFORMER, 20, ctc=True, transducer=None)
HYBRID = replace(CTC, transducer=TRANSDUCER, default_head="tdt")
PROMPTED = replace(HYBRID, prompt=PromptConfig(4, {"en": 0, "es": 3}))
CITRINET = replace(CTC, encoder=JASPER)
CONFIGS = {"ctc": CTC, "hybrid": HYBRID, "prompted": PROMPTED, "citrinet": CITRINET}


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 8000, generator=generator), torch.tensor([8000, 5000, 900])


def encode(model: ASR) -> tuple[torch.Tensor, torch.Tensor]:
    prompt = torch.tensor([0, 3, 3]) if model.config.prompt else None
    with torch.no_grad():
        return model.encode(*clips(), prompt=prompt)


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_survive_json(name):
    config = CONFIGS[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def changed(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *folders, key = path.split(".")
    section = data
    for folder in folders:
        section = section[int(folder)] if isinstance(section, list) else section[folder]
    section[key] = value
    return data


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("vocab", "unknown configuration key vocab; nearest is vocab_size"),
        ("encoder.n_layer", "encoder.n_layer; nearest is n_layers"),
        ("features.mels", "features.mels; nearest is n_mels"),
        ("transducer.joint.hiden", "transducer.joint.hiden; nearest is hidden"),
        ("transducer.duration", "transducer.duration; nearest is durations"),
        ("prompt.language", "prompt.language; nearest is languages"),
        ("encoder.kind", "encoder.kind 3 is neither conformer nor jasper"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest(path, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(changed(PROMPTED.to_dict(), path, 3))


def test_missing_and_deep_keys():
    data = CITRINET.to_dict()
    del data["vocab_size"]
    with pytest.raises(ConfigError, match="vocab_size"):
        ModelConfig.from_dict(data)
    data = changed(CITRINET.to_dict(), "encoder.blocks.1.filter", 3)
    with pytest.raises(ConfigError, match=r"encoder\.blocks\.1\.filter; nearest is filters"):
        ModelConfig.from_dict(data)


def test_heads():
    assert CTC.heads == ("ctc",)
    assert HYBRID.heads == ("ctc", "tdt")
    rnnt = replace(TRANSDUCER, durations=(), joint=JointConfig(16, 12, 10, 21))
    assert replace(HYBRID, transducer=rnnt, default_head="rnnt").heads == ("ctc", "rnnt")
    with pytest.raises(ConfigError, match="default_head 'rnnt'"):
        replace(HYBRID, default_head="rnnt")


def test_names_in_a_saved_model():
    names = {name.split(".")[0] for name in ASR(PROMPTED).state_dict()}
    assert names == {"features", "encoder", "ctc", "predictor", "joint", "prompt_kernel"}
    assert ASR(HYBRID).seconds_per_step == 0.04
    assert ASR(HYBRID).blank_id == 20


@pytest.mark.parametrize("name", CONFIGS)
def test_the_optimised_model_computes_the_same(name):
    model = lively(ASR(CONFIGS[name]))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    faster = optimise(model)
    encodings, steps = encode(model)
    got, got_steps = encode(faster)
    assert got_steps.tolist() == steps.tolist()
    for a, b, n in zip(got, encodings, steps.tolist(), strict=True):
        assert difference(a[:n], b[:n]) < 1e-5
    with torch.no_grad():
        assert model.ctc is not None
        assert faster.ctc is not None
        assert difference(faster.ctc(encodings), model.ctc(encodings)) < 1e-5
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("name", [*test_conformer.CONFIGS])
def test_every_conformer_can_be_optimised(name):
    encoder = replace(CONFORMER, **test_conformer.CONFIGS[name])
    model = lively(ASR(replace(CTC, encoder=encoder)))
    encodings, steps = encode(model)
    got, _ = encode(optimise(model))
    for a, b, n in zip(got, encodings, steps.tolist(), strict=True):
        assert difference(a[:n], b[:n]) < 1e-5


@pytest.mark.parametrize("name", [*test_jasper.STACKS])
@pytest.mark.parametrize("mask", [False, True])
def test_every_jasper_can_be_optimised(name, mask):
    encoder = test_jasper.JasperConfig(8, test_jasper.STACKS[name], conv_mask=mask)
    model = lively(ASR(replace(CTC, encoder=encoder, features=replace(FEATURES, n_mels=8))))
    encodings, steps = encode(model)
    got, _ = encode(optimise(model))
    for a, b, n in zip(got, encodings, steps.tolist(), strict=True):
        assert difference(a[:n], b[:n]) < 1e-5


def test_optimising_folds_fuses_and_packs():
    faster = optimise(lively(ASR(HYBRID)))
    layer = faster.encoder.layers[0]
    assert isinstance(layer.conv.batch_norm, torch.nn.Identity)
    assert isinstance(layer.self_attn.linear_qkv, PackedLinear)
    assert isinstance(layer.feed_forward1.linear1, PackedLinear)
    assert faster.predictor is not None
    assert faster.predictor.table.shape == (21, 48)
    assert "TimeConv" in repr(faster)


def test_distances_are_projected_once(monkeypatch):
    faster = optimise(lively(ASR(CTC)))
    first, _ = encode(faster)
    attention = faster.encoder.layers[0].self_attn
    monkeypatch.setattr(attention, "linear_pos", None)  # to project again would now fail
    assert torch.equal(encode(faster)[0], first)


def test_without_onednn_plain_products_stay(monkeypatch):
    monkeypatch.setattr(optimising, "can_pack", lambda weight: False)
    model = lively(ASR(HYBRID))
    faster = optimise(model)
    assert isinstance(faster.encoder.layers[0].self_attn.linear_qkv, torch.nn.Linear)
    assert difference(encode(faster)[0], encode(model)[0]) < 1e-5


def test_optimised_models_are_for_inference_where_they_are():
    with pytest.raises(ConfigError, match="training"):
        optimise(ASR(CTC).train())
    faster = optimise(ASR(CTC).eval())
    with pytest.raises(ConfigError, match="save the one it was made from"):
        faster.state_dict()
    with pytest.raises(ConfigError, match="move it first"):
        faster.to(torch.bfloat16)
    faster.to("cpu")
    assert not any(weight.requires_grad for weight in faster.parameters())


@pytest.mark.parametrize("fast", [False, True])
def test_half_precision_comes_close(fast):
    model = lively(ASR(CTC))
    expected, steps = encode(model)
    half = lively(ASR(CTC)).to(torch.bfloat16)
    assert half.features.window.dtype == torch.float32
    assert torch.equal(half.features.filterbank, model.features.filterbank)
    got, _ = encode(optimise(half) if fast else half)
    assert got.dtype == torch.bfloat16
    for a, b, n in zip(got.float(), expected, steps.tolist(), strict=True):
        assert difference(a[:n], b[:n]) < 0.1


def test_prompts():
    model = lively(ASR(PROMPTED))
    samples, lengths = clips()
    with torch.no_grad():
        english, _ = model.encode(samples, lengths, prompt=torch.tensor([0, 0, 0]))
        mixed, _ = model.encode(samples, lengths, prompt=torch.tensor([0, 3, 3]))
        features, frames = model.features(samples, lengths)
        bare, _ = model.encoder(features, frames)
    assert torch.equal(english[0], mixed[0])
    assert not torch.allclose(english[1], mixed[1], atol=1e-3)
    assert model.prompt_kernel is not None
    shown = torch.cat([bare[1], torch.eye(4)[3].expand(bare.shape[1], 4)], dim=-1)
    assert torch.allclose(model.prompt_kernel(shown), mixed[1], atol=1e-5)
    with pytest.raises(ConfigError, match="needs a prompt"):
        model.encode(samples, lengths)
    with pytest.raises(ConfigError, match="takes no prompt"):
        ASR(CTC).encode(samples, lengths, prompt=torch.tensor([0, 0, 0]))


def test_one_model_serves_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    faster = optimise(lively(ASR(CTC)))
    generator = torch.Generator().manual_seed(0)
    sizes = [900, 8000, 100_000, 400_000, 3000, 16000] * 3
    batches = [torch.randn(1, n, generator=generator) for n in sizes]

    def run(samples: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return faster.encode(samples, torch.tensor([samples.shape[1]]))[0]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, batches))
    for samples, got in zip(batches, together, strict=True):
        assert difference(got, run(samples)) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"conv_norm_type": "instance_norm"},
        {"conv_norm_type": "group_norm4"},
        {"subsampling": "stacking"},
    ],
    ids=str,
)
def test_rows_of_models_that_hear_padding_are_encoded_alone(options):
    model = lively(ASR(replace(CTC, encoder=replace(CONFORMER, **options))))
    samples, lengths = clips()
    encodings, steps = encode(model)
    for row, length, out, n in zip(samples, lengths, encodings, steps.tolist(), strict=True):
        with torch.no_grad():
            alone, count = model.encode(row[None, :length], length[None])
        assert count.tolist() == [n]
        assert torch.equal(out[:n], alone[0, :n])
