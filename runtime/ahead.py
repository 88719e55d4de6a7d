"""Photos prepared by threads ahead of the engine, in order and bounded: what `Classifier.stream` runs on.

One thread reads the source, some prepare (Pillow and simplejpeg let go of the GIL while they decode and resize), and
the one that finishes the last photo of a run hands the run to the session. So the engine has its next photos ready
whatever the caller does with an answer, and a camera's frame is answered before the next one comes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future

import numpy as np

from ..errors import BadInput, TiffinError, first_line
from .batches import grouped
from .decode import PhotoSource
from .items import Item

Prepare = Callable[[PhotoSource, np.ndarray], None]
Submit = Callable[[np.ndarray], "Future[dict[str, np.ndarray]]"]

_LEAVE_S = 0.5  # a source that waits longer (a camera, a pipe) keeps its thread until its next item


class Group:
    """The photos of one run.

    Args:
        items: of the source, in order.
        rows: uint8 `(N, H, W, 3)`, one row an item; a row whose item has an error holds nothing.
        errors: why an item has no row.
        prepare_s: seconds of each item.
        run_s: seconds of the run.
        answer: the session's outputs for the rows without an error, in order; None where no row is left.
    """

    def __init__(self, items: list[Item], shape: tuple[int, int, int]) -> None:
        self.items = items
        self.rows = np.empty((len(items), *shape), np.uint8)
        self.errors: list[TiffinError | None] = [None] * len(items)
        self.prepare_s = [0.0] * len(items)
        self.run_s = 0.0
        self.answer: Future[dict[str, np.ndarray] | None] = Future()
        self.unprepared = len(items)

    def prepare(self, index: int, prepare: Prepare) -> None:
        """Fill one row, or say why not."""
        start, source = time.perf_counter(), self.items[index].source
        try:
            if isinstance(source, TiffinError):
                raise source
            prepare(source, self.rows[index])
        except TiffinError as error:
            self.errors[index] = _bare(error)
        except Exception as error:  # such as MemoryError: of this photo, while the rest goes on
            what = f"{self.items[index].name}: cannot be prepared ({type(error).__name__}: {first_line(error)})"
            self.errors[index] = BadInput(what, "a photo that can be")
        self.prepare_s[index] = time.perf_counter() - start

    def prepared(self) -> np.ndarray:
        """The rows without an error."""
        if not any(self.errors):
            return self.rows
        return self.rows[[error is None for error in self.errors]]


def _bare(error: TiffinError) -> TiffinError:
    """Without the frames that it passed: they hold the photo, and this group, as long as anybody keeps the error."""
    found: BaseException | None = error
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
    return error


class Ahead:
    """Reads, prepares and runs what the caller has not yet taken.

    Args:
        items: read in a thread of its own, one at a time.
        prepare: fills a row from a photo.
        submit: starts a run of some rows.
        shape: of one row.
        batch: photos a run.
        workers: threads that prepare.
        lanes: runs in flight.
    """

    def __init__(
        self,
        items: Iterable[Item],
        prepare: Prepare,
        submit: Submit,
        shape: tuple[int, int, int],
        batch: int,
        workers: int,
        lanes: int,
    ) -> None:
        self._prepare, self._submit, self._shape, self._batch = prepare, submit, shape, batch
        self._order: queue.SimpleQueue[Group | BaseException | None] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[tuple[Group, int] | None] = queue.SimpleQueue()
        # One group in each lane, those that are being prepared, and one that waits.
        self._room = threading.Semaphore(lanes + -(-workers // batch) + 1)
        self._free_lanes = threading.Semaphore(lanes)
        self._counting = threading.Lock()
        self._stopped = False
        self._reader = threading.Thread(target=self._read, args=(items,), daemon=True, name="tiffin reads")
        self._workers = [
            threading.Thread(target=self._work, daemon=True, name=f"tiffin prepares {index}")
            for index in range(workers)
        ]
        for thread in (self._reader, *self._workers):
            thread.start()

    def take(self) -> Group | None:
        """The next group, its `answer` perhaps still to come; None at the end.

        Raises:
            Exception: what the source raised, after the groups before it.
        """
        taken = self._order.get()
        if isinstance(taken, BaseException):
            raise taken
        return taken

    def taken(self) -> None:
        """One answered group was taken: there is room for another."""
        self._room.release()

    def stop(self) -> None:
        """Begin nothing more; does not wait."""
        self._stopped = True
        self._order.put(None)
        self._room.release()
        for _ in self._workers:
            self._free_lanes.release()
            self._jobs.put(None)

    def join(self) -> None:
        """Wait for the threads after `stop`; a reader whose source waits ends with its next item."""
        for thread in self._workers:
            thread.join()
        self._reader.join(_LEAVE_S)

    def _read(self, items: Iterable[Item]) -> None:
        try:
            for some in grouped(items, self._batch):
                self._room.acquire()
                if self._stopped:
                    return
                group = Group(some, self._shape)
                self._order.put(group)
                for index in range(len(some)):
                    self._jobs.put((group, index))
            self._order.put(None)
        except BaseException as error:
            self._order.put(error)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            group, index = job
            if self._stopped:
                continue
            try:
                group.prepare(index, self._prepare)
                with self._counting:
                    group.unprepared -= 1
                    last = group.unprepared == 0
                if last:
                    self._run(group)
            except BaseException as error:
                if not group.answer.done():
                    group.answer.set_exception(error)

    def _run(self, group: Group) -> None:
        """Runs are counted, so that the time of one is not spent in the session's queue."""
        rows = group.prepared()
        if not len(rows):
            group.answer.set_result(None)
            return
        self._free_lanes.acquire()
        if self._stopped:
            return
        start = time.perf_counter()

        def finish(future: Future[dict[str, np.ndarray]]) -> None:
            group.run_s = time.perf_counter() - start
            self._free_lanes.release()
            try:
                group.answer.set_result(future.result())
            except BaseException as error:
                group.answer.set_exception(error)

        try:
            future = self._submit(rows)
        except BaseException:
            self._free_lanes.release()
            raise
        future.add_done_callback(finish)
