"""The host part of `Preprocess`: decoded photo → uint8 RGB of the model's size. One implementation, bit-identical.

Resampling is Pillow's, whose integer arithmetic gives the same bytes on every platform; `golden` hashes prove it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..artifact.manifest import Preprocess
from ..errors import BadInput
from .decode import MAX_PIXELS, PhotoSource, decode, to_rgb

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}

_STEPS = 4096  # of a pixel: see `_kept`
_REACH = 3  # Lanczos takes 3 pixels to each side, of the source where that is the finer; the others fewer


def prepare(source: PhotoSource, preprocess: Preprocess) -> np.ndarray:
    """One photo as the model takes it: uint8 RGB `(height, width, 3)`.

    Raises:
        BadInput: the photo cannot be read.
    """
    return fit(decode(source), preprocess)


def prepare_into(source: PhotoSource, preprocess: Preprocess, row: np.ndarray) -> None:
    """The same, written into `row`, uint8 `(height, width, 3)`.

    Raises:
        BadInput: the photo cannot be read.
    """
    row[:] = prepare(source, preprocess)


def prepare_batch(sources: Sequence[PhotoSource], preprocess: Preprocess) -> np.ndarray:
    """Several photos: uint8 RGB `(N, height, width, 3)`."""
    out = np.empty((len(sources), preprocess.height, preprocess.width, 3), np.uint8)
    for row, source in zip(out, sources, strict=True):
        prepare_into(source, preprocess, row)
    return out


def fit(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Resize so that the centre crop covers `crop_fraction` of the shorter side (squeezed: of each), then crop.

    Horizontally first, then vertically, in two calls: left to itself, Pillow 13 begins vertically where that is faster,
    and what is rounded between the two differs. Only what the crop keeps is computed, where that changes nothing.

    Raises:
        BadInput: the photo is so narrow that its resized whole would exhaust a device's memory.
    """
    height, width = preprocess.height, preprocess.width
    size, resampling = resized(image.size, preprocess), FILTERS[preprocess.interpolation]
    left, top = corner(size, preprocess)
    across, down = _kept(image.width, size[0], left, width), _kept(image.height, size[1], top, height)
    image = _cropped(image, (across.first, down.first, across.last, down.last))
    rows = image.height
    image = image.resize((across.size, rows), resampling, box=(across.low, 0, across.high, rows))
    image = _cropped(image, (across.start, 0, across.start + width, rows))
    image = image.resize((width, down.size), resampling, box=(0, down.low, width, down.high))
    return np.asarray(_cropped(image, (0, down.start, width, down.start + height)))


def _cropped(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    return image if box == (0, 0, *image.size) else image.crop(box)


def resized(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Width and height of the whole photo, resized, from its own.

    Raises:
        BadInput: it is so narrow that its resized whole would exhaust a device's memory.
    """
    height, width = preprocess.height, preprocess.width
    full_h, full_w = preprocess.resized
    if preprocess.fit == "squeeze":
        return full_w, full_h
    across, down = full_w / size[0], full_h / size[1]
    if preprocess.rounding == "nearest":
        scale = max(across, down)
        found = (max(width, round(size[0] * scale)), max(height, round(size[1] * scale)))
    elif across > down:
        found = full_w, int(full_w * size[1] / size[0])
    else:
        found = int(full_h * size[0] / size[1]), full_h
    if found[0] * found[1] > MAX_PIXELS:
        raise BadInput(
            f"a photo of {size[0]}×{size[1]} pixels would be resized to {found[0]}×{found[1]}",
            f"at most {MAX_PIXELS:,} pixels: a photo that is not that narrow",
        )
    return found


def corner(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Pixels that are cut off on the left and at the top of a resized photo of this width and height."""
    margins = size[0] - preprocess.width, size[1] - preprocess.height
    if preprocess.rounding == "torchvision":
        return round(margins[0] / 2), round(margins[1] / 2)
    return margins[0] // 2, margins[1] // 2


@dataclass(frozen=True)
class _Side:
    """One side of a photo: source pixels `first` to `last`, of which `low` to `high` (counted from `first`) become
    `size` pixels; what is kept of those begins at `start`.
    """

    first: int
    last: int
    low: float
    high: float
    size: int
    start: int


def _kept(source: int, resized: int, start: int, kept: int) -> _Side:
    """How to come to `kept` pixels from `start` on, of `source` pixels resized to `resized`.

    Pillow takes edges as float32 and centres as float64: `edge + (i + 0.5) * scale`. Where a step is a whole number of
    4096ths and the edges are below 4096 (24 bits, as float32 has), nothing is ever rounded, and the part comes out as
    from the whole: so it is for 224 of 256 pixels, a quarter less to compute.
    """
    if source == resized:
        return _Side(start, start + kept, 0, kept, kept, 0)
    scale = source / resized
    reach = math.ceil(_REACH * max(1.0, scale)) + 1
    low, high = start * scale, (start + kept) * scale
    first, last = max(0, int(low) - reach), min(source, math.ceil(high) + reach)
    if source * _STEPS % resized or high - first >= _STEPS:
        return _Side(0, source, 0, source, resized, start)
    return _Side(first, last, low - first, high - first, kept, 0)


def patterns() -> dict[str, Image.Image]:
    """Pictures made by integer arithmetic alone, so that each platform makes the same: one per path of the rule."""
    y, x = np.mgrid[0:301, 0:403]
    colour = np.stack([(x * 7 + y * 3) % 256, (x * y) % 256, (x ^ y) % 256], -1).astype(np.uint8)
    grey16 = ((x * 163 + y * 211) % 65536).astype(np.uint16)
    return {
        "rgb": Image.fromarray(colour),
        "rgba": Image.fromarray(np.dstack([colour, (x + y).astype(np.uint8)])),
        "cmyk": Image.frombytes("CMYK", (403, 301), np.dstack([colour, colour[..., :1]]).tobytes()),
        "grey16": Image.fromarray(grey16),
        "small": Image.fromarray(colour[:40, :60]),
    }


def golden_hashes(preprocess: Preprocess) -> dict[str, str]:
    """sha256 of the host part's bytes for each pattern."""
    return {
        name: hashlib.sha256(fit(to_rgb(image), preprocess).tobytes()).hexdigest() for name, image in patterns().items()
    }


def with_golden(preprocess: Preprocess) -> Preprocess:
    """The same Preprocess carrying its golden hashes."""
    return dataclasses.replace(preprocess, golden=golden_hashes(preprocess))
