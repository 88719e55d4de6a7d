"""A request's body within its bounds: bytes, seconds, and what it inflates to."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

from ...errors import BadInput

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


async def read(request: Request, most: int, seconds: float) -> bytes:
    """The whole body, inflated.

    Args:
        most: bytes, before and after inflating.
        seconds: from now to its last byte.

    Raises:
        TooLarge, TooSlow: beyond a bound.
        BadInput: another encoding, or damaged.
        starlette.requests.ClientDisconnect: nobody is there any more.
    """
    told = whole_number(request.headers.get("content-length", ""))
    if told is not None and told > most:
        raise _too_large(f"a body of {told:,} bytes", most)
    try:
        data = await asyncio.wait_for(_whole(request, most), seconds)
    except (asyncio.TimeoutError, TimeoutError) as error:  # two types on Python 3.10
        raise TooSlow(f"the body was not there after {seconds:g} s", "a client that sends faster") from error
    return inflated(data, request.headers.get("content-encoding", "identity").strip().lower(), most)


async def _whole(request: Request, most: int) -> bytes:
    found = bytearray()
    async for chunk in request.stream():
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
