"""Photos named by a path, a pattern or a folder."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import BadInput

# What Pillow reads, HEIC with package pillow-heif.
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
PHOTO_ENDINGS = frozenset([*_JPEG, ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".gif", ".tif", ".tiff"])


def is_photo(path: str) -> bool:
    """By its name: a photo's ending, and not hidden."""
    name = Path(path)
    return not name.name.startswith(".") and name.suffix.lower() in PHOTO_ENDINGS


def found(word: str) -> list[str]:
    """Paths of photos in natural order (`shelf 2` before `shelf 10`).

    A path that is neither a folder nor a pattern is handed on as it is: whether it can be read is its item's matter.

    Raises:
        BadInput: a folder or a pattern without photos, or a folder that cannot be read.
    """
    if Path(word).is_dir():
        paths = list(below(word))
        return _some(paths, f"{word}: a folder without photos", f"files that end in {', '.join(sorted(PHOTO_ENDINGS))}")
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    matches = sorted(glob.glob(word, recursive=True), key=natural)  # noqa: PTH207 (absolute ones too)
    return _some([path for path in matches if not Path(path).is_dir()], f"{word}: matches no file", "photos")


def _some(paths: list[str], what: str, expected: str) -> list[str]:
    if not paths:
        raise BadInput(what, expected)
    return paths


def below(folder: str, seen: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Photos of a folder and of those in it; links are followed, but never into a folder that one is in already.

    Raises:
        BadInput: the folder itself cannot be read; one inside it that cannot is passed over like a hidden one.
    """
    try:
        here = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    except OSError as error:
        if seen:
            return
        raise BadInput(f"{folder}: {error.strerror}", "a folder that can be read") from error
    if (here.st_dev, here.st_ino) in seen:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from below(entry.path, seen | {(here.st_dev, here.st_ino)})
        elif is_photo(entry.name):
            yield entry.path


def natural(path: str) -> list[tuple[int, str]]:
    """A key that sorts numbers inside names by their value."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
