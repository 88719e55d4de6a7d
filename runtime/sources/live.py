"""Cameras and streams: the newest frame wins, older ones are dropped and counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ...errors import BadInput
from ..items import Item
from .video import Address, Sampling, frame_of, items, never_ends, opened, unreadable


class Latest:
    """One live source. A thread decodes it at its own pace; whoever iterates takes what is newest then.

    Args:
        stopped: set it to end; the thread ends with the camera's next frame.
        container: what `opened` gave, where it is open already.
    """

    def __init__(
        self, name: str, where: Address, sampling: Sampling, stopped: threading.Event, container: Any = None
    ) -> None:
        self.dropped = 0
        self._container = container
        self._name, self._where, self._sampling, self._stopped = name, where, sampling, stopped
        self._changed = threading.Condition()
        self._newest: Item | None = None
        self._gone: BadInput | None = None

    def items(self) -> Iterator[Item]:
        """Frames named by the time of their arrival; the last item says why no more come."""
        threading.Thread(target=self._decode, daemon=True, name=f"tiffin reads {self._name}").start()
        while (item := self._next()) is not None:
            yield item
        if self._gone:
            yield Item(self._name, self._gone)

    def _next(self) -> Item | None:
        with self._changed:
            while self._newest is None and self._gone is None and not self._stopped.is_set():
                self._changed.wait(0.1)  # seconds; `stopped` does not wake it
            item, self._newest = self._newest, None
            return None if self._stopped.is_set() else item

    def _decode(self) -> None:
        try:
            with self._container or opened(self._where) as container:
                for _, frame in self._sampling.taken(container.decode(video=0)):
                    if self._stopped.is_set():
                        return
                    self._put(Item(f"{self._name}@{_now()}", frame_of(frame)))
            self._end(BadInput(f"{self._name}: the stream ended", "a camera that keeps sending"))
        except Exception as error:  # a thread has no caller
            self._end(unreadable(self._name, self._where, error))

    def _put(self, item: Item) -> None:
        with self._changed:
            self.dropped += self._newest is not None
            self._newest = item
            self._changed.notify()

    def _end(self, error: BadInput) -> None:
        with self._changed:
            self._gone = error
            self._changed.notify()


def either(
    name: str, where: Address, sampling: Sampling, stopped: threading.Event, cameras: list[Latest]
) -> Iterator[Item]:
    """Of a URL that is a file or a camera: every frame of what states an end, else the newest.

    Args:
        cameras: a camera is added to it when it is found to be one.
    """
    try:
        container = opened(where)
    except Exception as error:  # FFmpeg's, OSError, ValueError of an odd URL
        yield Item(name, unreadable(name, where, error))
        return
    if never_ends(container):
        cameras.append(Latest(name, where, sampling, stopped, container))
        yield from cameras[-1].items()
    else:
        yield from items(name, where, sampling, container)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
