"""Photo → upright RGB, by one documented rule (docs/photos.md).

EXIF orientation is applied. Palette and alpha are composed on white; CMYK is converted by Pillow; of 16 bits the high
byte is kept, in grey and in colour (a PPM's colours Pillow scales). Float pixels are refused. The result is always an
8-bit RGB image.
"""

from __future__ import annotations

import functools
import importlib
import io
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import BadInput
from . import jpeg
from .frames import Frame
from .host_array import Tensor, to_host

PhotoSource = str | Path | bytes | Image.Image | np.ndarray | Frame | Tensor  # 3.10 and later

MAX_PIXELS = 64_000_000
"""Of a photo, by its header: a quarter of a gigabyte once decoded. Larger ones are refused before they are decoded."""

# Those that photos come in. Pillow reads more, some by other programs: none of a device's business.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")

_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # ISO/IEC 23008-12, annex B


def decode(source: PhotoSource) -> Image.Image:
    """Open a photo.

    Args:
        source: path, encoded bytes, Pillow image, uint8 RGB array `(H, W, 3)`, `Frame`, or an array of another library
            like that, with `__dlpack__` (or on a GPU).

    Raises:
        BadInput: no such file, not a photo that Pillow can read whole, or one of more than `MAX_PIXELS`.
        EngineMissing, EngineFailed: an array on a GPU cannot be copied from there.
    """
    if isinstance(source, (str, Path, bytes)):
        return _encoded(source)
    if isinstance(source, Image.Image):
        return _read("photo", source)
    if isinstance(source, Frame):
        return Image.fromarray(np.ascontiguousarray(source.rgb()))
    if isinstance(source, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(_checked(source)))
    if hasattr(source, "__dlpack__") or hasattr(source, "__cuda_array_interface__"):
        return decode(to_host(source))
    raise BadInput(f"a photo of type {type(source).__name__}", "a path, bytes, an image, an array or a Frame")


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise BadInput(f"photo array of {array.dtype} {array.shape}", "uint8 (H, W, 3), RGB")
    return array


def _encoded(source: str | Path | bytes) -> Image.Image:
    if isinstance(source, bytes):
        return _read("photo", io.BytesIO(source))
    try:
        with Path(source).open("rb") as file:
            return _read(str(source), file)
    except FileNotFoundError as error:
        raise BadInput(f"{source}: no such photo", "a path to a photo") from error
    except (OSError, ValueError) as error:  # a folder, no permission, a zero byte in the name
        raise _unreadable(str(source), error) from error


def _read(name: str, source: IO[bytes] | Image.Image) -> Image.Image:
    try:
        if isinstance(source, Image.Image):
            return to_rgb(_bounded(name, source))  # may be read from its file only now
        # A file by its name: of that extension Pillow loads one plugin, else five, which a first photo waits for.
        with Image.open(getattr(source, "name", source), formats=_formats(source)) as image:
            pixels = jpeg.decoded(source, _bounded(name, image))
            return to_rgb(image) if pixels is None else _turned(pixels, image)
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # beyond Pillow's own bound
        raise _too_large(name, str(error)) from error
    except Exception as error:  # damaged files raise OSError, SyntaxError, struct.error, RuntimeError and more
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> BadInput:
    why = "of no format that is known" if isinstance(error, UnidentifiedImageError) else error
    return BadInput(f"{name}: cannot be read as a photo ({why})", "a whole JPEG, PNG or WebP file")


def _bounded(name: str, image: Image.Image) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width}×{image.height} pixels")
    return image


def _too_large(name: str, how: str) -> BadInput:
    return BadInput(f"{name}: too large ({how})", f"at most {MAX_PIXELS:,} pixels", "make the photo smaller")


def _formats(file: IO[bytes]) -> tuple[str, ...]:
    """What to read it as: JPEG and PNG are known by their first bytes, for the rest Pillow loads all its formats."""
    head = file.read(64)
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff"):
        return ("JPEG",)
    if head.startswith(b"\x89PNG"):
        return ("PNG",)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head:
        _register_heif()
        return ("HEIF",)
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.lru_cache(maxsize=1)
def _register_heif() -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        what = "a HEIC photo, and pillow-heif is not installed"
        raise BadInput(what, "the package pillow-heif", "pip install 'tiffin[heif]'") from error


def _turned(pixels: Image.Image, header: Image.Image) -> Image.Image:
    """Upright, as the EXIF orientation of `header` says."""
    turn = _TURNS.get(header.getexif().get(_ORIENTATION, 1))
    return pixels if turn is None else pixels.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Apply orientation and the colour rule of this module; an upright RGB image is itself the result."""
    image.load()
    image = _turned(image, image)
    if image.mode == "F":
        raise BadInput("a photo of float pixels, which have no agreed range", "8 or 16 bits", "save it as 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, as I;16 or widened to 32 bits
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")
