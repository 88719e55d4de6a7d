"""Session: an artifact opened on one engine, fed by name."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from concurrent.futures import Future, TimeoutError
from types import TracebackType
from typing import NoReturn

import numpy as np

from ..artifact import Artifact, RunConfig
from ..errors import BadInput
from . import backends, batches, placement
from .backends import Applied, Feeds, Lane, deliver
from .dispatch import Dispatcher, late
from .feeds import Inputs

Outputs = dict[str, np.ndarray]


class Session:
    """Runs feeds on `run.lanes` lanes of one backend, from any number of threads.

    `run` takes an idle lane and computes in the caller's thread; where there is none, and for `submit`, a request waits
    in one bounded queue, first come, first served. A batch of any size is answered: split, and padded, where the engine
    takes only some; one request is one lane's all the same. Docs: docs/runtime.md.
    Where a backend takes them, feeds may also hold arrays that lie on its GPU: objects with `__cuda_array_interface__`
    or DLPack. They are read where they lie, so leave them unchanged until the answer is there.
    """

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        self.artifact = artifact
        self.requested = run
        self._closing = threading.Lock()
        self._lanes: list[Lane] = []
        placement.opened(run, self._open)
        self._in_threads = placement.is_placed(run)
        enter = functools.partial(placement.enter, run) if self._in_threads else None
        self._dispatcher: Dispatcher[Lane] = Dispatcher(self._lanes, enter)
        weakref.finalize(self, self._dispatcher.drop).atexit = False  # the dispatcher ends with the process by itself
        first = self._lanes[0]
        self._inputs = Inputs(artifact, getattr(first, "batches", ()), getattr(first, "takes_device_arrays", False))

    def _open(self) -> None:
        """The first lane opens the engine; the others share it where it offers that."""
        module = backends.backend(self.requested.backend)
        try:
            self._lanes.append(module.open(self.artifact, self.requested))
            another: Callable[[], Lane] | None = getattr(self._lanes[0], "another", None)
            while len(self._lanes) < self.requested.lanes:
                self._lanes.append(another() if another else module.open(self.artifact, self.requested))
        except BaseException:
            self._close_lanes()
            raise

    @property
    def applied(self) -> Applied:
        """What took effect."""
        return self._lanes[0].applied

    def run(self, feeds: Feeds, out: Outputs | None = None, timeout_s: float | None = None) -> Outputs:
        """Run once: in this thread where a lane is idle, else in a lane's.

        Args:
            feeds: input name → array of the manifest's dtype and shape; the batch may be of any size.
            out: output name → array to write into; untouched unless the answer is there in time.
            timeout_s: from now to the answer; the call then runs in a lane's thread.

        Raises:
            BadInput: a name, dtype or shape is not the manifest's, a float input holds NaN, or the session is closed.
            TimedOut: it was taken out of the queue; or it runs on, unheard, and its lane is free again afterwards.
            EngineFailed: the engine failed.
        """
        parts, lane = self._parts(feeds), None
        if not (parts or self._in_threads) and timeout_s is None:
            lane = self._dispatcher.take()
        if lane is None:
            return deliver(self._wait_for(self._work(feeds, parts), timeout_s), out)
        try:
            return lane.run(feeds, out)
        finally:
            self._dispatcher.give(lane)

    def _wait_for(self, work: Callable[[Lane], Outputs], timeout_s: float | None) -> Outputs:
        job = self._dispatcher.submit(work, timeout_s=timeout_s)
        try:
            return job.result(None if job.deadline is None else job.deadline - time.monotonic())
        except TimeoutError:
            if job.done():  # the engine's own error, or an answer that came in this moment
                return job.result()
            job.cancel()
            raise late() from None

    def submit(self, feeds: Feeds, block: bool = True, timeout_s: float | None = None) -> Future[Outputs]:
        """Queue one run for a lane's thread, in which the future's callbacks run too: what blocks there holds the lane.

        Args:
            feeds: as for `run`; leave them unchanged until the answer is there.
            block: wait for room in the queue.
            timeout_s: a request that has not begun by then ends in TimedOut, without waiting for a lane.

        Raises:
            BadInput: as `run` does, at once. What the engine raises comes with the future.
            Busy: the queue is full, and `block` is false.
            TimedOut: there was no room in the queue in time.
            EngineFailed: the system gives no thread for a lane.
        """
        return self._dispatcher.submit(self._work(feeds, self._parts(feeds)), block, timeout_s)

    def iterate(self, feeds_source: Iterable[Feeds] | AsyncIterable[Feeds]) -> AsyncGenerator[Outputs, None]:
        """The answer to each feeds of a source, in order, for `async for`.

        A source that is not async is read in a thread. As many are in flight as the queue holds; the source is read no
        further ahead. The first error ends it, in its turn, and what had not begun is cancelled.

        Raises:
            BadInput, EngineFailed: as `run` does.
        """
        from .iteration import in_order  # asyncio takes longer to import than all of this room

        return in_order(self.submit, feeds_source, self._dispatcher.limit)

    def device_ns(self, feeds: Feeds) -> int | None:
        """Run once more and say what the kernels alone took on the device.

        Returns:
            Nanoseconds without any copy, by the device's own clock; None where the backend does not tell.

        Raises:
            BadInput, EngineFailed: as `run` does.
        """
        if self._parts(feeds) or not hasattr(self._lanes[0], "device_ns"):
            return None
        return self._wait_for(lambda lane: lane.device_ns(feeds), None)  # type: ignore[attr-defined, return-value]

    def close(self) -> None:
        """Refuse what comes from now on, wait for what was submitted or runs, then free the engine.

        Safe while other threads use the session, and when called again. In a forked child it does nothing: the engine
        is the parent's.

        Raises:
            BadInput: called in a future's callback, which would wait for itself.
        """
        dispatcher = getattr(self, "_dispatcher", None)
        if dispatcher is None or dispatcher.is_inherited:
            return
        dispatcher.close()
        with self._closing:
            self._close_lanes()

    def _close_lanes(self) -> None:
        for lane in self._lanes:
            lane.close()

    def _parts(self, feeds: Feeds) -> list[batches.Part]:
        """The runs that answer these feeds, checked; none where one run takes them as they are."""
        if self._inputs.as_before(feeds):
            return []
        self._dispatcher.require_open()
        return self._inputs.accept(feeds)

    def _work(self, feeds: Feeds, parts: list[batches.Part]) -> Callable[[Lane], Outputs]:
        if not parts:
            return lambda lane: lane.run(feeds)
        batched = self._inputs.batched
        return lambda lane: batches.run_parts(lane.run, feeds, batched, parts)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise BadInput("a session cannot be sent to another process", "an artifact's folder and a RunConfig",
                       "send those and open a session there")  # fmt: skip
