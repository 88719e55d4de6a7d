"""Does the transform that a model was trained with prepare photos as its artifact does? Compared in levels of 255."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..artifact import Preprocess
from ..errors import BadInput, ParityFailed
from ..runtime.decode import decode
from ..runtime.preprocess import FILTERS, corner, prepare, resized

TOLERANCE = 1.0  # level: libraries round a resize one way or the other
_ROUNDING = 0.02  # levels, of float32 where mean and std are undone
KEPT = 3  # worst photos, on which a cause is looked for

Transform = Callable[[Image.Image], Any]


@dataclass(frozen=True)
class Pair:
    """One photo, prepared twice.

    Args:
        raw: as the transform gave it, `(H, W, 3)`: levels where it is of integers, else normalized float32.
        theirs: its levels, float32, mean and std undone.
        ours: uint8 `(H, W, 3)`.
        largest: difference of any pixel, levels.
        by_order: what of it is Pillow's, which may resize a tall photo vertically first: the host part never does.
    """

    path: Path
    raw: np.ndarray
    theirs: np.ndarray
    ours: np.ndarray
    largest: float
    by_order: float = 0.0


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Args:
        photos: compared.
        resized: of them, how many had to be resized at all: without any, the filter was not looked at.
        largest: difference of any pixel of any photo, levels.
        by_order: the greatest that is the order of Pillow's two passes and nothing else, not counted in `largest`.
        worst: the `KEPT` photos that differ most, the worst first.
    """

    photos: int
    resized: int
    largest: float
    worst: tuple[Pair, ...]
    by_order: float = 0.0

    @property
    def alike(self) -> bool:
        """Within one level."""
        return _alike(self.largest)


def opened(path: Path) -> Image.Image:
    """As ImageFolder of torchvision and most loaders do: the EXIF orientation is ignored, alpha dropped."""
    with Image.open(path) as image:
        return image.convert("RGB")


def compare(
    host: Preprocess, transform: Transform, photos: Sequence[Path], opening: Callable[[Path], Image.Image] = opened
) -> Agreement:
    """Prepare every photo both ways.

    Args:
        opening: how a photo is opened for the transform; ours gets the file. By default as training loaders do it; a
            library's transform has no part in that, and is handed what `runtime.decode` makes.
        transform: gives float CHW or HWC, normalized by the artifact's mean and std; or uint8 levels; with or without
            a batch of one; an array, a tensor, an image, or a dict with `pixel_values`.

    Raises:
        BadInput: no photos, one that cannot be read, or a transform that fails or gives something else.
        ParityFailed: a size that is not the artifact's.
    """
    if not photos:
        raise BadInput("no photos to compare on", "some, as they come from the camera")
    worst: list[tuple[float, int, Pair]] = []
    count, by_order = 0, 0.0
    for number, path in enumerate(photos):
        pair, size = _pair(host, transform, path, opening)
        by_order = max(by_order, pair.by_order)
        heapq.heappush(worst, (pair.largest, -number, pair))
        if len(worst) > KEPT:
            heapq.heappop(worst)
        count += _is_resized(size, host)
    ordered = [pair for *_, pair in sorted(worst, key=lambda each: each[:2], reverse=True)]
    return Agreement(len(photos), count, ordered[0].largest, tuple(ordered), by_order)


def _is_resized(size: tuple[int, int], host: Preprocess) -> bool:
    scales = host.resized[1] / size[0], host.resized[0] / size[1]
    return max(scales) != 1 or (host.fit == "squeeze" and min(scales) != 1)


def _pair(
    host: Preprocess, transform: Transform, path: Path, opening: Callable[[Path], Image.Image]
) -> tuple[Pair, tuple[int, int]]:
    """And the photo's own width and height."""
    image = decode(path)
    ours = prepare(image, host)
    raw = _called(transform, path, opening)
    if raw.shape != ours.shape:
        raise ParityFailed(
            f"the reference makes {raw.shape[1]}×{raw.shape[0]} pixels of {path}",
            f"{host.width}×{host.height}, as the artifact takes them",
            "name the transform of inference, or export with its size",
        )
    theirs = levels(raw, host)
    largest, by_order = float(np.abs(theirs - ours).max()), 0.0
    if not _alike(largest):
        left = float(np.abs(theirs - in_one_call(image, host)).max())
        if _alike(left):
            largest, by_order = left, largest
    return Pair(path, raw, theirs, ours, largest, by_order), image.size


def _alike(levels_apart: float) -> bool:
    return levels_apart <= TOLERANCE + _ROUNDING


def in_one_call(image: Image.Image, host: Preprocess) -> np.ndarray:
    """The host part as libraries do it: Pillow itself chooses the order of the two passes, by its version."""
    size = resized(image.size, host)
    left, top = corner(size, host)
    whole = image.resize(size, FILTERS[host.interpolation])
    return np.asarray(whole.crop((left, top, left + host.width, top + host.height)))


def _called(transform: Transform, path: Path, opening: Callable[[Path], Image.Image]) -> np.ndarray:
    try:
        given = transform(opening(path))
    except Exception as error:  # the user's own code
        raise BadInput(f"the reference fails on {path}: {type(error).__name__}: {error}",
                       "a callable that takes one PIL image") from error  # fmt: skip
    return as_pixels(given)


def as_pixels(given: Any) -> np.ndarray:
    """What a transform gave, as `(H, W, 3)`.

    Raises:
        BadInput: no picture of three channels, or NaN.
    """
    held = given["pixel_values"] if isinstance(given, Mapping) and "pixel_values" in given else given
    held = held.detach().cpu().numpy() if hasattr(held, "detach") else held
    array = np.asarray(held)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]) or array.dtype.kind not in "iuf":
        raise BadInput(f"the reference gives {type(given).__name__} of {array.dtype}{array.shape}",
                       "float (3, H, W), normalized, or uint8 (H, W, 3)")  # fmt: skip
    pixels = array if array.shape[2] == 3 else array.transpose(1, 2, 0)
    if not np.isfinite(pixels).all():
        raise BadInput("the reference gives NaN or infinite values", "a picture")
    return pixels if pixels.dtype.kind in "iu" else pixels.astype(np.float32)


def levels(raw: np.ndarray, host: Preprocess) -> np.ndarray:
    """Mean and std undone, float32 `(H, W, 3)`; integers are levels already."""
    if raw.dtype.kind in "iu":
        return raw.astype(np.float32)
    return raw * np.asarray(host.std, np.float32) + np.asarray(host.mean, np.float32)
