"""Paths from stdin, one a line or NUL-separated; each is handed on as soon as it was read."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from ..items import Item

_CHUNK_BYTES = 1 << 16


def items(nul: bool, descriptor: int = 0) -> Iterator[Item]:
    """An item a path; empty lines are passed over. Relative paths start at the current folder."""
    for path in paths(nul, descriptor):
        yield Item(path, path)


def paths(nul: bool, descriptor: int = 0) -> Iterator[str]:
    """Bytes that are no UTF-8 are kept, as in every file name."""
    # Unbuffered: a thread that waits in `sys.stdin` holds its lock, and the interpreter cannot end.
    with io.FileIO(descriptor, closefd=False) as stream:
        rest = b""
        while chunk := stream.read(_CHUNK_BYTES):
            *whole, rest = (rest + chunk).split(b"\0" if nul else b"\n")
            yield from _named(whole, nul)
        yield from _named([rest], nul)


def _named(lines: list[bytes], nul: bool) -> Iterator[str]:
    for line in lines:
        path = line if nul else line.rstrip(b"\r")
        if path:
            yield os.fsdecode(path)
