from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle import checkpoints
from auricle.checkpoints.nemo_config import translate
from auricle.errors import ConfigError
from auricle.models.asr import ASR, ModelConfig
from auricle.models.jasper import JasperConfig
from auricle.training.architecture import model_config
from auricle.training.reading import load_recipe
from auricle.training.recipe import FeaturesRecipe, ModelRecipe
from tests.conftest import GOLDEN

# The published blocks, row by row: kernel, stride; every group's first block halves time.
CITRINET_KERNELS = [
    *[(11, 2), (13, 1), (15, 1), (17, 1), (19, 1), (21, 1)],
    *[(13, 2), (15, 1), (17, 1), (19, 1), (21, 1), (23, 1), (25, 1)],
    *[(25, 2), (27, 1), (29, 1), (31, 1), (33, 1), (35, 1), (37, 1), (39, 1)],
]
# Millions, as the model cards and papers give them.
PARAMETERS = {
    "citrinet_256": 9.8,
    "citrinet_512": 36.5,
    "citrinet_1024": 140.5,
    "quartznet_15x5": 18.9,
    "fastconformer_ctc_large": 115.6,
    "fastconformer_rnnt_large": 114.1,
    "fastconformer_tdt_large": 114.1,
    "fastconformer_hybrid_large": 114.6,
    "fastconformer_streaming_hybrid_large": 114.7,
}


def parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in ASR(config).parameters())


def nemo_ctc(encoder: dict[str, Any], features: dict[str, Any], size: int) -> ModelConfig:
    """The configuration that the translation of a NeMo file with these sections gives."""
    section = {
        "target": "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE",
        "preprocessor": features,
        "encoder": {"_target_": "nemo.collections.asr.modules.ConvASREncoder", **encoder},
        "decoder": {"feat_in": None, "num_classes": size},
    }
    return translate(section, "a test", vocab_size=size).config


def citrinet_rows(filters: int, final: int, factor: float, dropout: float) -> list[dict[str, Any]]:
    plain = {"repeat": 1, "dilation": [1], "separable": True, "se": True, "se_context_size": -1}
    rows: list[dict[str, Any]] = [{"filters": filters, "kernel": [5], "stride": [1], **plain}]
    for kernel, stride in CITRINET_KERNELS:
        row = {"filters": filters, "kernel": [kernel], "stride": [stride], **plain, "repeat": 5}
        row |= {"dropout": dropout, "residual": True, "kernel_size_factor": factor}
        if stride == 2:
            row |= {"stride_last": True, "residual_mode": "stride_add"}
        rows.append(row)
    last = {"filters": final, "kernel": [41], "stride": [1], **plain, "kernel_size_factor": factor}
    return [*rows, last]


@pytest.mark.parametrize(
    "name, filters, final, factor, dropout",
    [
        ("citrinet_256", 256, 640, 1.0, 0.0),
        ("citrinet_512", 512, 640, 1.0, 0.1),
        ("citrinet_1024", 1024, 1024, 0.25, 0.1),
    ],
)
def test_citrinet_is_the_published_one(
    name: str, filters: int, final: int, factor: float, dropout: float
) -> None:
    encoder = {"feat_in": 80, "jasper": citrinet_rows(filters, final, factor, dropout)}
    features = {"features": 80, "window_size": 0.025, "pad_to": 16}
    ours = model_config(load_recipe(name).model, 256)
    assert ours == nemo_ctc(encoder, features, 256)
    assert isinstance(ours.encoder, JasperConfig)
    assert len(ours.encoder.blocks) == 23


def test_quartznet_is_the_published_one() -> None:
    rows: list[dict[str, Any]] = [{"filters": 256, "kernel": [33], "repeat": 1, "stride": [2]}]
    for filters, kernel in ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75)):
        block = {"filters": filters, "kernel": [kernel], "repeat": 5, "residual": True}
        rows += [dict(block) for _ in range(3)]
    rows.append({"filters": 512, "kernel": [87], "repeat": 1, "dilation": [2]})
    rows = [{**row, "separable": True} for row in rows]
    rows.append({"filters": 1024, "kernel": [1], "repeat": 1})
    encoder = {"feat_in": 64, "jasper": rows}
    ours = model_config(load_recipe("quartznet_15x5").model, 28)
    assert ours == nemo_ctc(encoder, {"features": 64, "window_size": 0.02}, 28)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_published_sizes(name: str) -> None:
    recipe = load_recipe(name)
    count = parameters(model_config(recipe.model, recipe.tokenizer.size)) / 1e6
    assert count == pytest.approx(PARAMETERS[name], rel=0.01)


def test_other_published_sizes() -> None:
    """From NVIDIA's model cards: Jasper 333M, Conformer CTC large 121M, FastConformer XL 0.6B."""
    jasper = ModelRecipe("jasper", features=FeaturesRecipe(n_mels=64))
    assert parameters(model_config(jasper, 28)) / 1e6 == pytest.approx(333, rel=0.01)
    assert parameters(model_config(ModelRecipe("conformer"), 128)) / 1e6 == pytest.approx(
        121, rel=0.01
    )
    encoder = {"n_layers": 24, "d_model": 1024, "xscaling": False}
    xl = ModelRecipe(encoder=encoder, heads=("tdt",), predictor={"layers": 2})
    assert parameters(model_config(xl, 1024)) / 1e6 == pytest.approx(616, rel=0.01)


TINY = {"n_layers": 2, "d_model": 24, "n_heads": 4, "subsampling_conv_channels": 8}
STREAMED = {
    "causal_downsampling": True,
    "att_context_size": [[8, 3], [8, 1], [8, 0]],
    "att_context_style": "chunked_limited",
    "conv_context_size": "causal",
    "conv_norm_type": "layer_norm",
}
QUARTZ = {
    "kernels": [[13]],
    "filters": 32,
    "repeat": 3,
    "dropout": 0.1,
    "prolog": [{"kernel": 11, "stride": 2}],
    "epilog": [
        {"kernel": 15, "dilation": 2},
        {"kernel": 1, "filters": 40, "separable": False},
    ],
}
GOLDENS = {
    "fastconformer_ctc": ModelRecipe(
        encoder={**TINY, "ff_expansion_factor": 2, "untie_biases": False}
    ),
    "streaming_hybrid": ModelRecipe(
        heads=("rnnt", "ctc"),
        features=FeaturesRecipe(normalize=None),
        encoder={**TINY, **STREAMED, "ff_expansion_factor": 2},
        predictor={"hidden": 24},
        joint={"hidden": 28},
    ),
    "conformer_rnnt": ModelRecipe(
        "conformer",
        heads=("rnnt",),
        features=FeaturesRecipe(normalize="all_features", options={"preemphasis": None}),
        encoder={**TINY, "ff_expansion_factor": 2, "conv_kernel_size": 15},
        predictor={"hidden": 24},
        joint={"hidden": 28},
    ),
    "quartznet_char": ModelRecipe("quartznet", features=FeaturesRecipe(n_mels=64), encoder=QUARTZ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_a_recipe_can_say_what_nemo_wrote(name: str) -> None:
    theirs = checkpoints.load(GOLDEN / "nemo" / f"{name}.nemo").config
    assert model_config(GOLDENS[name], theirs.vocab_size) == theirs


def test_heads() -> None:
    tdt = model_config(ModelRecipe(heads=("ctc", "tdt"), encoder=TINY, durations=(0, 1, 3)), 20)
    assert tdt.heads == ("ctc", "tdt")
    assert tdt.default_head == "tdt"
    assert tdt.transducer is not None
    assert tdt.transducer.durations == (0, 1, 3)
    assert tdt.transducer.joint.n_outputs == 20 + 1 + 3
    assert tdt.transducer.joint.dropout == tdt.transducer.predictor.dropout == 0.2
    rnnt = model_config(ModelRecipe(heads=("rnnt",), encoder=TINY), 20)
    assert rnnt.transducer is not None
    assert rnnt.transducer.durations == ()
    assert rnnt.transducer.predictor.hidden == 640


@pytest.mark.parametrize(
    "options, complaint",
    [
        (
            {"encoder": {"n_layer": 3}},
            "model.encoder.n_layer is .*nearest is model.encoder.n_layers",
        ),
        (
            {"encoder": {"n_layers": "3"}},
            'model.encoder.n_layers is "3"; it must be a whole number',
        ),
        ({"encoder": {"n_layers": 0}}, "n_layers is 0; it must be above 0"),
        ({"encoder": {"d_model": 33}}, "model.encoder: d_model 33 is not a multiple of n_heads 8"),
        ({"encoder": {"feat_in": 80}}, "follows from model.features.n_mels; leave it out"),
        ({"encoder": {"subsampling_factor": 6}}, "subsampling_factor 6 is no power of 2"),
        ({"encoder": {"dropout": 1.0}}, "dropout is 1.0; it must be from 0 to below 1"),
        ({"encoder": {**STREAMED, "att_context_size": [70, 12]}}, "multiple of the chunk of 13"),
        ({"encoder": {"att_context_probs": [0.5, 0.5]}}, "2 entries for the 1 of att_context_size"),
        ({"family": "citrinet"}, "model.encoder.filters is missing"),
        ({"family": "citrinet", "encoder": {"filters": [3, 4]}}, "2 entries for 3 groups"),
        (
            {"family": "citrinet", "encoder": {"filters": 3, "prolog": [{"kernle": 3}]}},
            "nearest is model.encoder.prolog.0.kernel",
        ),
        ({"heads": ("rnnt",), "predictor": {"vocab_size": 3}}, "follows from the tokenizer"),
        ({"heads": ("rnnt",), "joint": {"activation": "tan"}}, "'relu', 'tanh' or 'sigmoid'"),
        ({"features": FeaturesRecipe(options={"nfft": 3})}, "nearest is .*options.n_fft"),
        ({"features": FeaturesRecipe(options={"window": "x"})}, "window 'x' is not one of"),
    ],
)
def test_what_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as error:
        model_config(ModelRecipe(**options), 20)
    assert "\n" not in str(error.value)
