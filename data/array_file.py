"""Arrays on disk that are filled row by row, whole or not at all."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import BadInput

_LEFT_S = 3600.0  # a draft that was not written to for so long is of a process that was killed


@contextlib.contextmanager
def new_array(path: Path, shape: tuple[int, ...], what: str, dtype: npt.DTypeLike = np.uint8) -> Iterator[np.ndarray]:
    """An array to fill, mapped from a file beside `path` (.npy), which it becomes when the block ends well.

    Args:
        what: it holds, for the error.

    Raises:
        BadInput: the disk has no room for it, or it cannot be written.
    """
    _clear(path)
    _require_room(path.parent, math.prod(shape) * np.dtype(dtype).itemsize, what)
    # Another process may fill the same, and in containers each has the number 1.
    draft = path.with_suffix(f".{os.urandom(8).hex()}.npy")
    try:
        with _writing(path):
            array = np.lib.format.open_memmap(draft, "w+", dtype, shape)
        yield array
        with _writing(path):
            array.flush()
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"cannot write {path} ({error.strerror})", "a folder that can be written to") from error


def _clear(path: Path) -> None:
    """Of drafts that killed processes left."""
    for draft in path.parent.glob(f"{path.stem}.*.npy"):
        with contextlib.suppress(FileNotFoundError):  # another process cleared it
            if time.time() - draft.stat().st_mtime > _LEFT_S:
                draft.unlink()


def _require_room(folder: Path, size_bytes: int, what: str) -> None:
    """A file that is mapped into memory is not refused on a full disk: the program is killed."""
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise BadInput(
            f"{folder}: {what} take {size_bytes / 1e9:.2g} GB, free are {free / 1e9:.2g}",
            "room on the disk",
            "take fewer photos, or write --out elsewhere",
        )
