"""Photo → upright RGB, by one documented rule.

EXIF orientation is applied. Palette and alpha are composed on white; CMYK is converted by Pillow; 16-bit grey is
scaled to 8 bits by its high byte. The result is always an 8-bit RGB image.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import BadInput

PhotoSource = str | Path | bytes | Image.Image | np.ndarray  # 3.10 and later


def decode(source: PhotoSource) -> Image.Image:
    """Open a photo.

    Args:
        source: path, encoded bytes, Pillow image, or uint8 RGB array `(H, W, 3)`.

    Raises:
        BadInput: no such file, or not a photo that Pillow can read whole.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(_checked(source))
    name = "photo" if isinstance(source, (bytes, Image.Image)) else str(source)
    try:
        if isinstance(source, Image.Image):
            return to_rgb(source)  # may be read from its file only now
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return to_rgb(image)
    except FileNotFoundError as error:
        raise BadInput(f"{name}: no such photo", "a path to a photo") from error
    except Exception as error:  # damaged files raise OSError, SyntaxError, struct.error, RuntimeError and more
        raise BadInput(f"{name}: cannot be read as a photo ({error})", "a whole JPEG, PNG or WebP file") from error


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise BadInput(f"photo array of {array.dtype} {array.shape}", "uint8 (H, W, 3), RGB")
    return array


def to_rgb(image: Image.Image) -> Image.Image:
    """Apply orientation and the colour rule of this module."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, as I;16 or widened to 32 bits
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
