"""What an .npz that anyone may have written unpacks to, asked before it is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..errors import BadInput

_MOST_UNPACKED = 128_000_000  # bytes of an .npz's arrays, or so many times what they take:
_MOST_RATIO = 100


def require_bounded(path: Path) -> None:
    """A few bytes of an .npz can unpack to any size.

    Raises:
        BadInput: this one would.
        OSError, BadZipFile, ValueError: it cannot be read.
    """
    with zipfile.ZipFile(path) as arrays:
        size = sum(entry.file_size for entry in arrays.infolist())
    if size > max(_MOST_UNPACKED, _MOST_RATIO * path.stat().st_size):
        raise BadInput(f"{path.name} would unpack to {size:,} bytes", f"at most {_MOST_RATIO} times its size")
