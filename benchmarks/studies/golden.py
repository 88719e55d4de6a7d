"""Write runtime/golden.json: what every machine must make of photos and frames, by Pillow alone.

    python benchmarks/studies/golden.py

Written again only when `Preprocess.version` or the rule of docs/photos.md changes.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tiffin.data.download import SYNTHESIZED
from tiffin.runtime import selfcheck
from tiffin.runtime.preprocess import golden_hashes, patterns

PHOTOS = tuple(f"confirm-{index:03d}.jpg" for index in range(0, 81, 10))


def files() -> Iterator[tuple[str, bytes]]:
    """A small file of each kind that is decoded by another way."""
    colour = patterns()["rgb"].resize((45, 33))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"jpeg {subsampling}", _encoded(colour, "JPEG", subsampling=subsampling)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg progressive, turned", _encoded(colour, "JPEG", progressive=True, exif=exif)
    yield "jpeg grey", _encoded(colour.convert("L"), "JPEG")
    yield "jpeg cmyk", _encoded(colour.convert("CMYK"), "JPEG")
    yield "png", _encoded(colour, "PNG")
    yield "png palette", _encoded(colour.quantize(16), "PNG")
    yield "png 16-bit grey", _encoded(patterns()["grey16"].crop((0, 0, 45, 33)), "PNG")
    transparent = colour.convert("RGBA")
    transparent.putalpha(Image.fromarray(np.tile(np.arange(45, dtype=np.uint8) * 5, (33, 1))))
    yield "webp lossless, alpha", _encoded(transparent, "WEBP", lossless=True, exact=True)


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def main() -> None:
    """Write the file."""
    by_pillow = selfcheck._by_pillow
    golden = {
        "preprocess": golden_hashes(selfcheck.DEFAULT),
        "frames": {name: selfcheck.pixels_hash(frame.rgb()) for name, frame in selfcheck.frames().items()},
        "files": {
            name: {"decoded": selfcheck.pixels_hash(by_pillow(content)), "content": base64.b64encode(content).decode()}
            for name, content in files()
        },
        "photos": {name: selfcheck.pixels_hash(by_pillow((SYNTHESIZED / name).read_bytes())) for name in PHOTOS},
    }
    selfcheck.GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
