"""Proof that two roles share no photo: by what the model sees, not by file name or file bytes.

Finds photos whose decoded pixels are identical, also under another name, EXIF tag or lossless format.
A photo that was resized or compressed again differs and is not found.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..artifact.files import replace_files
from ..errors import BadDataset, BadInput, Overlap
from ..runtime.decode import decode
from .dataset import Photo

_log = logging.getLogger(__name__)
_CACHE_VERSION = 1


def pixel_hash(path: Path) -> str:
    """sha256, hex, of a photo's size and its upright 8-bit RGB pixels.

    Raises:
        BadDataset: the photo is missing or cannot be read whole.
    """
    try:
        image = decode(path)
    except BadInput as error:
        raise BadDataset(error.what, error.expected, "replace the photo, or unlist it") from error
    return pixels_hash(image)


def pixels_hash(image: Image.Image) -> str:
    """`pixel_hash` of an RGB photo that is decoded already."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def decoder() -> str:
    """What the pixels depend on beside the file: JPEG decoders differ by a bit, so hashes do not mix."""
    from PIL import __version__, features

    return f"{_CACHE_VERSION} pillow {__version__} jpeg {features.version('jpg')}"


def _read_cache(cache: Path | None) -> dict[str, Any]:
    try:
        raw = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
        return dict(raw["photos"]) if raw["decoder"] == decoder() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # a cache only saves time: an absent, older or broken one is written anew


def _write_cache(cache: Path, entries: dict[str, Any]) -> None:
    content = json.dumps({"decoder": decoder(), "photos": entries}).encode()
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_files({cache: content})
    except OSError as error:
        _log.warning("pixel hashes are not kept: cannot write %s (%s)", cache, error.strerror)


def _stamp(path: Path) -> list[int]:
    """What must not have changed for a cached hash to hold. Archives bring their own mtime, but no ctime."""
    try:
        stat = path.stat()
    except OSError as error:
        raise BadDataset(f"{path}: {error.strerror}", "a photo that can be read") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def pixel_hashes(photos: Iterable[Photo], cache: Path | None = None) -> dict[Path, str]:
    """Pixel hash of each photo's path, about 4 ms for a photo of 348×348 that the cache lacks.

    Args:
        photos: any photos; a path that is listed twice is hashed once.
        cache: JSON file of hashes by path and stamp; read and extended. None keeps none.

    Raises:
        BadDataset: a photo is missing or unreadable.
    """
    entries, hashes, fresh = _read_cache(cache), {}, False
    for path in dict.fromkeys(photo.path for photo in photos):
        key, stamp = str(path.resolve()), _stamp(path)
        if entries.get(key, [])[:-1] != stamp:
            entries[key], fresh = [*stamp, pixel_hash(path)], True
        hashes[path] = entries[key][-1]
    if cache and fresh:
        _write_cache(cache, entries)
    return hashes


def prove_disjoint(
    first: Iterable[Photo], second: Iterable[Photo], names: tuple[str, str], cache: Path | None = None
) -> None:
    """Return if no photo of `first` has the pixels of a photo of `second`.

    Args:
        first, second: photos of two roles.
        names: what to call the two in the error.
        cache: as in `pixel_hashes`.

    Raises:
        Overlap: some do; up to three pairs are named.
        BadDataset: a photo is missing or unreadable.
    """
    of_hash = {digest: path for path, digest in pixel_hashes(first, cache).items()}
    others = pixel_hashes(second, cache)
    pairs = [(of_hash[digest], path) for path, digest in others.items() if digest in of_hash]
    if pairs:
        shown = "; ".join(f"{one} = {other}" for one, other in pairs[:3])
        more = f"; and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        raise Overlap(
            f"{len(pairs)} photos in both {names[0]} and {names[1]}: {shown}{more}",
            "roles that share no photo, or the measured accuracy is not that of unseen photos",
            f"take these photos off {names[0]}",
        )


def prove_all_disjoint(roles: Mapping[str, Sequence[Photo]], cache: Path | None = None) -> None:
    """Return if no photo has the pixels of one in another role; `prove_disjoint` for every pair.

    Args:
        roles: photos by the role's name.
    """
    for first, second in itertools.combinations(roles, 2):
        prove_disjoint(roles[first], roles[second], (first, second), cache)
