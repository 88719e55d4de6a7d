"""Photos prepared once for one Preprocess: an array file on disk that every candidate with that input shares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..artifact import Preprocess
from ..errors import BadInput
from ..machine import usable_cores
from ..runtime.preprocess import prepare
from .array_file import new_array
from .dataset import Photo
from .overlap import decoder, pixel_hashes


@dataclass(frozen=True)
class PreparedPhotos:
    """uint8 `(N, H, W, 3)` in `path` (.npy), with each photo's pixel hash and true label.

    `kind` is "photos" or "synthesized".
    """

    path: Path
    hashes: tuple[str, ...]
    truth: np.ndarray
    kind: str = "photos"

    def __len__(self) -> int:
        return len(self.hashes)

    def array(self) -> np.ndarray:
        """Memory-mapped, read-only."""
        return np.load(self.path, mmap_mode="r")

    def digest(self) -> str:
        """sha256 over the photos' hashes, in order."""
        return digest_of(self.hashes)


def digest_of(hashes: Iterable[str]) -> str:
    """sha256 over photos' hashes, in order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def prepare_photos(
    photos: Sequence[Photo],
    preprocess: Preprocess,
    cache: Path,
    kind: str = "photos",
    progress: Callable[[int], None] = lambda done: None,
) -> PreparedPhotos:
    """Decode, resize and crop all photos, or find them done in `cache`.

    Raises:
        BadInput: a photo cannot be read, `cache` cannot be written, or the disk has no room.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot write {cache} ({error.strerror})"
        raise BadInput(what, "a writable folder", "choose another --out") from error
    found = pixel_hashes(photos, cache / "pixel-hashes.json")
    hashes = tuple(found[photo.path] for photo in photos)
    truth = np.array([photo.label for photo in photos], np.int64)
    key = digest_of((preprocess.digest(), decoder(), *hashes))[:24]
    path = cache / f"photos-{key}.npy"
    if not path.exists():
        _fill(path, photos, preprocess, progress)
    return PreparedPhotos(path, hashes, truth, kind)


def _fill(path: Path, photos: Sequence[Photo], preprocess: Preprocess, progress: Callable[[int], None]) -> None:
    shape = (len(photos), preprocess.height, preprocess.width, 3)
    with new_array(path, shape, "prepared photos") as array, ThreadPoolExecutor(usable_cores()) as pool:
        for index, photo in enumerate(pool.map(lambda item: prepare(item.path, preprocess), photos)):
            array[index] = photo
            progress(index + 1)


def part_of(photos: PreparedPhotos, rows: np.ndarray | slice, cache: Path) -> PreparedPhotos:
    """Some of the photos, as an array file of their own that workers can read, or found in `cache`.

    Raises:
        BadInput: the disk has no room for it, or it cannot be written.
    """
    hashes = tuple(np.array(photos.hashes)[rows].tolist())
    key = digest_of((photos.path.name, *hashes))[:24]
    path = cache / f"photos-{key}.npy"
    if not path.exists():
        found = photos.array()[rows]
        with new_array(path, found.shape, "some of the photos") as array:
            array[:] = found
    return PreparedPhotos(path, hashes, photos.truth[rows], photos.kind)
