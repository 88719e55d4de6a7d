"""A folder for people without Tiffin: written whole or not at all, and never over what is not ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from ..artifact.files import replaced_folder, sha256_file
from ..errors import BadInput

DESCRIPTION = "preprocess.json"
DESCRIPTION_VERSION = 1
_WRITTEN = ".tiffin.json"  # every file of the folder and its sha256, by which it may be replaced
_FIX = "choose another --out"


@contextlib.contextmanager
def described_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place when the block ends well.

    Raises:
        BadInput: it cannot be written, or `target` holds what was not written so: a file that came, or changed.
    """
    if target.exists():
        _require_replaceable(target)
    with replaced_folder(target, _FIX) as draft:
        yield draft
        written = {_place(path, draft): sha256_file(path) for path in _files(draft)}
        (draft / _WRITTEN).write_text(json.dumps(written, indent=1, sort_keys=True), encoding="utf-8")


def _require_replaceable(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    try:
        written = dict(json.loads((target / _WRITTEN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{target} exists, and no {_WRITTEN} of tiffin's is in it", "a new folder", _FIX) from error
    for path in _files(target):
        place = _place(path, target)
        if place != _WRITTEN and written.get(place) != sha256_file(path):
            raise BadInput(f"{target} holds {place!r}, which tiffin did not write so", "a folder as it was written",
                           f"move it elsewhere, or {_FIX}")  # fmt: skip


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def _place(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
