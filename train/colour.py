"""Changes of a batch's pixels: colours, and rectangles of noise. The same for every size of view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def change_colour(
    views: Sequence[torch.Tensor], strength: float, chance: float, changes: int, draw: np.random.Generator
) -> list[torch.Tensor]:
    """Multiply brightness, contrast and saturation of each photo by 1 ± strength, or some of the three.

    Args:
        views: float `(N, 3, H, W)`, 0–255.
        chance: that a photo is changed; changes: how many of the three, drawn for each photo.
    """
    count = len(views[0])
    factors = draw.uniform(1 - strength, 1 + strength, (3, count))
    if changes < 3:
        factors[np.argsort(draw.random((3, count)), axis=0) >= changes] = 1.0
    if chance < 1:
        factors[:, draw.random(count) >= chance] = 1.0
    shaped = torch.from_numpy(factors).view(3, count, 1, 1, 1).float()
    return [_coloured(view, shaped) for view in views]


def _coloured(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Brightness, then contrast about the photo's mean grey, then saturation."""
    brightness, contrast, saturation = factors
    weights = torch.tensor(_LUMA).view(1, 3, 1, 1)
    images = images * brightness
    mean = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = (images * weights).sum(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 255)


def erase(
    views: Sequence[torch.Tensor], chance: float, side: tuple[float, float], draw: np.random.Generator
) -> list[torch.Tensor]:
    """Fill one rectangle of some photos with uniform noise, at the same place of every view.

    Args:
        views: float `(N, 3, H, W)`, 0–255.
        side: least and greatest side of the rectangle, parts of the view's.
    """
    views = [view.clone() for view in views]
    for row in np.flatnonzero(draw.random(len(views[0])) < chance):
        sides = draw.uniform(*side, 2)
        first = draw.uniform(0, 1 - sides)
        for view in views:
            shape = np.array(view.shape[2:])
            top, left = np.rint(first * shape).astype(int)
            bottom, right = np.rint((first + sides) * shape).astype(int)
            noise = draw.uniform(0, 255, (3, bottom - top, right - left))
            view[row, :, top:bottom, left:right] = torch.from_numpy(noise).float()
    return views
