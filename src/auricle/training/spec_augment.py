"""SpecAugment (Park et al. 2019, 2020): bands and stretches of the features set to 0 in training.

Drawn from torch's global generator of the features' device, for the whole batch at once, and
without waiting for a GPU. The same seed gives the masks of NeMo's `SpectrogramAugmentation`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auricle.errors import ConfigError
from auricle.training.recipe import SpecAugmentRecipe

MOST_ADAPTIVE_MASKS = 20  # of one clip, as in Park et al. 2020


class SpecAugment(nn.Module):
    """Masks features in training, and does nothing in evaluation.

    By NeMo's rules: a mask is 0 to `width - 1` wide, and never reaches the last bin or frame. What
    lies beyond a clip's frames stays as it is, and no mask of a fixed width takes a whole clip.
    With `adaptive` a clip has that share of its frames as time masks, `MOST_ADAPTIVE_MASKS` at
    most, instead of `time_masks`.

    Raises:
        ConfigError: A count or a width below 0, or `adaptive` outside 0 to 1.
    """

    def __init__(self, recipe: SpecAugmentRecipe) -> None:
        super().__init__()
        for name in ("freq_masks", "freq_width", "time_masks", "time_width"):
            if getattr(recipe, name) < 0:
                raise ConfigError(
                    f"augment.spec.{name} must be 0 or more, got {getattr(recipe, name)}"
                )
        if recipe.adaptive is not None and not 0 <= recipe.adaptive <= 1:
            raise ConfigError(
                "augment.spec.adaptive is a share of a clip's frames, "
                f"0 to 1 (0.04 is usual), got {recipe.adaptive}"
            )
        self.recipe = recipe

    @torch.no_grad()
    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Features [B, M, T] of clips with `frames` [B], masked; the input is left alone."""
        if not self.training:
            return features
        longest = features.shape[2]
        frames = frames.to(features.device)[:, None]  # [B, 1]
        in_time = self._time_masks(frames, longest)  # [B, T], drawn first, as NeMo draws
        in_frequency = self._freq_masks(features)  # [B, M]
        inside = torch.arange(longest, device=features.device) < frames  # [B, T]
        masked = (in_time[:, None] | in_frequency[:, :, None]) & inside[:, None]  # [B, M, T]
        return features.masked_fill(masked, 0.0)

    def _time_masks(self, frames: Tensor, longest: int) -> Tensor:
        recipe = self.recipe
        share = recipe.time_width < 1
        widest = recipe.time_width * frames if share else frames.clamp(max=int(recipe.time_width))
        if recipe.adaptive is None:
            return _masks(recipe.time_masks, widest, frames, longest)
        count = (recipe.adaptive * frames).long()  # [B, 1]
        return _masks(MOST_ADAPTIVE_MASKS, widest, frames, longest, count)

    def _freq_masks(self, features: Tensor) -> Tensor:
        batch, bins, _ = features.shape
        size = torch.full((batch, 1), bins, device=features.device)
        return _masks(self.recipe.freq_masks, size.clamp(max=self.recipe.freq_width), size, bins)


def _masks(
    number: int, widest: Tensor, size: Tensor, axis: int, count: Tensor | None = None
) -> Tensor:
    """Which of `axis` places are under one of `number` masks, each inside a row's `size`.

    Args:
        widest: [B, 1], what a width stays below.
        size: [B, 1], the places that a row has.
        count: [B, 1], how many of the masks a row gets; None gives it all.

    Returns:
        bool [B, axis].
    """
    batch, device = len(size), size.device
    width = (torch.rand(batch, number, device=device) * widest).long()  # [B, N]
    start = (torch.rand(batch, number, device=device) * (size - width)).long()
    if count is not None:
        width = width * (torch.arange(number, device=device) < count)
    places = torch.arange(axis, device=device)  # [A]
    first, stop = start[..., None], (start + width)[..., None]  # [B, N, 1]
    return ((places >= first) & (places < stop)).any(dim=1)
