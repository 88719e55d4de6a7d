"""JPEGs by simplejpeg where it is installed: the same pixels as Pillow's, in less time (docs/photos.md).

Both are libjpeg-turbo with its exact transform. Pillow has read the header by then; what follows is decided by it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from types import ModuleType
from typing import IO

from PIL import Image

from .lend import can_lend, lend


@functools.lru_cache(maxsize=1)
def decoder() -> ModuleType | None:
    """simplejpeg, or None: it is not installed, or this Pillow would copy what it decodes."""
    if not can_lend() or importlib.util.find_spec("simplejpeg") is None:
        return None
    return importlib.import_module("simplejpeg")


def decoded(file: IO[bytes], image: Image.Image) -> Image.Image | None:
    """The pixels of a JPEG as stored, RGB; None where Pillow is to decode it.

    Pillow decodes what is grey or CMYK, what is larger than its own pixels (Pillow reads it in pieces), and what
    simplejpeg refuses: a damaged file, of which Pillow alone says whether it is a photo and which one.

    Args:
        file: the whole of it, at any position.
        image: what Pillow opened of it, not yet loaded.
    """
    simplejpeg = decoder()
    if simplejpeg is None or image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    if file.seek(0, os.SEEK_END) > 3 * image.width * image.height + 1_000_000:  # bytes of metadata
        return None
    file.seek(0)
    content = file.read()
    try:
        height, width = simplejpeg.decode_jpeg_header(content)[:2]
        if (width, height) != image.size:
            return None
        return lend(simplejpeg.decode_jpeg(content, "rgbx"))
    except ValueError:
        return None
