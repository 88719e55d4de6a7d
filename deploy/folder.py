"""A folder for people without Tiffin: written whole or not at all, and never over what is not ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from ..artifact.files import replaced_folder
from ..errors import BadInput

DESCRIPTION = "preprocess.json"  # in every such folder; by its first field it is known as ours
DESCRIPTION_VERSION = 1
_FIX = "choose another --out"


@contextlib.contextmanager
def described_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place when the block ends well.

    Raises:
        BadInput: it cannot be written, or `target` holds what no such folder holds.
    """
    if not _replaceable(target):
        raise BadInput(f"{target} exists, and no {DESCRIPTION} of tiffin's is in it", "a new folder", _FIX)
    with replaced_folder(target, _FIX) as draft:
        yield draft


def _replaceable(target: Path) -> bool:
    if not target.exists():
        return True
    if not target.is_dir():
        return False
    return not any(target.iterdir()) or _is_ours(target / DESCRIPTION)


def _is_ours(path: Path) -> bool:
    try:
        return "tiffin_preprocess" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
