"""Photos corrupted and prepared once for one Preprocess: an array file on disk, one block a corruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ..artifact import Preprocess
from ..artifact.files import replace_files
from ..machine import usable_cores
from ..records.corruption import Corruption
from ..runtime.decode import decode
from ..runtime.preprocess import fit
from .array_file import new_array
from .corruptions import VERSION, corrupt, parameter_of
from .dataset import Photo
from .overlap import decoder, pixels_hash
from .prepared import PreparedPhotos

Row = tuple[np.ndarray, str]


def prepare_corrupted(
    photos: Sequence[Photo],
    clean: PreparedPhotos,
    corruptions: Sequence[Corruption],
    preprocess: Preprocess,
    cache: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> PreparedPhotos:
    """All photos under the first corruption, then under the next, or find them done in `cache`.

    Args:
        photos: those of `clean`, in its order.
        clean: the same photos as they are; their hashes seed what is drawn.

    Returns:
        Photos whose hashes are those of the corrupted pixels.

    Raises:
        BadInput: a photo cannot be read, an unknown corruption, or no room on the disk.
    """
    about = [VERSION, decoder(), preprocess.digest(), [str(one) for one in corruptions], clean.digest()]
    about.append([parameter_of(one) for one in corruptions])
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
    path, listed = cache / f"corrupted-{key}.npy", cache / f"corrupted-{key}.json"
    truth = np.tile(clean.truth, len(corruptions))
    if not (path.exists() and listed.exists()):
        hashes = _fill(path, photos, clean.hashes, corruptions, preprocess, progress)
        replace_files({listed: json.dumps(hashes).encode()})
    return PreparedPhotos(path, tuple(json.loads(listed.read_text())), truth, clean.kind)


def _fill(
    path: Path,
    photos: Sequence[Photo],
    digests: Sequence[str],
    corruptions: Sequence[Corruption],
    preprocess: Preprocess,
    progress: Callable[[int], None],
) -> list[str]:
    """Write the array, photo by photo; return the hashes in its order."""
    count = len(photos)
    shape = (count * len(corruptions), preprocess.height, preprocess.width, 3)
    hashes = [""] * shape[0]

    def rows(pair: tuple[Photo, str]) -> list[Row]:
        image = decode(pair[0].path)
        return [_row(image, pair[1], one, preprocess) for one in corruptions]

    with new_array(path, shape, "corrupted photos") as array, ThreadPoolExecutor(usable_cores()) as pool:
        for index, found in enumerate(pool.map(rows, zip(photos, digests, strict=True))):
            for block, (pixels, digest) in enumerate(found):
                array[block * count + index], hashes[block * count + index] = pixels, digest
            progress(index + 1)
    return hashes


def _row(image: Image.Image, digest: str, corruption: Corruption, preprocess: Preprocess) -> Row:
    found = corrupt(image, corruption, digest)
    return fit(found, preprocess), pixels_hash(found)
