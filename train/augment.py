"""Training views of photos: one random crop at the sizes that student and teacher take, coloured and mixed alike.

A student that imitates a teacher must see what the teacher sees (Beyer et al., CVPR 2022, arXiv 2106.05237).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

Box = tuple[float, float, float, float]
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each photo.

    Args:
        min_area: least part of the photo's area that a crop keeps, in (0, 1].
        ratio: greatest aspect ratio of a crop, ≥ 1.
        flip: chance of a horizontal flip.
        colour: brightness, contrast and saturation are multiplied by 1 ± this.
        mixup: chance that a batch is mixed with itself (Zhang et al., ICLR 2018), by Beta(0.2, 0.2).
    """

    min_area: float = 0.35
    ratio: float = 4 / 3
    flip: float = 0.5
    colour: float = 0.3
    mixup: float = 0.5


@dataclass(frozen=True)
class Batch:
    """Views of one batch.

    Args:
        views: float32 `(N, 3, height, width)` in pixel units 0–255, one a size asked for.
        labels: int64 `(N,)`; `others` and `share`: of the photo mixed in, which has `1 - share` of each pixel.
    """

    views: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    others: torch.Tensor
    share: float


def batches(
    photos: np.ndarray,
    labels: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    size: int,
    augmentation: Augmentation,
    seed: Sequence[int],
    pool: Executor,
) -> Iterator[Batch]:
    """All photos once in seeded order, the last incomplete batch left out; the next batch is drawn ahead.

    Args:
        photos: uint8 `(N, H, W, 3)`, at least as large as the views.
        sizes: (height, width) in pixels of the views wanted.
        size: photos a batch.
        seed: whatever must decide the draw, such as (seed, epoch).
    """
    chance = np.random.default_rng(list(seed))
    order = chance.permutation(len(photos))
    steps = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    draws = [np.random.default_rng([*seed, step]) for step in range(len(steps))]
    waiting = None
    for rows, draw in zip(steps, draws, strict=True):
        ahead = _cut(photos, rows, sizes, augmentation, draw, pool)
        if waiting:
            yield _finished(*waiting)
        waiting = (ahead, labels[rows], augmentation, draw)
    if waiting:
        yield _finished(*waiting)


def _cut(photos, rows, sizes, augmentation, draw, pool):  # type: ignore[no-untyped-def]
    """Crops under way, one future a photo."""
    plans = [(_box(photos.shape[1:3], augmentation, draw), draw.random() < augmentation.flip) for _ in rows]
    return [pool.submit(_views, photos[row], box, flip, sizes) for row, (box, flip) in zip(rows, plans, strict=True)]


def _box(shape: tuple[int, ...], augmentation: Augmentation, draw: np.random.Generator) -> Box:
    """A crop of random area and aspect ratio (Szegedy et al., CVPR 2015): left, top, right, bottom in pixels."""
    height, width = shape
    area = draw.uniform(augmentation.min_area, 1.0) * height * width
    edge = math.log(augmentation.ratio)
    ratio = math.exp(draw.uniform(-edge, edge))
    wide, high = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = draw.uniform(0, width - wide), draw.uniform(0, height - high)
    return left, top, left + wide, top + high


def _views(photo: np.ndarray, box: Box, flip: bool, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    image = Image.fromarray(photo)
    views = [np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box)) for height, width in sizes]
    return [view[:, ::-1] for view in views] if flip else views


def _finished(futures, labels: np.ndarray, augmentation: Augmentation, draw: np.random.Generator) -> Batch:  # type: ignore[no-untyped-def]
    cut = [future.result() for future in futures]
    views = [torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2).float() for view in zip(*cut, strict=True)]
    factors = torch.from_numpy(
        draw.uniform(1 - augmentation.colour, 1 + augmentation.colour, (3, len(labels), 1, 1, 1))
    )
    views = [_coloured(view, factors.float()) for view in views]
    share, order = 1.0, np.arange(len(labels))
    if draw.random() < augmentation.mixup:
        share, order = float(draw.beta(0.2, 0.2)), draw.permutation(len(labels))
        views = [share * view + (1 - share) * view[order] for view in views]
    truth = torch.from_numpy(labels)
    return Batch(tuple(views), truth, truth[order], share)


def _coloured(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Brightness, then contrast about the photo's mean grey, then saturation."""
    brightness, contrast, saturation = factors
    weights = torch.tensor(_GREY).view(1, 3, 1, 1)
    images = images * brightness
    mean = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = (images * weights).sum(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 255)
