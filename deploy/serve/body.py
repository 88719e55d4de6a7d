"""A request's body within its bounds: bytes, seconds, and what it inflates to."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import BadInput, Busy

if TYPE_CHECKING:
    from starlette.requests import Request

# zlib's window bits: a gzip header; either a zlib header or none.
_WINDOWS = {"gzip": (31,), "deflate": (15, -15)}
_MOST_DIGITS = 18  # of a number of 64 bits


class TooLarge(BadInput):
    """A body, or what it inflates to, is larger than the server takes."""


class TooSlow(BadInput):
    """A body did not come in its time."""


def whole_number(text: str) -> int | None:
    """What some ASCII digits say; None where it is anything else, or longer than a size can be."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


class Room:
    """Bytes that the bodies of all requests may have together: they come before the queue can refuse them."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's, given back at the end; called with bytes that it takes, raises Busy where none are left."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if size > self._free:
                raise Busy("other requests' bodies fill the room for them", "room for this one", "ask again later")
            self._free -= size
            held += size

        try:
            yield take
        finally:
            self._free += held


async def read(request: Request, most: int, seconds: float, take: Callable[[int], None]) -> bytes:
    """The whole body, inflated.

    Args:
        most: bytes, before and after inflating.
        seconds: from now to its last byte.
        take: of a share of the room.

    Raises:
        TooLarge, TooSlow, Busy: beyond a bound.
        BadInput: another encoding, or damaged.
        starlette.requests.ClientDisconnect: nobody is there any more.
    """
    told = whole_number(request.headers.get("content-length", ""))
    if told is not None and told > most:
        raise _too_large(f"a body of {told:,} bytes", most)
    try:
        data = await asyncio.wait_for(_whole(request, most, take), seconds)
    except (asyncio.TimeoutError, TimeoutError) as error:  # two types on Python 3.10
        raise TooSlow(f"the body was not there after {seconds:g} s", "a client that sends faster") from error
    found = inflated(data, request.headers.get("content-encoding", "identity").strip().lower(), most)
    take(len(found) - len(data))
    return found


async def _whole(request: Request, most: int, take: Callable[[int], None]) -> bytes:
    found = bytearray()
    async for chunk in request.stream():
        take(len(chunk))
        found += chunk
        if len(found) > most:
            raise _too_large("a body of more bytes", most)
    return bytes(found)


def inflated(data: bytes, encoding: str, most: int) -> bytes:
    """Without its compression; a few bytes can inflate to any size, so that is bounded."""
    if encoding in ("identity", ""):
        return data
    if encoding not in _WINDOWS:
        raise BadInput(f"content encoding {encoding!r}", "gzip, deflate or none")
    for window in _WINDOWS[encoding]:
        engine = zlib.decompressobj(window)
        try:
            found = engine.decompress(data, most + 1)
        except zlib.error:
            continue
        if len(found) > most:
            raise _too_large("a body that inflates to more bytes", most)
        if engine.eof and not engine.unused_data:
            return found
    raise BadInput(f"a damaged {encoding} body", f"a whole {encoding} stream")


def _too_large(what: str, most: int) -> TooLarge:
    return TooLarge(what, f"at most {most:,}", "send less, or start the server with a larger --max-body-mb")
