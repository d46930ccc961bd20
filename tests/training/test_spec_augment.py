"""SpecAugment: how many masks, how wide, where, and for whom."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.errors import ConfigError
from auricle.training.recipe import SpecAugmentRecipe
from auricle.training.spec_augment import MOST_ADAPTIVE_MASKS, SpecAugment

FREQ_ONLY = SpecAugmentRecipe(freq_masks=1, freq_width=27, time_masks=0)
TIME_ONLY = SpecAugmentRecipe(freq_masks=0, time_masks=1, time_width=0.1)


def masked(recipe: SpecAugmentRecipe, frames: list[int], longest: int, seed: int = 0) -> Tensor:
    """Which cells [B, M, T] were set to 0."""
    torch.manual_seed(seed)
    features = torch.ones(len(frames), 80, longest)
    return SpecAugment(recipe).train()(features, torch.tensor(frames)) == 0


def runs(mask: Tensor) -> Tensor:
    """How many stretches of True each row [B, X] has."""
    rises = mask[:, 1:] & ~mask[:, :-1]
    return rises.sum(dim=1) + mask[:, 0]


def test_evaluation_gives_the_features_themselves() -> None:
    features = torch.randn(2, 80, 50)
    assert SpecAugment(SpecAugmentRecipe()).eval()(features, torch.tensor([50, 20])) is features


def test_the_same_seed_gives_the_same_masks() -> None:
    recipe = SpecAugmentRecipe()
    frames = [400] * 8
    assert torch.equal(masked(recipe, frames, 400, seed=3), masked(recipe, frames, 400, seed=3))
    assert not torch.equal(masked(recipe, frames, 400, seed=3), masked(recipe, frames, 400, seed=4))


def test_clips_of_a_batch_get_masks_of_their_own() -> None:
    cells = masked(SpecAugmentRecipe(), [400] * 8, 400)
    assert len({row.numpy().tobytes() for row in cells}) == 8


def test_the_input_and_what_is_not_masked_stay_as_they_were() -> None:
    features = torch.randn(4, 80, 200)
    before = features.clone()
    after = SpecAugment(SpecAugmentRecipe()).train()(features, torch.tensor([200] * 4))
    assert torch.equal(features, before)
    assert torch.equal(after[after != 0], before[after != 0])


def test_bands_are_evenly_0_to_26_wide_and_lie_anywhere() -> None:
    cells = masked(FREQ_ONLY, [30] * 6000, 30)
    band = cells[:, :, 0]
    assert (cells == band[:, :, None]).all()  # over all frames of the clip
    counts = torch.bincount(band.sum(dim=1), minlength=28)
    assert counts[27] == 0 and counts[:27].min() > 0.7 * 6000 / 27
    assert band[:, :79].any(dim=0).all() and not band[:, 79].any()  # NeMo never takes the last
    assert (runs(band) <= 1).all()


def test_a_share_is_of_each_clips_own_length_and_padding_is_left_alone() -> None:
    frames = torch.tensor([100, 300]).repeat(2000)
    cells = masked(TIME_ONLY, frames.tolist(), 300)[:, 0]
    widths = cells.sum(dim=1)
    assert widths[frames == 100].max() == 9 and widths[frames == 300].max() == 29
    assert not cells[frames == 100][:, 100:].any()
    assert cells[frames == 100][:, :99].any(dim=0).all()
    all_masks = masked(SpecAugmentRecipe(time_width=0.5), frames.tolist(), 300)
    assert not all_masks[frames == 100][:, :, 100:].any()


def test_a_width_in_frames_is_the_same_for_all_that_are_longer() -> None:
    recipe = SpecAugmentRecipe(freq_masks=0, time_masks=1, time_width=70)
    frames = torch.tensor([20, 100, 300]).repeat(3000)
    widths = masked(recipe, frames.tolist(), 300)[:, 0].sum(dim=1)
    assert widths[frames == 100].max() == widths[frames == 300].max() == 69
    assert widths[frames == 20].max() < 20  # a mask never takes a whole clip


def test_as_many_masks_as_asked_for() -> None:
    recipe = SpecAugmentRecipe(freq_masks=3, freq_width=4, time_masks=5, time_width=0.01)
    cells = masked(recipe, [1000] * 300, 1000)
    assert runs(cells.all(dim=2)).max() == 3
    assert runs(cells.all(dim=1)).max() == 5


def test_adaptive_masks_grow_in_number_with_the_clip_up_to_a_bound() -> None:
    recipe = SpecAugmentRecipe(freq_masks=0, time_width=0.009, adaptive=0.01)
    frames = torch.tensor([90, 300, 1000, 9000]).repeat(100)
    found = runs(masked(recipe, frames.tolist(), 9000)[:, 0])
    assert found[frames == 90].max() == 0
    assert found[frames == 300].max() == 3
    assert 8 <= found[frames == 1000].max() <= 10
    assert 17 <= found[frames == 9000].max() <= MOST_ADAPTIVE_MASKS


@pytest.mark.parametrize("frames", [[0], [1], [1, 0, 7]])
def test_the_shortest_clips(frames: list[int]) -> None:
    recipe = SpecAugmentRecipe(time_width=70, adaptive=0.5)
    assert masked(recipe, frames, 8).shape == (len(frames), 80, 8)


def test_fewer_bins_than_a_band_may_be_wide() -> None:
    features = torch.ones(500, 8, 5)
    after = SpecAugment(FREQ_ONLY).train()(features, torch.full((500,), 5))
    assert (after == 0)[:, :, 0].sum(dim=1).max() == 7


def test_half_precision_stays() -> None:
    features = torch.ones(2, 80, 50, dtype=torch.bfloat16)
    after = SpecAugment(SpecAugmentRecipe()).train()(features, torch.tensor([50, 40]))
    assert after.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (SpecAugmentRecipe(freq_masks=-1), "augment.spec.freq_masks must be 0 or more, got -1"),
        (SpecAugmentRecipe(adaptive=2.0), "augment.spec.adaptive is a share"),
    ],
)
def test_refuses_what_makes_no_sense(recipe: SpecAugmentRecipe, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SpecAugment(recipe)
