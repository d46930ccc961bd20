"""Our SpecAugment against NeMo's: the same masks for the same seed."""

from __future__ import annotations

import pytest
import torch

from auricle.training.recipe import SpecAugmentRecipe
from auricle.training.spec_augment import SpecAugment

modules = pytest.importorskip(
    "nemo.collections.asr.modules.audio_preprocessing", reason="needs nemo-toolkit"
)

pytestmark = pytest.mark.parity
FRAMES = torch.tensor([1000, 731, 300, 90, 71])
RECIPES = (
    SpecAugmentRecipe(),
    SpecAugmentRecipe(time_masks=2, time_width=70),
    SpecAugmentRecipe(freq_masks=0, time_masks=5, time_width=0.2),
    SpecAugmentRecipe(freq_masks=3, freq_width=10, time_masks=0),
)


def theirs(recipe: SpecAugmentRecipe, *, vectorized: bool = True) -> torch.nn.Module:
    width = recipe.time_width
    return modules.SpectrogramAugmentation(
        freq_masks=recipe.freq_masks,
        freq_width=recipe.freq_width,
        time_masks=recipe.time_masks,
        time_width=width if width < 1 else int(width),
        use_vectorized_spec_augment=vectorized,
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_same_masks(recipe: SpecAugmentRecipe, seed: int) -> None:
    features = torch.randn(len(FRAMES), 80, 1000)
    inside = (torch.arange(1000) < FRAMES[:, None])[:, None].expand_as(features)
    torch.manual_seed(seed)
    expected = theirs(recipe)(input_spec=features, length=FRAMES)
    torch.manual_seed(seed)
    found = SpecAugment(recipe).train()(features, FRAMES)
    assert torch.equal(found[inside], expected[inside])
    assert torch.equal(found[~inside], features[~inside])  # theirs may fill the padding with 0 too


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_share_masked_is_near_that_of_their_older_code(recipe: SpecAugmentRecipe) -> None:
    """It draws 0 to `width`, not `width - 1`: a little more is masked, within 2 % of all cells."""
    frames = torch.full((400,), 600)
    features = torch.ones(len(frames), 80, 600)
    expected = theirs(recipe, vectorized=False)(input_spec=features, length=frames)
    found = SpecAugment(recipe).train()(features, frames)
    assert abs((found == 0).float().mean() - (expected == 0).float().mean()) < 0.02
