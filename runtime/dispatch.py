"""One bounded queue in front of N lanes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from .backends import Feeds

Out = dict[str, np.ndarray] | None
RunLane = Callable[[Feeds, Out], dict[str, np.ndarray]]
_Job = tuple[Feeds, Out, Future[dict[str, np.ndarray]]]


class Dispatcher:
    """A thread a lane; `submit` blocks when two requests a lane are waiting."""

    def __init__(self, lanes: list[RunLane]) -> None:
        self._queue: queue.Queue[_Job | None] = queue.Queue(2 * len(lanes))
        self._threads = [threading.Thread(target=self._serve, args=(run,), daemon=True) for run in lanes]
        for thread in self._threads:
            thread.start()

    def submit(self, feeds: Feeds, out: Out = None) -> Future[dict[str, np.ndarray]]:
        """Queue one run."""
        future: Future[dict[str, np.ndarray]] = Future()
        self._queue.put((feeds, out, future))
        return future

    def _serve(self, run: RunLane) -> None:
        while (job := self._queue.get()) is not None:
            feeds, out, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(run(feeds, out))
            except BaseException as error:
                future.set_exception(error)

    def close(self) -> None:
        """Finish what is queued, then end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
