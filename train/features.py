"""What a frozen network makes of photos, computed once: its head is then fitted in seconds.

The network is in eval mode, its batch norms use the statistics that came with its weights (a linear classifier on such
features: Kornblith et al., CVPR 2019, arXiv 1805.08974). The first view of a photo is the photo as it is scored, each
further view one draw of the augmentation: every epoch shows one view of each photo.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..artifact import Preprocess
from ..data.array_file import new_array
from ..data.prepared import PreparedPhotos
from ..machine import usable_cores, versions
from .augment import Augmentation, Batch, drawn_order, mixed, views_of
from .checkpoint import state_digest
from .options import FitOptions
from .views import FORWARD_BATCH, Student, draw_chances, pixels_of

_log = logging.getLogger(__name__)
Counted = Callable[[int, int], None]


class Head(Student):
    """The part that is fitted: features → logits."""

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Of float32 features as `features_of` gives them, computed in float32: a head costs little."""
        with torch.autocast("cpu", enabled=False):
            return self.module(features)


@dataclass(frozen=True)
class FeatureViews:
    """One array of features a view, float32 `(N, …)`."""

    views: tuple[np.ndarray, ...]
    truth: np.ndarray
    key: str

    def digest(self) -> str:
        """Of what the features were computed from."""
        return self.key

    def batches(self, options: FitOptions, epoch: int, pool: Executor) -> Iterator[Batch]:
        """One epoch's: one view of each photo, mixed as pixels would be (Verma et al. 2019, arXiv 1806.05236)."""
        seed, chances = (options.seed, epoch), draw_chances(self.truth, options)
        for step, rows in enumerate(drawn_order(len(self.truth), options.batch, seed, chances)):
            draw = np.random.default_rng([*seed, step])
            which = draw.integers(len(self.views), size=len(rows))
            shown = np.stack([self.views[view][row] for view, row in zip(which, rows, strict=True)])
            yield mixed([torch.from_numpy(shown)], self.truth[rows], options.augmentation, draw)


@dataclass(frozen=True)
class Backbone:
    """A network whose head is to be fitted.

    Args:
        module: in eval mode; head: name of the submodule whose input are the features.
        cache: folder that features are kept in.
    """

    module: nn.Module
    head: str
    host: Preprocess
    cache: Path

    def digest(self) -> str:
        """sha256 of all weights but the head's."""
        return state_digest(self.module.state_dict(), without=(f"{self.head}.",))


def plain_features(backbone: Backbone, photos: PreparedPhotos, counted: Counted) -> np.ndarray:
    """Of photos prepared as they are scored, float32 `(N, …)`; `counted` is told photos done, and of how many."""
    return _kept(backbone, photos, ["plain"], pixels_of(photos), counted)


def drawn_features(
    backbone: Backbone,
    photos: PreparedPhotos,
    augmentation: Augmentation,
    seed: tuple[int, int],
    counted: Counted,
) -> np.ndarray:
    """Of one draw of the augmentation, mixing aside, from photos that are prepared to crop from."""
    unmixed = replace(augmentation, mixup=0.0)
    size = (backbone.host.height, backbone.host.width)
    rows = np.array_split(np.arange(len(photos)), range(FORWARD_BATCH, len(photos), FORWARD_BATCH))

    def views() -> Iterator[torch.Tensor]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            for batch in views_of(photos.array(), photos.truth, rows, [size], unmixed, seed, pool):
                yield batch.views[0]

    return _kept(backbone, photos, [asdict(unmixed), seed], views(), counted)


def _kept(
    backbone: Backbone, photos: PreparedPhotos, how: list[object], batches: Iterator[torch.Tensor], counted: Counted
) -> np.ndarray:
    """Computed, or found in the cache under all that decides them."""
    host = backbone.host
    size = [host.digest(), host.mean, host.std]
    about = [backbone.digest(), photos.digest(), photos.path.name, size, how, versions(("torch",))]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    path = backbone.cache / f"features-{key}.npy"
    if path.exists():
        _log.info("features found in %s", path)
        return np.load(path, mmap_mode="r")
    features = np.concatenate(list(_computed(backbone, batches, len(photos), counted)))
    with new_array(path, features.shape, "features", features.dtype) as array:
        array[:] = features
    return features


def _computed(
    backbone: Backbone, batches: Iterator[torch.Tensor], total: int, counted: Counted
) -> Iterator[np.ndarray]:
    student, seen = Student(backbone.module.eval(), backbone.host), list[np.ndarray]()
    kept = backbone.module.get_submodule(backbone.head).register_forward_pre_hook(
        lambda module, given: seen.append(given[0].float().numpy())
    )
    done = 0
    try:
        for pixels in batches:
            with torch.inference_mode():
                student.logits(pixels)
            done += len(pixels)
            counted(done, total)
            yield seen.pop()
    finally:
        kept.remove()
