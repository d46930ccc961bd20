"""Single networks beside NeMo's own, with random weights: the options that goldens cannot all have.

Each case builds NeMo's module, makes every parameter and statistic lively, copies them by name
and compares what comes out for rows of different lengths, one of them a single frame.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit, see `make parity`")

from nemo.collections.asr.modules import (
    AudioToMelSpectrogramPreprocessor,
    ConformerEncoder,
    ConvASREncoder,
    RNNTDecoder,
    RNNTJoint,
    StatelessTransducerDecoder,
)

from auricle.features import LogMel, LogMelConfig
from auricle.models import conformer, jasper
from auricle.models.heads import (
    Joint,
    JointConfig,
    Predictor,
    PredictorConfig,
    StatelessPredictor,
)

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5  # of the largest value

SMALL: dict[str, Any] = {
    "feat_in": 20,
    "n_layers": 2,
    "d_model": 16,
    "n_heads": 2,
    "subsampling": "dw_striding",
    "subsampling_factor": 4,
    "subsampling_conv_channels": 8,
    "conv_kernel_size": 5,
}
LOCAL = {"self_attention_model": "rel_pos_local_attn"}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def enliven(module: nn.Module) -> None:
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if not value.is_floating_point() or name.endswith(("window", "fb", "pe")):
            continue
        if "running_var" in name or (value.ndim == 1 and name.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.ndim == 1 or "pos_bias" in name or "running_mean" in name:
            value.normal_(std=0.3)
        else:
            value.normal_(std=1.5 / value[0].numel() ** 0.5)


def batch(mels: int, lengths: list[int], extra: int = 1) -> tuple[Tensor, Tensor]:
    """Features as the preprocessor leaves them: zero beyond the lengths, a frame too many."""
    x = torch.randn(len(lengths), mels, max(lengths) + extra)
    for row, length in zip(x, lengths, strict=True):
        row[:, length:] = 0.0
    return x, torch.tensor(lengths)


def assert_same(ours: Tensor, theirs: Tensor, lengths: Tensor) -> None:
    """`ours` [B, T, D], `theirs` [B, D, T]; alike where the rows have steps."""
    for a, b, n in zip(ours, theirs.transpose(1, 2), lengths.tolist(), strict=True):
        n = min(n, len(b))
        assert torch.isfinite(a[:n]).all()
        if n:
            assert (a[:n] - b[:n]).abs().max() <= TOLERANCE * b[:n].abs().max()


def both_conformers(**options: Any) -> tuple[ConformerEncoder, conformer.ConformerEncoder]:
    options = {**SMALL, **options}
    theirs = ConformerEncoder(**options).eval()
    enliven(theirs)
    size = options.pop("att_context_size", None) or [-1, -1]
    sizes = size if isinstance(size[0], list) else [size]
    pair = options.pop("conv_context_size", None)
    config = conformer.ConformerConfig(
        **options,
        att_context_size=tuple(map(tuple, sizes)),
        conv_context_size=tuple(pair) if isinstance(pair, list) else pair,
    )
    ours = conformer.ConformerEncoder(config).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def compare(theirs: nn.Module, ours: nn.Module, x: Tensor, lengths: Tensor, **kw: Any) -> None:
    expected, expected_lengths = theirs(audio_signal=x, length=lengths)
    got, got_lengths = ours(x, lengths, **kw)
    assert got_lengths.tolist() == expected_lengths.tolist()
    assert_same(got, expected, expected_lengths)


CONFORMERS: dict[str, dict[str, Any]] = {
    "striding": {"subsampling": "striding"},
    "striding causal": {"subsampling": "striding", "causal_downsampling": True},
    "dw_striding 8": {"subsampling_factor": 8, "feat_in": 80},
    "dw_striding 8 causal": {"subsampling_factor": 8, "causal_downsampling": True},
    "dw_striding 2": {"subsampling_factor": 2},
    "dw_striding 128 mels": {"subsampling_factor": 8, "feat_in": 128},
    "dw_striding odd mels": {"subsampling_factor": 8, "feat_in": 13},
    "stacking": {"subsampling": "stacking"},
    "stacking_norm": {"subsampling": "stacking_norm", "subsampling_factor": 3},
    "no subsampling": {"subsampling_factor": 1},
    "own channels": {"subsampling_conv_channels": -1},
    "layer_norm": {"conv_norm_type": "layer_norm"},
    "group_norm": {"conv_norm_type": "group_norm4"},
    "instance_norm": {"conv_norm_type": "instance_norm"},
    "fused_batch_norm": {"conv_norm_type": "fused_batch_norm"},
    "no biases": {"use_bias": False},
    "no xscaling": {"xscaling": False},
    "tied": {"untie_biases": False},
    "abs_pos": {"self_attention_model": "abs_pos"},
    "abs_pos limited": {"self_attention_model": "abs_pos", "att_context_size": [3, 1]},
    "regular": {"att_context_size": [4, 2]},
    "regular left": {"att_context_size": [4, -1]},
    "regular right": {"att_context_size": [-1, 0]},
    "chunked": {"att_context_style": "chunked_limited", "att_context_size": [4, 1]},
    "chunked all past": {"att_context_style": "chunked_limited", "att_context_size": [-1, 2]},
    "chunked all future": {
        "att_context_style": "chunked_limited",
        "att_context_size": [[-1, -1], [4, 1]],
    },
    "chunked several": {
        "att_context_style": "chunked_limited",
        "att_context_size": [[6, 2], [6, 0]],
    },
    "causal convolution": {"conv_context_size": "causal"},
    "uneven convolution": {"conv_context_size": [3, 1]},
    "wide convolution": {"conv_kernel_size": 31},
    "feat_out": {"feat_out": 24},
    "pooling": {"reduction": "pooling", "reduction_position": 0, "reduction_factor": 2},
    "pooling 4": {"reduction": "pooling", "reduction_position": 0, "reduction_factor": 4},
    "striding after": {"reduction": "striding", "reduction_position": -1, "reduction_factor": 2},
    "striding within": {"reduction": "striding", "reduction_position": 0, "reduction_factor": 4},
    "local": {**LOCAL, "att_context_size": [5, 5]},
    "local narrow left": {**LOCAL, "att_context_size": [2, 5]},
    "local narrow right": {**LOCAL, "att_context_size": [7, 3]},
    "local past": {**LOCAL, "att_context_size": [4, 0]},
    "local future": {**LOCAL, "att_context_size": [0, 3]},
    "local one global": {**LOCAL, "att_context_size": [3, 3], "global_tokens": 1},
    "local one separate global": {
        **LOCAL,
        "att_context_size": [3, 2],
        "global_tokens": 1,
        "global_attn_separate": True,
        "use_bias": False,
    },
    "local unused globals": {**LOCAL, "att_context_size": [3, 3], "global_attn_separate": True},
    "deep narrow feed-forward": {"ff_expansion_factor": 2, "n_layers": 3},
}


@pytest.mark.parametrize("name", CONFORMERS)
def test_conformers_in_batches(name):
    theirs, ours = both_conformers(**CONFORMERS[name])
    mels = {**SMALL, **CONFORMERS[name]}["feat_in"]
    compare(theirs, ours, *batch(mels, [61, 128, 97, 40]))


@pytest.mark.parametrize("name", CONFORMERS)
@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 63, 333])
def test_conformers_alone(name, frames):
    theirs, ours = both_conformers(**CONFORMERS[name])
    mels = {**SMALL, **CONFORMERS[name]}["feat_in"]
    x, lengths = batch(mels, [frames])
    try:
        theirs(audio_signal=x, length=lengths)
    except (RuntimeError, ValueError, AssertionError) as error:
        pytest.skip(f"NeMo refuses: {error}")
    compare(theirs, ours, x, lengths)


@pytest.mark.parametrize("separate", [False, True])
def test_several_global_tokens_one_row(separate):
    theirs, ours = both_conformers(
        **LOCAL,
        att_context_size=[3, 3],
        global_tokens=3,
        global_tokens_spacing=2,
        global_attn_separate=separate,
    )
    compare(theirs, ours, *batch(20, [97]))


@pytest.mark.parametrize("lengths", [[64, 1], [64, 0], [33, 2, 0]])
@pytest.mark.parametrize("name", ["dw_striding 8", "dw_striding 8 causal", "chunked", "abs_pos"])
def test_rows_next_to_nothing(name, lengths):
    theirs, ours = both_conformers(**CONFORMERS[name])
    mels = {**SMALL, **CONFORMERS[name]}["feat_in"]
    compare(theirs, ours, *batch(mels, lengths))


@pytest.mark.parametrize("context", [(70, 13), (70, 6), (70, 1), (70, 0)])
def test_lookaheads_of_streaming_models(context):
    theirs, ours = both_conformers(
        causal_downsampling=True,
        subsampling_factor=8,
        att_context_style="chunked_limited",
        att_context_size=[[70, 13], [70, 6], [70, 1], [70, 0]],
        conv_context_size="causal",
        conv_norm_type="layer_norm",
    )
    theirs.set_default_att_context_size(list(context))
    compare(theirs, ours, *batch(20, [901, 640]), context=context)


@pytest.mark.parametrize("context", [(8, 2, 1), (0, 1, 0), (16, 4, 4), (-1, -1, -1)])
def test_chunks_with_right_context(context):
    theirs, ours = both_conformers(
        att_context_style="chunked_limited_with_rc",
        att_chunk_context_size=[[8], [2], [1]],
        conv_context_style="dcc",
    )
    theirs.set_default_att_context_size(list(context))
    compare(theirs, ours, *batch(20, [133, 64]), context=context)


def test_long_rows_are_attended_in_blocks():
    theirs, ours = both_conformers(subsampling_factor=2, n_layers=1)
    compare(theirs, ours, *batch(20, [1400, 1111]))


def test_local_attention_across_blocks():
    theirs, ours = both_conformers(
        **LOCAL, subsampling_factor=2, n_layers=1, att_context_size=[40, 30], global_tokens=1
    )
    compare(theirs, ours, *batch(20, [1400, 1111]))


BLOCK: dict[str, Any] = {
    "filters": 16,
    "repeat": 2,
    "kernel": [5],
    "stride": [1],
    "dilation": [1],
    "dropout": 0.1,
    "residual": True,
    "separable": True,
}
FIRST = {**BLOCK, "residual": False, "repeat": 1, "stride": [2]}
SE = {"se": True, "se_reduction_ratio": 4}
STACKS: dict[str, list[dict[str, Any]]] = {
    "quartznet": [FIRST, BLOCK, {**BLOCK, "dilation": [2], "residual": False}],
    "jasper": [{**FIRST, "separable": False}, {**BLOCK, "separable": False, "kernel": [11]}],
    "dense": [
        {**FIRST, "separable": False},
        {**BLOCK, "separable": False, "residual_dense": True},
        {**BLOCK, "separable": False, "residual_dense": True, "filters": 24},
        {**BLOCK, "separable": False, "residual_dense": True},
    ],
    "citrinet": [
        {**FIRST, **SE, "stride": [1]},
        {**BLOCK, **SE, "stride": [2], "stride_last": True, "residual_mode": "stride_add"},
        {**BLOCK, **SE, "kernel_size_factor": 0.5, "kernel": [13], "residual_mode": "stride_add"},
    ],
    "every repeat strides": [{**FIRST, "repeat": 2}, BLOCK],
    "squeeze-excite in context": [{**FIRST, **SE, "se_context_size": 8}, {**BLOCK, **SE}],
    "groups": [{**FIRST, "groups": 4}, {**BLOCK, "groups": 2}],
    "groups, one part": [{**FIRST, "separable": False, "groups": 4}, BLOCK],
    "heads": [{**FIRST, "heads": 4}, {**BLOCK, "heads": 2}],
    "little future": [{**FIRST, "future_context": 1}, {**BLOCK, "future_context": 0}],
    "future beyond the kernel": [{**FIRST, "future_context": 9}, BLOCK],
    "future and dilation": [
        FIRST,
        {**BLOCK, "dilation": [2], "future_context": 1, "residual": False},
    ],
    "maximum": [FIRST, {**BLOCK, "residual_mode": "max"}],
}


def both_jaspers(
    stack: list[dict[str, Any]], **options: Any
) -> tuple[ConvASREncoder, jasper.JasperEncoder]:
    options = {"activation": "relu", "feat_in": 16, **options}
    theirs = ConvASREncoder(jasper=stack, **options).eval()
    enliven(theirs)
    rows = [{k: v[0] if isinstance(v, list) else v for k, v in row.items()} for row in stack]
    blocks = tuple(jasper.JasperBlockConfig(**row) for row in rows)
    ours = jasper.JasperEncoder(jasper.JasperConfig(blocks=blocks, **options)).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("lengths", [[64], [61, 97, 1, 40], [1], [33, 0]])
def test_stacks(stack, lengths):
    theirs, ours = both_jaspers(STACKS[stack])
    x, lengths = batch(16, lengths)
    expected, expected_lengths = theirs(audio_signal=x, length=lengths)
    got, got_lengths = ours(x, lengths)
    assert got_lengths.tolist() == expected_lengths.tolist()
    kept = torch.where(lengths > 0, expected_lengths, 0)  # NeMo divides an empty row by zero
    assert_same(got, expected, kept)


@pytest.mark.parametrize("mode", ["group", "instance", "layer"])
def test_stack_norms(mode):
    theirs, ours = both_jaspers(STACKS["citrinet"], normalization_mode=mode, norm_groups=4)
    x, lengths = batch(16, [97], extra=0)
    compare(theirs, ours, x, lengths)


@pytest.mark.parametrize("activation", ["hardtanh", "selu", "swish", "gelu", "identity"])
def test_stack_activations(activation):
    theirs, ours = both_jaspers(STACKS["citrinet"], activation=activation)
    compare(theirs, ours, *batch(16, [97, 50]))


@pytest.mark.parametrize("stack", ["quartznet", "dense", "citrinet", "groups", "heads"])
def test_stack_without_masks(stack):
    theirs, ours = both_jaspers(STACKS[stack], conv_mask=False)
    x, lengths = batch(16, [61, 97], extra=15)
    expected, _ = theirs(audio_signal=x, length=lengths)
    got, _ = ours(x, lengths)
    assert got.shape[1] == expected.shape[2]
    assert_same(got, expected, torch.tensor([got.shape[1]] * 2))


FEATURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conformer": ({}, {}),
    "128 mels": ({"features": 128}, {"n_mels": 128}),
    "quartznet": (
        {"features": 64, "window_size": 0.02, "pad_to": 16},
        {"n_mels": 64, "win_length": 320, "pad_to": 16},
    ),
    "not normalised": ({"normalize": "NA"}, {"normalize": None}),
    "all features": ({"normalize": "all_features"}, {"normalize": "all_features"}),
    "no emphasis": ({"preemph": None}, {"preemphasis": None}),
    "exact": ({"exact_pad": True}, {"exact_pad": True}),
    "clamped": (
        {"log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-5},
        {"log_guard_type": "clamp", "log_guard": 1e-5},
    ),
    "linear": ({"log": False, "mag_power": 1.0}, {"log": False, "mag_power": 1.0}),
    "band": ({"lowfreq": 60, "highfreq": 7000}, {"fmin": 60.0, "fmax": 7000.0}),
    "hamming, unnormed mel": (
        {"window": "hamming", "mel_norm": None},
        {"window": "hamming", "mel_norm": None},
    ),
    "blackman": ({"window": "blackman"}, {"window": "blackman"}),
    "bartlett": ({"window": "bartlett"}, {"window": "bartlett"}),
    "8 kHz": (
        {"sample_rate": 8000, "n_fft": 256},
        {"sample_rate": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80},
    ),
    "spliced": ({"frame_splicing": 3}, {"frame_splicing": 3}),
    "padded with": ({"pad_value": -3.0, "pad_to": 8}, {"pad_value": -3.0, "pad_to": 8}),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features(name):
    given, mine = FEATURES[name]
    options = {"features": 80, "window_size": 0.025, "pad_to": 0, "n_fft": 512, **given}
    theirs = AudioToMelSpectrogramPreprocessor(**options).eval()
    ours = LogMel(dataclasses.replace(LogMelConfig(), **mine)).eval()
    featurizer = theirs.featurizer
    assert torch.allclose(ours.filterbank, featurizer.fb[0], rtol=1e-6, atol=1e-8)
    assert torch.allclose(ours.window, featurizer.window, rtol=0, atol=1e-7)
    samples = torch.randn(4, 16123) * 0.1
    lengths = torch.tensor([16123, 9000, 700, 0])
    for row, length in zip(samples, lengths, strict=True):
        row[length:] = 0.0
    expected, expected_lengths = theirs(input_signal=samples.clone(), length=lengths)
    got, got_lengths = ours(samples, lengths)
    assert got_lengths.tolist() == expected_lengths.tolist()
    assert got.shape == expected.shape
    # Where every bin has about the mean, "padded with" and others divide by nearly nothing.
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("size", [None, 32])
def test_lstm_predictor(layers, size):
    net = {"pred_hidden": 24, "pred_rnn_layers": layers, "dropout": 0.1}
    if size:
        net["rnn_hidden_size"] = size
    theirs = RNNTDecoder(prednet=net, vocab_size=30).eval()
    enliven(theirs)
    theirs.prediction["embed"].weight[30] = 0.0
    ours = Predictor(PredictorConfig(30, 24, layers, rnn_hidden=size)).eval()
    state = theirs.prediction.state_dict()
    ours.load_state_dict({k.removeprefix("dec_rnn."): v for k, v in state.items()})
    tokens = torch.randint(0, 30, (3, 6))
    expected, (hidden, cell) = theirs.predict(tokens, add_sos=True)
    started = torch.cat([torch.full((3, 1), 30), tokens], dim=1)
    got, after = ours(started)
    assert torch.allclose(got, expected, atol=1e-6)
    assert torch.allclose(after[0], hidden, atol=1e-6)
    assert torch.allclose(after[1], cell, atol=1e-6)


@pytest.mark.parametrize("context", [1, 2, 3])
@pytest.mark.parametrize("norm", [None, "layer"])
def test_stateless_predictor(context, norm):
    theirs = StatelessTransducerDecoder(
        prednet={"pred_hidden": 48}, vocab_size=30, context_size=context, normalization_mode=norm
    ).eval()
    enliven(theirs)
    for embed in theirs.prediction.embeds:
        embed.weight[30] = 0.0
    config = PredictorConfig(
        30, 48, kind="stateless", context_size=context, normalization_mode=norm
    )
    ours = StatelessPredictor(config).eval()
    ours.load_state_dict(theirs.prediction.state_dict())
    tokens = torch.randint(0, 30, (3, 6))
    expected, _ = theirs.predict(tokens, add_sos=False)
    got, state = ours(tokens)
    assert torch.allclose(got, expected, atol=1e-6)
    more = torch.randint(0, 30, (3,))
    stepped, _ = ours.step(more, state)
    whole, _ = theirs.predict(torch.cat([tokens, more[:, None]], dim=1), add_sos=False)
    assert torch.allclose(stepped, whole[:, -1], atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_joint(activation, dropout):
    net = {
        "encoder_hidden": 16,
        "pred_hidden": 24,
        "joint_hidden": 20,
        "activation": activation,
        "dropout": dropout,
    }
    theirs = RNNTJoint(jointnet=net, num_classes=30, num_extra_outputs=5, log_softmax=False).eval()
    enliven(theirs)
    ours = Joint(JointConfig(16, 24, 20, 36, activation, dropout)).eval()
    state = theirs.state_dict()
    ours.load_state_dict(
        {k if k[:3] != "joi" else f"out.{k.split('.')[-1]}": v for k, v in state.items()}
    )
    f, g = torch.randn(2, 7, 16), torch.randn(2, 3, 24)
    expected = theirs.joint(f, g)  # [B, T, U, V]
    got = ours(ours.project_encodings(f)[:, :, None], ours.project_predictions(g)[:, None])
    assert torch.allclose(got, expected, atol=1e-5)
