"""Photos named by a path, a pattern or a folder."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ...errors import BadInput

_SEPARATOR = rf"[/{re.escape(os.sep)}]"
# `**` between separators, or several in a row.
_FOLDERS = re.compile(rf"(?:^|(?<={_SEPARATOR}))(?:\*\*{_SEPARATOR})*\*\*(?:$|{_SEPARATOR})")
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
    if os.path.isdir(word):  # noqa: PTH112 (Path's raises on a name that is too long)
        paths = list(below(word))
        return _some(paths, f"{word}: a folder without photos", f"files that end in {', '.join(sorted(PHOTO_ENDINGS))}")
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    matches = sorted(set(_matching(word)), key=natural)
    files = [path for path in matches if not (Path(path).is_dir() or _waits(path))]
    return _some(files, f"{word}: matches no file", "photos")


def _matching(pattern: str) -> Iterator[str]:
    """As `glob.glob`, whose own `**` goes round in links for forty turns, and for ever where there are two."""
    double = _FOLDERS.search(pattern)
    if not double:
        yield from glob.glob(pattern)  # noqa: PTH207 (absolute ones too)
        return
    start, rest = pattern[: double.start()], pattern[double.end() :] or "*"
    for top in glob.glob(start) if start else [""]:  # noqa: PTH207
        inside = [path for path, is_folder in _walked(top or os.curdir) if is_folder]
        for folder in (top, *(path if top else path.removeprefix(os.curdir + os.sep) for path in inside)):
            yield from _matching(os.path.join(glob.escape(folder), rest))  # noqa: PTH118 ("" adds nothing)


def _some(paths: list[str], what: str, expected: str) -> list[str]:
    if not paths:
        raise BadInput(what, expected)
    return paths


def below(folder: str) -> Iterator[str]:
    """Photos of a folder and of those in it.

    Raises:
        BadInput: the folder itself cannot be read.
    """
    return (path for path, is_folder in _walked(folder) if not is_folder and is_photo(path))


def _walked(folder: str, seen: set[tuple[int, int]] | None = None) -> Iterator[tuple[str, bool]]:
    """What is not hidden, and whether it is a folder; links are followed, and each folder is entered once.

    Pipes, sockets and devices are passed over: who opens one may wait for ever.

    Raises:
        BadInput: the folder itself cannot be read; one inside it that cannot is passed over like a hidden one.
    """
    try:
        here = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    except OSError as error:
        if seen is not None:
            return
        raise BadInput(f"{folder}: {error.strerror}", "a folder that can be read") from error
    seen = seen or {(here.st_dev, here.st_ino)}
    for entry in entries:
        if entry.name.startswith("."):
            continue
        known = _folder(entry.path)
        if known in seen or _waits(entry.path):
            continue
        yield entry.path, known is not None
        if known:
            seen.add(known)
            yield from _walked(entry.path, seen)


def _folder(path: str) -> tuple[int, int] | None:
    """What a folder is known by, links followed; None of what is no folder, a link to itself among it."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _waits(path: str) -> bool:
    """True for a pipe, a socket or a device."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def natural(path: str) -> list[tuple[int, str]]:
    """A key that sorts numbers inside names by their value."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
