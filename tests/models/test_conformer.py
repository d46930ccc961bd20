from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from auricle.errors import ConfigError
from auricle.models.attention import Context
from auricle.models.conformer import ConformerConfig, ConformerEncoder, attention_context
from tests.models.lively import difference, lively, ragged

SMALL = ConformerConfig(
    feat_in=13,
    n_layers=2,
    d_model=16,
    n_heads=2,
    subsampling="dw_striding",
    subsampling_conv_channels=8,
    conv_kernel_size=5,
)
LOCAL: dict[str, Any] = {"self_attention_model": "rel_pos_local_attn"}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal_downsampling": True, "conv_context_size": "causal"},
    "vggnet": {"subsampling": "vggnet"},
    "striding_conv1d": {"subsampling": "striding_conv1d"},
    "dw_striding_conv1d": {"subsampling": "dw_striding_conv1d"},
    "none": {"subsampling_factor": 1},
    "abs_pos": {"self_attention_model": "abs_pos"},
    "tied": {"untie_biases": False},
    "no biases": {"use_bias": False},
    "layer_norm": {"conv_norm_type": "layer_norm"},
    "fused_batch_norm": {"conv_norm_type": "fused_batch_norm"},
    "regular": {"att_context_size": ((3, 1),)},
    "chunked": {"att_context_style": "chunked_limited", "att_context_size": ((4, 1), (4, 0))},
    "local": {**LOCAL, "att_context_size": ((2, 5),)},
    "global": {**LOCAL, "att_context_size": ((3, 3),), "global_tokens": 2},
    "separate": {
        **LOCAL,
        "att_context_size": ((3, 3),),
        "global_tokens": 1,
        "global_attn_separate": True,
    },
    "reduced": {"reduction": "striding", "reduction_position": 0, "reduction_factor": 2},
    "pooled": {"reduction": "pooling", "reduction_position": -1, "reduction_factor": 2},
    "feat_out": {"feat_out": 24},
}


def encoder(name: str) -> ConformerEncoder:
    return lively(ConformerEncoder(replace(SMALL, **CONFIGS[name])))


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name):
    net = encoder(name)
    x, lengths = ragged([97, 40, 9, 1, 64], 13, extra=3)
    with torch.no_grad():
        together, steps = net(x, lengths)
        assert together.shape[::2] == (5, net.d_out)
        assert torch.isfinite(together).all()
        for row, out, n, m in zip(x, together, lengths.tolist(), steps.tolist(), strict=True):
            alone, count = net(row[None, :, :n], torch.tensor([n]))
            assert count.tolist() == [m]
            assert m == 0 or difference(out[:m], alone[0, :m]) < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_training_computes_the_same_and_reaches_every_weight(name):
    silent = dict.fromkeys(("dropout", "dropout_pre_encoder", "dropout_emb", "dropout_att"), 0.0)
    options = {**CONFIGS[name], "conv_norm_type": "layer_norm", **silent}
    net = lively(ConformerEncoder(replace(SMALL, **options)))
    context = options.get("att_context_size", ((-1, -1),))[0]
    x, lengths = ragged([97, 40], 13)
    expected, steps = net(x, lengths)
    got, _ = net.train()(x, lengths, context=context)
    for a, b, m in zip(got, expected, steps.tolist(), strict=True):
        assert difference(a[:m], b[:m]) < 1e-5
    got.square().sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias moves all scores of a query alike, which changes nothing.
    assert [n for n in idle if not n.endswith("linear_k.bias")] == []


def test_dropout_and_contexts_are_random_in_training_alone():
    config = replace(
        SMALL,
        att_context_style="chunked_limited",
        att_context_size=((8, 3), (8, 0)),
        stochastic_depth_drop_prob=0.5,
    )
    net = lively(ConformerEncoder(config))
    x, lengths = ragged([97], 13)
    assert torch.equal(net(x, lengths)[0], net(x, lengths)[0])
    net.train()
    torch.manual_seed(0)
    drawn = {net._drawn_context() for _ in range(30)}
    assert drawn == {(8, 3), (8, 0)}
    assert not torch.equal(net(x, lengths)[0], net(x, lengths)[0])


@pytest.mark.parametrize(
    ("mode", "expected"), [("linear", [0.0, 0.2, 0.4, 0.6]), ("uniform", [0.0, 0.6, 0.6, 0.6])]
)
def test_stochastic_depth_grows(mode, expected):
    config = replace(SMALL, n_layers=4, stochastic_depth_drop_prob=0.6, stochastic_depth_mode=mode)
    net = ConformerEncoder(config)
    assert [net._drop_chance(i) for i in range(4)] == pytest.approx(expected)


def test_dropped_layers_are_bypassed_and_kept_ones_amplified():
    net = ConformerEncoder(replace(SMALL, stochastic_depth_drop_prob=0.5)).train()
    before, after = torch.zeros(2), torch.ones(2)
    torch.manual_seed(0)
    seen = {float(net._perhaps_dropped(1, before, after)[0]) for _ in range(50)}
    assert seen == {0.0, 2.0}


@pytest.mark.parametrize(
    ("style", "size", "context"),
    [
        ("regular", (-1, -1), Context()),
        ("regular", (5, 0), Context(5, 0)),
        ("chunked_limited", (70, 13), Context(70, 0, 14)),
        ("chunked_limited", (70, 0), Context(70, 0, 1)),
        ("chunked_limited", (7, 1), Context(6, 0, 2)),
        ("chunked_limited", (-1, 1), Context(20000, 0, 2)),
        ("chunked_limited", (4, -1), Context(4, None)),
        ("chunked_limited_with_rc", (-1, -1, -1), Context()),
        ("chunked_limited_with_rc", (70, 2, 3), Context(70, 3, 2)),
    ],
)
def test_what_sizes_mean(style, size, context):
    config = replace(SMALL, att_context_style=style)
    assert attention_context(config, size) == context


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({}, (1, 2, 3), "needs 2 numbers"),
        ({"att_context_style": "chunked_limited_with_rc"}, (1, 2), "needs 3 numbers"),
        ({"att_context_style": "chunked_limited_with_rc"}, (-1, 2, 0), "left >= 0"),
        ({**LOCAL, "att_context_size": ((3, 3),)}, (-1, 3), "needs both limits"),
    ],
)
def test_refuses_sizes_that_mean_nothing(options, size, message):
    net = ConformerEncoder(replace(SMALL, **options))
    with pytest.raises(ConfigError, match=message):
        net(*ragged([20], 13), context=size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsampling": "strided"}, "subsampling 'strided'"),
        ({"self_attention_model": "flash"}, "self_attention_model 'flash'"),
        ({"att_context_style": "odd"}, "att_context_style 'odd'"),
        ({"conv_norm_type": "rms"}, "conv_norm_type 'rms'"),
        ({"n_heads": 3}, "not a multiple of n_heads 3"),
        ({"conv_context_size": (1, 1)}, "does not fill"),
        ({"conv_kernel_size": 4}, "does not fill"),
        ({"reduction": "pooling", "reduction_factor": 2}, "reduction_position None"),
        (LOCAL, "needs an att_context_size above 0"),
    ],
)
def test_refuses_configurations(options, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **options)


def test_a_window_given_per_call_is_local_attention():
    """On a model with full attention, NeMo changes the model for this."""
    full = encoder("plain")
    local = ConformerEncoder(replace(SMALL, **LOCAL, att_context_size=((4, 4),))).eval()
    local.load_state_dict(full.state_dict())
    x, lengths = ragged([197, 80], 13)
    with torch.no_grad():
        a, steps = full(x, lengths, context=(4, 4))
        b, _ = local(x, lengths)
    assert steps.tolist() == [50, 20]
    assert difference(a[0], b[0]) < 1e-5
    assert difference(a[1, :20], b[1, :20]) < 1e-5


def test_tied_biases_are_one_parameter_under_every_name():
    net = encoder("tied")
    assert len({id(layer.self_attn.pos_bias_u) for layer in net.layers}) == 1
    names = [n for n in net.state_dict() if n.endswith("pos_bias_u")]
    assert names == ["layers.0.self_attn.pos_bias_u", "layers.1.self_attn.pos_bias_u"]


def test_factor_counts_the_reduction():
    assert encoder("plain").factor == 4
    assert encoder("reduced").factor == 8
    assert encoder("none").factor == 1


@pytest.mark.parametrize("name", ["plain", "causal", "chunked", "local", "abs_pos", "vggnet"])
def test_nothing_at_all(name):
    x = torch.zeros(2, 13, 1)
    with torch.no_grad():
        out, steps = encoder(name)(x, torch.tensor([0, 0]))
    assert torch.isfinite(out).all()
    assert steps.tolist() == ([1, 1] if name == "causal" else [0, 0])
