from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from auricle.features import LogMelConfig
from auricle.models.asr import ASR, ModelConfig, TransducerConfig
from auricle.models.conformer import ConformerConfig
from auricle.models.heads import JointConfig, PredictorConfig
from auricle.training.losses import ctc_loss, transducer_loss
from auricle.training.objective import Objective
from auricle.training.recipe import LossRecipe

VOCABULARY, WIDTH = 12, 16
TDT = (0, 1, 2)


def model(*heads: str, dropout: float = 0.0, **predictor) -> ASR:
    torch.manual_seed(0)
    drops = dict.fromkeys(("dropout", "dropout_pre_encoder", "dropout_emb"), dropout)
    encoder = ConformerConfig(
        feat_in=20,
        n_layers=1,
        d_model=WIDTH,
        n_heads=2,
        subsampling="dw_striding",
        subsampling_conv_channels=8,
        conv_kernel_size=5,
        conv_norm_type="layer_norm",
        **drops,
    )
    durations = TDT if "tdt" in heads else ()
    transducer = TransducerConfig(
        PredictorConfig(VOCABULARY, WIDTH, dropout=dropout, **predictor),
        JointConfig(WIDTH, WIDTH, WIDTH, VOCABULARY + 1 + len(durations), dropout=dropout),
        durations,
    )
    config = ModelConfig(
        features=LogMelConfig(n_mels=20),
        encoder=encoder,
        vocab_size=VOCABULARY,
        ctc="ctc" in heads,
        transducer=transducer if {"rnnt", "tdt"} & set(heads) else None,
        default_head=heads[0],
    )
    return ASR(config)


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "features": torch.randn(3, 20, 64),
        "frames": torch.tensor([64, 40, 50]),
        "tokens": torch.randint(0, VOCABULARY, (3, 5)),
        "lengths": torch.tensor([5, 2, 0]),
    }


@pytest.mark.parametrize("heads", [("ctc",), ("rnnt",), ("tdt",), ("rnnt", "ctc"), ("tdt", "ctc")])
@pytest.mark.parametrize("kind", ["lstm", "stateless"])
def test_the_loss_is_the_weighted_sum_of_the_heads(heads, kind):
    asr, x = model(*heads, kind=kind), batch()
    recipe = LossRecipe(ctc_weight=0.25, sigma=0.1, omega=0.0)
    found = Objective(asr, recipe)(**x)
    encodings, steps = asr.encode_features(x["features"], x["frames"])
    details = x["tokens"], steps, x["lengths"]
    expected = {}
    if asr.ctc is not None:
        expected["ctc"] = ctc_loss(asr.ctc(encodings), *details).sum()
    if asr.predictor is not None:
        start = torch.full((3, 1), VOCABULARY)
        predictions, _ = asr.predictor(torch.cat([start, x["tokens"]], 1))
        durations = TDT if "tdt" in heads else ()
        options = {"durations": durations, "sigma": 0.1} if durations else {}
        losses = transducer_loss(asr.joint, encodings, predictions, *details, **options)
        expected[heads[0]] = losses.sum()
    weights = {"ctc": 0.25} | dict.fromkeys(("rnnt", "tdt"), 0.75) if len(heads) > 1 else {}
    total = sum(weights.get(head, 1.0) * value for head, value in expected.items())
    assert found.keys() == {"loss", *heads}
    torch.testing.assert_close(found["loss"], total)
    for head, value in expected.items():
        torch.testing.assert_close(found[head], value.detach())
        assert not found[head].requires_grad
    found["loss"].backward()
    assert all(weight.grad is not None for weight in asr.parameters())
    assert all(weight.grad.isfinite().all() for weight in asr.parameters())


def test_omega_is_the_chance_of_the_rnnt_loss_in_training_alone():
    asr, x = model("tdt"), batch()
    always, never = (Objective(asr, LossRecipe(omega=omega)) for omega in (1.0, 0.0))
    assert not torch.allclose(always(**x)["tdt"], never(**x)["tdt"])
    always(**x)["loss"].backward()
    weight = asr.joint.out.weight
    assert weight.grad is not None
    assert not weight.grad[-len(TDT) :].any()
    torch.manual_seed(0)
    half = Objective(asr, LossRecipe(omega=0.5))
    values = {half(**x)["tdt"].item() for _ in range(12)}
    assert values == {always(**x)["tdt"].item(), never(**x)["tdt"].item()}
    assert torch.equal(always.eval()(**x)["tdt"], never.eval()(**x)["tdt"])


def test_masks_come_before_the_encoder_and_in_training_alone():
    class Silence(nn.Module):
        def forward(self, features, frames):
            assert features.shape[1] == 20
            assert frames.tolist() == [64, 40, 50]
            return torch.zeros_like(features)

    x = batch()
    objective = Objective(model("ctc"), LossRecipe(), Silence())
    plain = Objective(objective.model, LossRecipe())
    silent = plain(**(x | {"features": torch.zeros(3, 20, 64)}))["loss"]
    assert torch.equal(objective(**x)["loss"], silent)
    assert torch.equal(objective.eval()(**x)["loss"], plain.eval()(**x)["loss"])


@pytest.mark.parametrize("heads", [("ctc",), ("tdt", "ctc")])
def test_a_split_batch_has_the_sum_of_its_parts(heads):
    asr, x = model(*heads), batch()
    objective = Objective(asr, LossRecipe(omega=0.0))
    gradients, sums = [], []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 3)]):
        asr.zero_grad()
        sums.append(0.0)
        for part in parts:
            loss = objective(**{name: value[part] for name, value in x.items()})["loss"]
            loss.backward()
            sums[-1] += loss.item()
        gradients.append(torch.cat([weight.grad.flatten() for weight in asr.parameters()]))
    assert math.isclose(*sums, rel_tol=1e-5)
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[0].norm()


def test_a_batch_without_any_tokens():
    x = batch() | {"tokens": torch.zeros(3, 0, dtype=torch.long)}
    x["lengths"] = torch.zeros(3, dtype=torch.long)
    found = Objective(model("tdt", "ctc"), LossRecipe())(**x)
    found["loss"].backward()
    assert found["ctc"] > 0
    assert found["tdt"] > 0


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", "lstm"), ("float16", "stateless")])
def test_autocast_comes_near_fp32(dtype, kind):
    asr, x = model("tdt", "ctc", dropout=0.1, kind=kind), batch()
    asr.eval()
    objective = Objective(asr, LossRecipe()).eval()
    exact = objective(**x)["loss"]
    with torch.autocast("cpu", getattr(torch, dtype)):
        loss = objective(**x)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isclose(loss.item(), exact.item(), rel_tol=0.02)
    assert all(weight.grad.dtype == torch.float32 for weight in asr.parameters())


@pytest.mark.parametrize("head", ["ctc", "rnnt", "tdt"])
def test_it_can_be_learnt_by_heart(head):
    asr, x = model(head), batch()
    objective = Objective(asr, LossRecipe(omega=0.0))
    optimizer = torch.optim.Adam(asr.parameters(), 0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = objective(**x)["loss"] / 3
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
