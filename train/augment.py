"""Training views of photos: one random crop at the sizes that student and teacher take, turned, coloured, mixed alike.

A student that imitates a teacher must see what the teacher sees (Beyer et al., CVPR 2022, arXiv 2106.05237).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..errors import BadInput
from .colour import change_colour, erase

Box = tuple[float, float, float, float]
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_EITHER = "either"
_GREY = (127, 127, 127)  # what a turned photo's corners are filled with


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each photo. A chance of 0 switches its change off.

    Args:
        min_area: crops are drawn with this part of the square's area or more, in (0, 1]; 1 with ratio 1 keeps all. One
            that is longer than the square is cut off there: from an area above 1 / ratio down to √(area / ratio).
        ratio: greatest aspect ratio of a crop, ≥ 1.
        interpolation: "bicubic", "bilinear", or "either", drawn for each photo.
        flip: chance of a horizontal flip.
        colour: brightness, contrast and saturation are multiplied by 1 ± this, in [0, 1].
        colour_chance, colour_changes: chance that they are, and how many of the three, drawn for each photo.
        rotation, rotation_degrees: chance of a turn, by at most so many degrees to either side.
        erasing, erasing_min, erasing_max: chance that a rectangle is filled with noise (Zhong et al. 2017, arXiv
            1708.04896), and its least and greatest side as parts of the view's.
        mixup, mixup_alpha: chance that a batch is mixed with itself (Zhang et al., ICLR 2018, arXiv 1710.09412), by a
            share from Beta(alpha, alpha).
    """

    min_area: float = 0.35
    ratio: float = 4 / 3
    interpolation: str = "bicubic"
    flip: float = 0.5
    colour: float = 0.3
    colour_chance: float = 1.0
    colour_changes: int = 3
    rotation: float = 0.0
    rotation_degrees: float = 20.0
    erasing: float = 0.0
    erasing_min: float = 0.15
    erasing_max: float = 0.4
    mixup: float = 0.5
    mixup_alpha: float = 0.2

    def __post_init__(self) -> None:
        for name in ("flip", "colour", "colour_chance", "rotation", "erasing", "mixup"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name.replace('_', ' ')} {getattr(self, name)}", "between 0 and 1")
        if not 0 < self.min_area <= 1 or self.ratio < 1:
            raise BadInput(f"crop area {self.min_area}, crop ratio {self.ratio}", "an area in (0, 1], a ratio from 1")
        low, high = self.erasing_min, self.erasing_max
        if not 0 < low <= high <= 1 or self.mixup_alpha <= 0 or not 0 <= self.rotation_degrees <= 180:
            raise BadInput(
                f"erasing side {low} to {high}, mixup alpha {self.mixup_alpha}, rotation {self.rotation_degrees}°",
                "sides in (0, 1], the smaller first; alpha above 0; 0° to 180°",
            )
        if self.interpolation not in (*_FILTERS, _EITHER) or not 1 <= self.colour_changes <= 3:
            raise BadInput(
                f"interpolation {self.interpolation!r}, colour changes {self.colour_changes}",
                f"{', '.join(_FILTERS)} or {_EITHER}; 1 to 3",
            )


@dataclass(frozen=True)
class Batch:
    """Views of one batch.

    Args:
        views: float32 `(N, 3, height, width)` in pixel units 0–255, one a size asked for; or `(N, features)`.
        labels: int64 `(N,)`; `others` and `share`: of the photo mixed in, which has `1 - share` of each pixel.
    """

    views: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    others: torch.Tensor
    share: float


@dataclass(frozen=True)
class _Plan:
    """How one photo is changed before it is a tensor."""

    box: Box
    flip: bool
    degrees: float
    interpolation: str


def batches(
    photos: np.ndarray,
    labels: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    size: int,
    augmentation: Augmentation,
    seed: Sequence[int],
    pool: Executor,
    chances: np.ndarray | None = None,
) -> Iterator[Batch]:
    """As many photos as there are, in seeded order, the last incomplete batch left out; the next is drawn ahead.

    Args:
        photos: uint8 `(N, H, W, 3)`, at least as large as the views; the squares of `distill.training_photos`.
        sizes: (height, width) in pixels of the views wanted.
        size: photos a batch.
        seed: whatever must decide the draw, such as (seed, epoch).
        chances: of each photo to be drawn, with replacement, float64 `(N,)` with sum 1; None shows each once.
    """
    steps = drawn_order(len(photos), size, seed, chances)
    return views_of(photos, labels, steps, sizes, augmentation, seed, pool)


def drawn_order(count: int, size: int, seed: Sequence[int], chances: np.ndarray | None = None) -> list[np.ndarray]:
    """Rows of each batch of `size`, as `batches` draws them."""
    chance = np.random.default_rng(list(seed))
    order = chance.permutation(count) if chances is None else chance.choice(count, count, p=chances)
    return [order[start : start + size] for start in range(0, count - size + 1, size)]


def views_of(
    photos: np.ndarray,
    labels: np.ndarray,
    steps: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    augmentation: Augmentation,
    seed: Sequence[int],
    pool: Executor,
) -> Iterator[Batch]:
    """Views of the rows given for each batch."""
    draws = [np.random.default_rng([*seed, step]) for step in range(len(steps))]
    waiting = None
    for rows, draw in zip(steps, draws, strict=True):
        ahead = _cut(photos, rows, sizes, augmentation, draw, pool)
        if waiting:
            yield _finished(*waiting)
        waiting = (ahead, labels[rows], augmentation, draw)
    if waiting:
        yield _finished(*waiting)


Cuts = list["Future[list[np.ndarray]]"]


def _cut(
    photos: np.ndarray,
    rows: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    augmentation: Augmentation,
    draw: np.random.Generator,
    pool: Executor,
) -> Cuts:
    """Crops under way, one future a photo."""
    plans = [_plan(photos.shape[1:3], augmentation, draw) for _ in rows]
    return [pool.submit(_views, photos[row], plan, sizes) for row, plan in zip(rows, plans, strict=True)]


def _plan(shape: tuple[int, ...], augmentation: Augmentation, draw: np.random.Generator) -> _Plan:
    """Draws nothing for what is switched off, so that adding a kind of change alters no run without it."""
    box, flip = _box(shape, augmentation, draw), bool(draw.random() < augmentation.flip)
    turned = augmentation.rotation > 0 and draw.random() < augmentation.rotation
    degrees = float(draw.uniform(-1, 1)) * augmentation.rotation_degrees if turned else 0.0
    word = augmentation.interpolation
    return _Plan(box, flip, degrees, str(draw.choice(list(_FILTERS))) if word == _EITHER else word)


def _box(shape: tuple[int, ...], augmentation: Augmentation, draw: np.random.Generator) -> Box:
    """A crop of random area and aspect ratio (Szegedy et al., CVPR 2015): left, top, right, bottom in pixels.

    What is longer than the photo is cut off, not drawn again: recipes were measured so.
    """
    height, width = shape
    area = draw.uniform(augmentation.min_area, 1.0) * height * width
    edge = math.log(augmentation.ratio)
    ratio = math.exp(draw.uniform(-edge, edge))
    wide, high = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = draw.uniform(0, width - wide), draw.uniform(0, height - high)
    return left, top, left + wide, top + high


def _views(photo: np.ndarray, plan: _Plan, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    image, resampling = Image.fromarray(photo), _FILTERS[plan.interpolation]
    if plan.degrees:
        image = image.rotate(plan.degrees, Image.Resampling.BILINEAR, fillcolor=_GREY)
    views = [np.asarray(image.resize((width, height), resampling, plan.box)) for height, width in sizes]
    return [view[:, ::-1] for view in views] if plan.flip else views


def _finished(futures: Cuts, labels: np.ndarray, augmentation: Augmentation, draw: np.random.Generator) -> Batch:
    cut = [future.result() for future in futures]
    views = [torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2).float() for view in zip(*cut, strict=True)]
    views = change_colour(views, augmentation.colour, augmentation.colour_chance, augmentation.colour_changes, draw)
    if augmentation.erasing > 0:
        views = erase(views, augmentation.erasing, (augmentation.erasing_min, augmentation.erasing_max), draw)
    return mixed(views, labels, augmentation, draw)


def mixed(
    views: Sequence[torch.Tensor], labels: np.ndarray, augmentation: Augmentation, draw: np.random.Generator
) -> Batch:
    """The batch, mixed with itself in another order where the draw says so."""
    share, order = 1.0, np.arange(len(labels))
    if draw.random() < augmentation.mixup:
        share = float(draw.beta(augmentation.mixup_alpha, augmentation.mixup_alpha))
        order = draw.permutation(len(labels))
        views = [share * view + (1 - share) * view[order] for view in views]
    truth = torch.from_numpy(labels)
    return Batch(tuple(views), truth, truth[order], share)
