"""The system under test, in LoadGen's words: a session that answers queries as each scenario allows."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import ModuleType
from typing import Any

import numpy as np

from ...runtime.session import Session

Outputs = dict[str, np.ndarray]
_Waiting = deque[tuple[list[int], "Future[Outputs]"]]


class Samples:
    """Rows of .npy files; those that LoadGen asked for are in memory, each as feeds of batch 1."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._arrays = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
        self.count = len(next(iter(self._arrays.values())))
        self.loaded: dict[int, dict[str, np.ndarray]] = {}

    def load(self, indices: Sequence[int]) -> None:
        """Read rows into memory."""
        for index in indices:
            self.loaded[index] = {name: np.array(rows[index : index + 1]) for name, rows in self._arrays.items()}

    def unload(self, indices: Sequence[int]) -> None:
        """Free them."""
        for index in indices:
            self.loaded.pop(index, None)

    def feeds(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """Loaded rows as one batch."""
        if len(indices) == 1:
            return self.loaded[indices[0]]
        return {name: np.concatenate([self.loaded[index][name] for index in indices]) for name in self._arrays}


class System:
    """Answers LoadGen's queries; `query_ns` keeps what each took from issue to last answer, the server's apart.

    `outcome` gets what the session raised.

    Args:
        loadgen: its module.
        samples: what the queries ask for, by index.
        scenario: a key of `loadgen.SCENARIOS`.
        batch: samples a call.
    """

    def __init__(self, loadgen: ModuleType, session: Session, samples: Samples, scenario: str, batch: int) -> None:
        self._loadgen, self._session, self.samples = loadgen, session, samples
        self._scenario, self._batch = scenario, batch
        self._output = session.artifact.manifest.outputs[0].name
        self._window = 4 * session.requested.lanes
        self.query_ns: list[int] = []
        self._issued_ns = self._answered_ns = 0
        self.outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._answer: Callable[[list[Any]], None] = {
            "single-stream": self._answer_now,
            "server": self._answer_later,
        }.get(scenario, self._answer_all)

    def issue(self, queries: list[Any]) -> None:
        """What LoadGen calls. An error goes to `outcome` and this thread stands still: LoadGen does not survive an
        exception that passes through it.
        """
        self._issued_ns = self._issued_ns or time.perf_counter_ns()
        try:
            self._answer(queries)
        except BaseException as error:
            self.outcome.put(error)
            threading.Event().wait()

    def _answer_now(self, queries: list[Any]) -> None:
        """In LoadGen's own thread: the next query comes when this one is answered."""
        start = time.perf_counter_ns()
        for query in queries:
            self._complete([query.id], self._session.run(self.samples.loaded[query.index]))
        self.query_ns.append(time.perf_counter_ns() - start)

    def _answer_all(self, queries: list[Any]) -> None:
        """Spread a query's samples over the lanes, some in flight at a time; returns when all are answered."""
        start = time.perf_counter_ns()
        waiting: _Waiting = deque()
        for first in range(0, len(queries), self._batch):
            part = queries[first : first + self._batch]
            feeds = self.samples.feeds([query.index for query in part])
            waiting.append(([query.id for query in part], self._session.submit(feeds)))
            if len(waiting) > self._window:
                self._complete_first(waiting)
        while waiting:
            self._complete_first(waiting)
        self.query_ns.append(time.perf_counter_ns() - start)

    def _complete_first(self, waiting: _Waiting) -> None:
        ids, future = waiting.popleft()
        self._complete(ids, future.result())

    def _answer_later(self, queries: list[Any]) -> None:
        """Queue and return, answer from the lane's thread. A full queue holds LoadGen back, which counts the latency
        from when the query was due.
        """
        for query in queries:
            future = self._session.submit(self.samples.loaded[query.index])
            future.add_done_callback(lambda done, ids=[query.id]: self._completed(ids, done))  # type: ignore[misc]

    def _completed(self, ids: list[int], done: Future[Outputs]) -> None:
        error = done.exception()
        if error is None:
            self._complete(ids, done.result())
        else:
            self.outcome.put(error)

    def _complete(self, ids: list[int], outputs: Outputs) -> None:
        """Hand one row of the first output to each sample's id; LoadGen copies what it keeps before it returns."""
        rows = np.ascontiguousarray(outputs[self._output])
        address, size = rows.ctypes.data, rows.nbytes // len(rows)
        self._loadgen.QuerySamplesComplete(
            [self._loadgen.QuerySampleResponse(id_, address + i * size, size) for i, id_ in enumerate(ids)]
        )
        self._answered_ns = time.perf_counter_ns()

    @property
    def duration_s(self) -> float:
        """First query issued → last answered, by a clock that nobody sets: LoadGen notes both in local time."""
        return (self._answered_ns - self._issued_ns) / 1e9

    def rate(self, seconds: float) -> float:
        """Samples a second, asked as the scenario will ask, unheard by LoadGen."""
        indices = sorted(self.samples.loaded)
        batch = min(self._batch, len(indices))
        alone = self._scenario == "single-stream"
        waiting: deque[Future[Outputs]] = deque()
        answered, start = 0, time.perf_counter()
        while answered == 0 or time.perf_counter() - start < seconds:
            first = answered % (len(indices) - batch + 1)
            feeds = self.samples.feeds(indices[first : first + batch])
            if alone:
                self._session.run(feeds)
            else:
                waiting.append(self._session.submit(feeds))
                if len(waiting) > self._window:
                    waiting.popleft().result()
            answered += batch
        for future in waiting:
            future.result()
        return answered / (time.perf_counter() - start)
