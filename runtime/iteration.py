"""Answers in order from a source of feeds, for asyncio: bounded look-ahead, no answer held back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from concurrent.futures import Future
from typing import Any

from ..errors import Busy, TiffinError

_END = object()


async def in_order(
    submit: Callable[..., Future[Any]], source: Iterable[Any] | AsyncIterable[Any], ahead: int
) -> AsyncGenerator[Any, None]:
    """What the futures give, in the source's order; an answer is handed on before the source has its next item.

    An error of the source or of an item comes in its turn, and ends it.

    Args:
        submit: as `Session.submit`.
        ahead: most requests in flight.
    """
    each = _each(source)
    reading: asyncio.Future[Any] | None = _next(each)
    waiting: deque[asyncio.Future[Any]] = deque()
    try:
        while reading or waiting:
            may_add = reading is not None and len(waiting) < ahead
            if waiting and waiting[0].done():
                yield waiting.popleft().result()
            elif reading and may_add and reading.done() and not (waiting and reading.exception()):
                item = reading.result()
                added = None if item is _END else await _submitted(submit, item)
                waiting.extend([added] if added else [])
                reading = _next(each) if added and not (added.done() and added.exception()) else None
            else:
                watched = [*list(waiting)[:1], *([reading] if reading and may_add and not reading.done() else [])]
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _ended([*waiting, *([reading] if reading else [])])
        await each.aclose()


def _next(each: AsyncGenerator[Any, None]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(anext(each, _END))


async def _ended(futures: list[asyncio.Future[Any]]) -> None:
    """Cancelled where they have not begun; what becomes of the others is nobody's concern."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


async def _submitted(submit: Callable[..., Future[Any]], feeds: Any) -> asyncio.Future[Any]:
    """Where others have filled the queue, a thread waits for room, not the loop."""
    try:
        try:
            return asyncio.wrap_future(submit(feeds, block=False))
        except Busy:
            return asyncio.wrap_future(await asyncio.to_thread(submit, feeds))
    except TiffinError as error:
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        return failed


async def _each(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
        return
    iterator = iter(source)
    while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield item
