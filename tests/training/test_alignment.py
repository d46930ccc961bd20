"""The steps that an encoder makes, and the texts that fit them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from auricle.decoding.align import needed_steps
from auricle.models.asr import ASR
from auricle.training.alignment import ModelFacts, drop_reason, steps_of
from auricle.training.items import Item
from auricle.training.sounds import FileSound
from tests.models.test_asr import CITRINET, CTC, HYBRID

CAUSAL = replace(
    CTC.encoder, subsampling="dw_striding", subsampling_factor=8, causal_downsampling=True
)
REDUCED = replace(
    CTC.encoder, reduction="striding", reduction_position=0, reduction_factor=2, n_layers=1
)
CONFIGS = {
    "conformer": CTC,
    "causal": replace(CTC, encoder=CAUSAL),
    "reduced": replace(CTC, encoder=REDUCED),
    "citrinet": CITRINET,
    "exact": replace(CTC, features=replace(CTC.features, exact_pad=True)),
    "spliced": replace(
        CITRINET,
        features=replace(CITRINET.features, frame_splicing=2),
        encoder=replace(CITRINET.encoder, frame_splicing=2),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_steps_are_those_of_the_model(name: str) -> None:
    config = CONFIGS[name]
    model = ASR(config).eval()
    lengths = torch.tensor([3200, 4001, 7999, 8000, 12_345, 16_000])
    with torch.no_grad():
        _, steps = model.encode(torch.zeros(len(lengths), int(lengths.max())), lengths)
    assert [steps_of(config, n / 16_000) for n in lengths.tolist()] == steps.tolist()


def test_equal_neighbours_need_a_blank_between_them() -> None:
    assert needed_steps([]) == 0
    assert needed_steps([1, 2, 1, 2]) == 4
    assert needed_steps([1, 1, 1, 2, 2]) == 8


def test_only_ctc_alone_drops_a_long_text() -> None:
    item = Item("a.wav", FileSound("a.wav"), 0.4, "aab")
    assert drop_reason(item, [1, 1, 2], 4) is None
    reason = drop_reason(item, [1, 1, 2], 3)
    assert reason == "a.wav: CTC needs 4 steps for 3 tokens, 0.40 s of sound make 3"
    assert drop_reason(item, [1, 1, 2], 3, ("ctc", "rnnt")) is None
    assert drop_reason(item, [1, 1, 2], 3, ("tdt",)) is None
    assert "make no step" in (drop_reason(item, [], 0, ("rnnt",)) or "")
    assert ModelFacts.of(CTC).needs_alignment and not ModelFacts.of(HYBRID).needs_alignment
