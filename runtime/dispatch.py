"""The one scheduler in front of a session's lanes: who gets an idle lane, who waits, who is turned away.

A caller who runs in its own thread takes an idle lane and gives it back. All else waits in one bounded queue, first
come, first served, for the threads that run it, one a lane. A caller never overtakes the queue.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ..errors import BadInput, Busy, EngineFailed, TimedOut, first_line

LaneType = TypeVar("LaneType")
WAITING_A_LANE = 2  # while one is answered the next is at hand, and the caller prepares another
END_S = 30.0  # of waiting, when the process ends, for an engine that may hang
_INHERITED = "was opened by the process that this one was forked from"

_log = logging.getLogger("tiffin")
_OPEN: weakref.WeakSet[Dispatcher[Any]] = weakref.WeakSet()


class Job(Future[Any]):
    """A future whose work leaves the queue when it is cancelled. One that is kept keeps no feeds."""

    def __init__(self, work: Callable[[Any], Any], deadline: float | None, withdraw: Callable[[Job], bool]) -> None:
        super().__init__()
        self.work, self.deadline, self._withdraw = work, deadline, withdraw

    def cancel(self) -> bool:
        """True if it will not run; False if it is running or done."""
        if not super().cancel():
            return False
        self.work = _done
        if self._withdraw(self):
            self.set_running_or_notify_cancel()
        return True

    def end(self, error: Exception) -> None:
        """End in an error without having run; called once it has left the queue."""
        self.work = _done
        if self.set_running_or_notify_cancel():
            self.set_exception(error)

    def answer(self, lane: Any, give: Callable[[Any], None]) -> None:
        """Run on a lane and give it back before anyone hears of the answer."""
        work = self.work
        self.work = _done
        if not self.set_running_or_notify_cancel():
            give(lane)
            return
        try:
            found = work(lane)
        except BaseException as error:
            give(lane)
            self.set_exception(error)
        else:
            give(lane)
            self.set_result(found)


def _done(lane: Any) -> None:
    """In place of work that was begun or ended."""


def late() -> TimedOut:
    """What a request says that was not answered in its time."""
    return TimedOut("no answer in the time given", "an answer by then", "give it more time, or the session more lanes")


def _started(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        what, fix = f"a session's thread: {first_line(error)}", "raise the limit (ulimit -u, the cgroup's pids.max)"
        raise EngineFailed(what, "a system that gives one more thread", fix) from error
    return thread


class Dispatcher(Generic[LaneType]):
    """Lanes, the bounded queue in front of them, and a thread a lane from the first request that waits.

    Args:
        lanes: what work is given, one at a time each.
        enter: called by each thread as it starts; where it raises, all is refused.
    """

    def __init__(self, lanes: Sequence[LaneType], enter: Callable[[], None] | None = None) -> None:
        self._lanes, self._idle = tuple(lanes), list(lanes)[::-1]  # the first is taken first
        self.limit = WAITING_A_LANE * len(lanes)
        self._enter = enter
        self._waiting: deque[Job] = deque()
        self._refusal = ""
        self._begin()
        _OPEN.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._work, self._room, self._quiet, self._alarm = (threading.Condition(self._lock) for _ in range(4))
        self._threads: list[threading.Thread] = []
        self._clock: threading.Thread | None = None
        self._wakes = float("inf")

    @property
    def is_inherited(self) -> bool:
        """True in a child that was forked while the lanes were open: they are its parent's."""
        return self._refusal == _INHERITED

    def require_open(self) -> None:
        """Raises BadInput if it is closed, lost a thread, or belongs to the process that this one was forked from."""
        if self._refusal:
            raise self._refused()

    def _refused(self) -> BadInput:
        return BadInput(f"this session {self._refusal}", "an open session", "open one here: `tiffin.load`")

    def take(self) -> LaneType | None:
        """An idle lane, to be given back; None where there is none, or others wait for it.

        Raises:
            BadInput: the session is closed.
        """
        with self._lock:
            if self._refusal:
                self.require_open()
            return self._idle.pop() if self._idle and not self._waiting else None

    def give(self, lane: LaneType) -> None:
        """Give back what was taken."""
        with self._lock:
            self._idle.append(lane)
            if self._waiting:
                self._work.notify()
            elif self._refusal:
                self._quiet.notify_all()

    def submit(self, work: Callable[[LaneType], Any], block: bool = True, timeout_s: float | None = None) -> Job:
        """Queue work for the next idle lane.

        Args:
            block: wait for room in the queue.
            timeout_s: it must have begun by then, else it ends in TimedOut; waiting for room counts.

        Raises:
            BadInput: the session is closed.
            Busy: the queue is full, and `block` is false.
            TimedOut: there was no room in time.
            EngineFailed: the system gives no thread; a later call tries again.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        job = Job(work, deadline, self._withdraw)
        with self._lock:
            self._wait_for_room(block, deadline)
            self._start(deadline)
            self._waiting.append(job)
            self._work.notify()
        return job

    def _wait_for_room(self, block: bool, deadline: float | None) -> None:
        self.require_open()
        while len(self._waiting) >= self.limit:
            if not block:
                raise Busy(f"{self.limit} requests are waiting", "room in the queue", "ask again later")
            if not self._room.wait(None if deadline is None else deadline - time.monotonic()):
                raise late()
            self.require_open()

    def _start(self, deadline: float | None) -> None:
        """Threads that are wanted from now on; raises EngineFailed where one cannot be had."""
        while len(self._threads) < len(self._lanes):
            self._threads.append(_started(self._serve, "tiffin-lane"))
        if deadline is None:
            return
        if self._clock is None:
            self._clock = _started(self._watch, "tiffin-clock")
        if deadline < self._wakes:
            self._wakes = deadline
            self._alarm.notify()

    def _withdraw(self, job: Job) -> bool:
        with self._lock:
            if job not in self._waiting:
                return False
            self._removed([job])
            return True

    def _removed(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._waiting.remove(job)
        self._room.notify(len(jobs))
        self._quiet.notify_all()

    def _serve(self) -> None:
        try:
            if self._enter is not None:
                self._enter()
        except BaseException as error:
            self._lose(error)
            return
        while self._serve_one():
            pass

    def _lose(self, error: BaseException) -> None:
        """A lane without its thread: what waits is ended, what comes is refused."""
        with self._lock:
            self._refusal = self._refusal or f"cannot start a lane's thread: {first_line(error)}"
            lost = list(self._waiting)
            self._removed(lost)
            for condition in (self._work, self._room, self._alarm):
                condition.notify_all()
        for job in lost:
            job.end(self._refused())

    def _serve_one(self) -> bool:
        """Whether there may be more; a frame of its own, so that a resting thread holds no answer."""
        with self._lock:
            while not (self._waiting and self._idle):
                if self._refusal and not self._waiting:
                    return False
                self._work.wait()
            job, lane = self._waiting.popleft(), self._idle.pop()
            self._room.notify()
        job.answer(lane, self.give)
        return True

    def _watch(self) -> None:
        """Ends what waited too long."""
        while (late_ones := self._late()) is not None:
            while late_ones:
                late_ones.pop().end(late())

    def _late(self) -> list[Job] | None:
        """Those whose time is over, taken out; sleeps until there is one. None when the session has closed."""
        with self._lock:
            while not self._refusal or self._waiting:
                now = time.monotonic()
                due = [job.deadline for job in self._waiting if job.deadline is not None]
                found = [job for job in self._waiting if job.deadline is not None and job.deadline <= now]
                if found:
                    self._removed(found)
                    return found
                self._wakes = min(due, default=float("inf"))
                self._alarm.wait(self._wakes - now if due else None)
        return None

    def close(self, timeout_s: float | None = None) -> bool:
        """Refuse what comes from now on, finish what is queued or running, end the threads. Safe from any thread but
        its own.

        Returns:
            False if something still ran when the time was over.

        Raises:
            BadInput: called by a thread of this session: it cannot wait for itself.
        """
        if threading.current_thread() in (*self._threads, self._clock):
            raise BadInput(
                "a session is closed in a future's callback", "another thread", "close it where it was opened"
            )
        with self._lock:
            self._refusal = self._refusal or "is closed"
            for condition in (self._work, self._room, self._alarm):
                condition.notify_all()
            if not self._quiet.wait_for(lambda: not self._waiting and len(self._idle) == len(self._lanes), timeout_s):
                return False
            self._work.notify_all()
            self._alarm.notify_all()
        threads = [*self._threads, *([self._clock] if self._clock else [])]
        for thread in threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in threads)

    def drop(self) -> None:
        """As `close`, for the garbage collector, which may call in any thread and under this lock: waits for nothing.

        Without it threads that rest would keep the lanes, and with them the engine, for ever.
        """
        if self._threads and not self._refusal:
            threading.Thread(target=self.close, name="tiffin-closes", daemon=True).start()

    def _disown(self) -> None:
        """In a forked child: engines' threads did not come along, and their destructors would wait for them."""
        import ctypes

        self._refusal = _INHERITED
        self._begin()
        self._waiting.clear()
        self._idle = list(self._lanes)
        for lane in self._lanes:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(lane))  # never freed here; its owner frees it there


def _forked() -> None:
    for dispatcher in list(_OPEN):
        dispatcher._disown()


def _ended() -> None:
    """The interpreter does not wait for threads that compute: it takes from under them what they need, and aborts."""
    until = time.monotonic() + END_S
    for dispatcher in list(_OPEN):
        if not (dispatcher.is_inherited or dispatcher.close(max(0.0, until - time.monotonic()))):
            _log.warning("the process ends while an engine still runs, %g s after it was asked to", END_S)


atexit.register(_ended)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
