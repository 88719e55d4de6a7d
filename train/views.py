"""What is fitted, and what it is shown: photos cut anew each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ..artifact import Preprocess
from ..data.prepared import PreparedPhotos
from ..errors import BadInput
from .augment import Batch, batches
from .loss import inverse_frequency
from .options import FitOptions

FORWARD_BATCH = 8  # more at once: as much time goes into memory that the system maps anew as into convolutions


@dataclass(frozen=True)
class Student:
    """What is fitted, or imitated: normalized float `(N, 3, H, W)` → logits, and the preprocessing that it takes.

    `stages`: names of submodules in the order of the graph, the head last (`schedule.stages_of`).
    """

    module: nn.Module
    host: Preprocess
    stages: tuple[str, ...] = ()

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of float `(N, 3, H, W)` in pixel units 0–255."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.host.mean, self.host.std))
        return self.module(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))


def require_size(module: nn.Module, host: Preprocess, name: str) -> None:
    """Find out before minutes of preparing photos.

    Raises:
        BadInput: the network does not take photos of that size.
    """
    try:
        with torch.inference_mode():
            Student(module.eval(), host).logits(torch.zeros(1, 3, host.height, host.width))
    except Exception as error:  # a module raises what it likes
        raise BadInput(
            f"{name} does not take {host.height}×{host.width} pixels ({error})",
            "a size that it can compute",
            "name another size; a network of one size takes only that which it was made for",
        ) from error


def pixels_of(photos: PreparedPhotos) -> Iterator[torch.Tensor]:
    """Batches of photos as they are scored, float `(N, 3, H, W)`, 0–255, as `Student.logits` takes them."""
    array = photos.array()
    for start in range(0, len(photos), FORWARD_BATCH):
        yield torch.from_numpy(array[start : start + FORWARD_BATCH].copy()).permute(0, 3, 1, 2).float()


class Views(Protocol):
    """What the loop draws its batches from."""

    @property
    def truth(self) -> np.ndarray:
        """True labels, int64 `(N,)`."""

    def digest(self) -> str:
        """Names what decides the views, options aside."""

    def batches(self, options: FitOptions, epoch: int, pool: Executor) -> Iterator[Batch]:
        """Those of one epoch, decided by the options' seed and the epoch alone."""


@dataclass(frozen=True)
class PhotoViews:
    """Crops of photos at the sizes (height, width) wanted."""

    photos: PreparedPhotos
    sizes: tuple[tuple[int, int], ...]

    @property
    def truth(self) -> np.ndarray:
        """True labels."""
        return self.photos.truth

    def digest(self) -> str:
        """Of the photos, and of how they were prepared (the file's name)."""
        return f"{self.photos.digest()} {self.photos.path.name}"

    def batches(self, options: FitOptions, epoch: int, pool: Executor) -> Iterator[Batch]:
        """One epoch's."""
        array, seed = self.photos.array(), (options.seed, epoch)
        chances = draw_chances(self.truth, options)
        return batches(array, self.truth, self.sizes, options.batch, options.augmentation, seed, pool, chances)


def draw_chances(truth: np.ndarray, options: FitOptions) -> np.ndarray | None:
    """Of each photo to be drawn where classes are balanced by drawing, float64 `(N,)`; None where they are not."""
    if options.balance != "sampler":
        return None
    weights = inverse_frequency(truth)[truth]
    return weights / weights.sum()
