"""Small pictures of photos as data URIs, within a bound of number and bytes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from ..data import Dataset, pixel_hashes
from ..errors import BadInput
from ..runtime.decode import decode
from .gallery import Gallery, with_pictures

SIDE, QUALITY = 160, 62  # CSS pixels of the longer side; WebP's scale


def illustrated(
    found: Gallery, dataset: Dataset | None, most: int, most_bytes: int, cache: Path | None = None
) -> Gallery:
    """Put pictures into the gallery, of the first photos until either bound is reached.

    Args:
        dataset: where photos are looked for, by pixel hash; None: nowhere.
        most, most_bytes: photos, and characters of all data URIs.
        cache: as in `data.pixel_hashes`.
    """
    if dataset is None:
        absent = {item.photo: "no picture: no --data was given" for item in found.items}
        note = "No pictures: `--data DIR` names the folder of the photos." if found.items else ""
        return with_pictures(found, {}, absent, {}, note)
    paths = _places(dataset, cache)
    pictures: dict[str, str] = {}
    absent, spent = {}, 0
    for item in found.items:
        path = paths.get(item.photo)
        if path is None:
            absent[item.photo] = "photo not found in the data: no photo there has these pixels"
        elif len(pictures) >= most or spent >= most_bytes:
            absent[item.photo] = "no picture: the page's bound is reached"
        else:
            picture = _thumbnail(path)
            if spent + len(picture) > most_bytes:
                spent = most_bytes
                absent[item.photo] = "no picture: the page's bound is reached"
                continue
            pictures[item.photo], spent = picture, spent + len(picture)
    names = {digest: _below(path, dataset.root) for digest, path in paths.items()}
    return with_pictures(found, pictures, absent, names, _note(found, pictures, absent, most, most_bytes))


def _places(dataset: Dataset, cache: Path | None) -> dict[str, Path]:
    photos = [photo for role in dataset.roles.values() for photo in role]
    return {digest: path for path, digest in pixel_hashes(photos, cache).items()}


def _thumbnail(path: Path) -> str:
    """Without any metadata of the photo.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        image = decode(path)
        image.thumbnail((SIDE, SIDE))
        packed = io.BytesIO()
        image.save(packed, "WEBP", quality=QUALITY, method=4)
    except (OSError, KeyError) as error:
        raise BadInput(f"{path}: no picture can be made of it ({error})", "a Pillow with WebP, and a photo") from error
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _note(found: Gallery, pictures: dict[str, str], absent: dict[str, str], most: int, most_bytes: int) -> str:
    if not absent:
        return ""
    lost = sum("not found" in why for why in absent.values())
    parts = [f"{lost:,} photos were not found in the data"] if lost else []
    if lost < len(absent):
        parts.append(
            f"{len(absent) - lost:,} are listed without a picture, since {most} photos or "
            f"{most_bytes // 1000:,} kB are the bound"
        )
    return f"{len(pictures):,} of {len(found.items):,} photos have a picture: {'; '.join(parts)}."
