"""An async source as a plain one: iterated in its event loop, read from a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Drawn(Generic[T]):
    """Iterate it in any thread but the loop's own.

    Args:
        source: ends as it does, and raises what it raises.
        loop: where `source` is iterated; runs meanwhile.
    """

    def __init__(self, source: AsyncIterable[T], loop: asyncio.AbstractEventLoop) -> None:
        self._source, self._loop = source.__aiter__(), loop
        self._next: Future[list[T]] | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[T]:
        while not self._cancelled:
            self._next = asyncio.run_coroutine_threadsafe(self._draw(), self._loop)
            if self._cancelled:  # by another thread, which knew only of the one before
                self._next.cancel()
            try:
                drawn = self._next.result()
            except CancelledError:
                return
            if not drawn:
                return
            yield drawn[0]

    async def _draw(self) -> list[T]:
        try:
            return [await self._source.__anext__()]
        except StopAsyncIteration:
            return []

    def cancel(self) -> None:
        """Stop waiting for the source."""
        self._cancelled = True
        if self._next is not None:
            self._next.cancel()
