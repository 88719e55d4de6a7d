"""Other libraries' chatter, which is not the user's affair."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(logger: str | None) -> Iterator[None]:
    """Only errors of one logger (None: the root) while the block runs; it is put back as it was however that ends.

    A library that warns by `logging.warning` gives the root a handler, which would print all later warnings otherwise.
    """
    named = logging.getLogger(logger)
    level, handlers = named.level, named.handlers[:]
    named.setLevel(logging.ERROR)
    try:
        yield
    finally:
        named.setLevel(level)
        named.handlers[:] = handlers


@contextlib.contextmanager
def quiet_tracing() -> Iterator[None]:
    """No chatter of torch.export: of a graph that it cannot trace it prints all, and what matters is in its error."""
    with quiet("torch"), quiet("torch._subclasses.fake_tensor"), contextlib.redirect_stderr(io.StringIO()):
        yield
