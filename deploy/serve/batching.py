"""Dynamic batching: requests that wait for a lane are joined into one run, and the answers cut apart again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from ...runtime import Session

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Ran:
    """One request's part of a run.

    Args:
        outputs: its own rows.
        queue_s: seconds that it waited.
        run_s: seconds of the run, which it may have shared.
        batch: rows of the run.
    """

    outputs: Arrays
    queue_s: float
    run_s: float
    batch: int


@dataclass(frozen=True)
class _Waiting:
    feeds: Arrays
    rows: int
    answer: asyncio.Future[Ran]
    arrived: float


class Batcher:
    """In front of one session, within one event loop.

    Args:
        max_batch: rows of a joined run; a request that has more itself runs alone.
        max_delay_s: how long a lane that is free waits for more; 0 joins only what waits already.
    """

    def __init__(self, session: Session, max_batch: int, max_delay_s: float) -> None:
        self._session, self._max_batch, self._max_delay_s = session, max_batch, max_delay_s
        self._waiting: deque[_Waiting] = deque()
        self._free = session.requested.lanes
        self._alarm: asyncio.TimerHandle | None = None

    async def run(self, feeds: Arrays) -> Ran:
        """Answer one request; one that is cancelled while it waits is forgotten.

        Args:
            feeds: input name → array; the first axis of each is the batch.

        Raises:
            TiffinError: what the session raised.
        """
        answer: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        entry = _Waiting(feeds, len(next(iter(feeds.values()))), answer, time.perf_counter())
        self._waiting.append(entry)
        self._begin_what_can()
        try:
            return await answer
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it runs already
                self._waiting.remove(entry)
            raise

    def _begin_what_can(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._free and self._waiting:
            patience = self._patience_s()
            if patience > 0:
                self._alarm = asyncio.get_running_loop().call_later(patience, self._begin_what_can)
                return
            self._begin(self._joined())

    def _patience_s(self) -> float:
        """How long the first in the queue may still wait for others."""
        if sum(entry.rows for entry in self._waiting) >= self._max_batch:
            return 0.0
        return self._waiting[0].arrived + self._max_delay_s - time.perf_counter()

    def _joined(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        rows = group[0].rows
        while self._waiting and rows + self._waiting[0].rows <= self._max_batch:
            rows += self._waiting[0].rows
            group.append(self._waiting.popleft())
        return group

    def _begin(self, group: Sequence[_Waiting]) -> None:
        loop, start = asyncio.get_running_loop(), time.perf_counter()
        try:
            future = self._session.submit(_together(group))
        except Exception as error:  # MemoryError too: who waits is told
            for entry in group:
                _fail(entry, error)
            return
        self._free -= 1
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._ended, group, done, start))

    def _ended(self, group: Sequence[_Waiting], future: Future[Arrays], start: float) -> None:
        self._free += 1
        taken, total = time.perf_counter() - start, sum(entry.rows for entry in group)
        try:
            outputs = future.result()
        except Exception as error:
            for entry in group:
                _fail(entry, error)
        else:
            first = 0
            for entry in group:
                own = {name: array[first : first + entry.rows] for name, array in outputs.items()}
                first += entry.rows
                if not entry.answer.done():
                    entry.answer.set_result(Ran(own, start - entry.arrived, taken, total))
        self._begin_what_can()


def _together(group: Sequence[_Waiting]) -> Arrays:
    if len(group) == 1:
        return group[0].feeds
    return {name: np.concatenate([entry.feeds[name] for entry in group]) for name in group[0].feeds}


def _fail(entry: _Waiting, error: Exception) -> None:
    if not entry.answer.done():
        entry.answer.set_exception(error)
