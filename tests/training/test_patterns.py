"""Names in recipes: NeMo's and Hugging Face's, by globs, and what is said of wrong ones."""

from __future__ import annotations

import re

import pytest

from auricle.checkpoints import build, load
from auricle.errors import ConfigError
from auricle.models.asr import ASR
from auricle.training.patterns import matching, spellings_of
from tests.checkpoints.goldens import nemo

LAYER = "encoder.layers.0"


@pytest.fixture(scope="module")
def hybrid() -> ASR:
    return build(load(nemo("hybrid_tdt_ctc")))


def modules(model: ASR, *patterns: str) -> list[str]:
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    return list(matching(patterns, names, key="adapt.freeze", also=spellings_of(model)))


def parameters(model: ASR, *patterns: str) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    return list(matching(patterns, names, key="adapt.freeze", also=spellings_of(model)))


@pytest.mark.parametrize(
    "pattern",
    [
        "encoder.layers.0.self_attn.linear_q",
        "encoder.layers.0.self_attn.q_proj",
        "*.0.self_attn.*q*",
        "*layers.0*.q_proj",
    ],
)
def test_one_layer_by_either_name(hybrid: ASR, pattern: str) -> None:
    assert modules(hybrid, pattern) == [f"{LAYER}.self_attn.linear_q"]


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("ctc", ["ctc"]),
        ("ctc_head", ["ctc"]),
        ("ctc_decoder", ["ctc"]),  # NeMo's, of a hybrid
        ("joint.head", ["joint.out"]),
        ("joint.joint_net", ["joint.out"]),
        ("encoder_projector", ["joint.enc"]),
        ("decoder.decoder_projector", ["joint.pred"]),
        ("decoder.lstm", ["predictor.lstm"]),
        ("decoder.prediction.embed", ["predictor.embed"]),
        ("encoder.subsampling.linear", ["encoder.pre_encode.out"]),
    ],
)
def test_both_vocabularies_for_all_parts(hybrid: ASR, pattern: str, names: list[str]) -> None:
    assert modules(hybrid, pattern) == names


def test_a_name_means_all_below_it(hybrid: ASR) -> None:
    encoder = [name for name, _ in hybrid.named_parameters() if name.startswith("encoder.")]
    assert parameters(hybrid, "encoder") == encoder  # and not joint.enc, encoder_projector
    assert parameters(hybrid, f"{LAYER}.conv") == [n for n in encoder if f"{LAYER}.conv." in n]
    found = parameters(hybrid, "feed_forward1", "linear_pos")  # parts of names, anywhere
    assert found == [n for n in encoder if ".feed_forward1." in n or ".linear_pos." in n]
    assert not any("10" in name for name in modules(hybrid, "encoder.layers.1"))


@pytest.mark.parametrize("name", ["hybrid_tdt_ctc", "quartznet_char", "streaming_hybrid"])
def test_norm_is_every_norm(name: str) -> None:
    model = build(load(nemo(name)))
    norms = [n for n, m in model.named_modules() if "Norm" in type(m).__name__]
    assert norms
    assert set(parameters(model, "norm")) == {
        f"{n}.{leaf}" for n in norms for leaf, _ in model.get_submodule(n).named_parameters()
    }


def test_order_is_the_models(hybrid: ASR) -> None:
    assert modules(hybrid, "joint.out", "joint.enc", "ctc") == ["ctc", "joint.enc", "joint.out"]


@pytest.mark.parametrize(
    "pattern, near",
    [
        ("encoder.layers.0.self_attn.lineer_q", "near are encoder.layers.*.self_attn.linear_q"),
        ("*.o_prj", "o_proj"),
        ("encodr", "near are encoder"),
        ("*.self_atn.*", "self_attn"),
        ("linar1", "near are encoder.layers.*.feed_forward1.linear1"),
        ("xyz", "there are ctc, ctc_decoder, ctc_head, decoder, encoder, encoder_projector"),
        ("", "there are"),
    ],
)
def test_what_fits_nothing_is_refused(hybrid: ASR, pattern: str, near: str) -> None:
    said = re.escape(f"adapt.freeze has {pattern!r}, which fits no name of the model; ")
    with pytest.raises(ConfigError, match=f"{said}.*{re.escape(near)}"):
        parameters(hybrid, "ctc", pattern)
