"""Other libraries' chatter, which is not the user's affair."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(logger: str | None) -> Iterator[None]:
    """Only errors of one logger (None: the root) while the block runs; its level is put back however it ends."""
    named = logging.getLogger(logger)
    level = named.level
    named.setLevel(logging.ERROR)
    try:
        yield
    finally:
        named.setLevel(level)
