"""The host part of `Preprocess`: decoded photo → uint8 RGB of the model's size. One implementation, bit-identical.

Resampling is Pillow's, whose integer arithmetic gives the same bytes on every platform; `golden` hashes prove it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..artifact.manifest import Preprocess
from ..errors import BadInput
from .decode import PhotoSource, decode, to_rgb

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_PIXELS = 64_000_000


def prepare(source: PhotoSource, preprocess: Preprocess) -> np.ndarray:
    """One photo as the model takes it: uint8 RGB `(height, width, 3)`.

    Raises:
        BadInput: the photo cannot be read.
    """
    return fit(decode(source), preprocess)


def prepare_batch(sources: Sequence[PhotoSource], preprocess: Preprocess) -> np.ndarray:
    """Several photos: uint8 RGB `(N, height, width, 3)`."""
    out = np.empty((len(sources), preprocess.height, preprocess.width, 3), np.uint8)
    for row, source in zip(out, sources, strict=True):
        row[:] = prepare(source, preprocess)
    return out


def fit(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Resize so that the centre crop covers `crop_fraction` of the shorter side, then crop.

    Raises:
        BadInput: the photo is so narrow that its resized whole would exhaust a device's memory.
    """
    height, width = preprocess.height, preprocess.width
    full_h, full_w = round(height / preprocess.crop_fraction), round(width / preprocess.crop_fraction)
    scale = max(full_h / image.height, full_w / image.width)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    if size[0] * size[1] > _MAX_PIXELS:
        raise BadInput(
            f"a photo of {image.width}×{image.height} pixels would be resized to {size[0]}×{size[1]}",
            f"at most {_MAX_PIXELS:,} pixels: a photo that is not that narrow",
        )
    resized = image if image.size == size else image.resize(size, _FILTERS[preprocess.interpolation])
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def _patterns() -> dict[str, Image.Image]:
    """Made by integer arithmetic alone, so that each platform makes the same: one per path of the rule."""
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
        name: hashlib.sha256(fit(to_rgb(image), preprocess).tobytes()).hexdigest()
        for name, image in _patterns().items()
    }


def with_golden(preprocess: Preprocess) -> Preprocess:
    """The same Preprocess carrying its golden hashes."""
    return dataclasses.replace(preprocess, golden=golden_hashes(preprocess))
