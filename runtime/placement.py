"""On which cores, and how urgently, the threads of a session run: the operating system's own means.

An engine's threads inherit both from the thread that opens it (Linux: clone(2), sched(7)).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from ..artifact import RunConfig
from ..errors import BadInput

Found = TypeVar("Found")
# Added to the thread's niceness, which Linux keeps for each thread (setpriority(2)).
_NICER = {"low": 10, "high": -5}


def is_placed(run: RunConfig) -> bool:
    """True if its threads may not run as the caller's do."""
    return run.cpus is not None or (run.priority != "normal" and run.device == "cpu")


def enter(run: RunConfig) -> None:
    """Place the calling thread.

    Raises:
        BadInput: the system cannot, or does not let this process.
    """
    if run.cpus is not None:
        _keep_to(run.cpus)
    if run.priority != "normal" and run.device == "cpu":
        _be(run.priority)


def _keep_to(cpus: tuple[int, ...]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise BadInput("this system keeps no thread to given cores", "no cpus", "leave it to the system")
    os.sched_setaffinity(0, cpus)


def _require_allowed(cpus: tuple[int, ...]) -> None:
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(cpus)
    if not set(cpus) <= allowed:
        raise BadInput(f"cpus {', '.join(map(str, cpus))}", f"some of {', '.join(map(str, sorted(allowed)))}")


def _be(priority: str) -> None:
    if not hasattr(os, "setpriority") or os.uname().sysname != "Linux":
        raise BadInput(f"priority {priority}: this system has one for whole processes only", "priority normal")
    thread = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICER[priority])
    except PermissionError as error:
        raise BadInput(f"priority {priority} is not permitted here", "a process that may raise priorities",
                       "run it as root or with CAP_SYS_NICE, or take priority normal") from error  # fmt: skip


def opened(run: RunConfig, make: Callable[[], Found]) -> Found:
    """What `make` makes; in a thread placed as `run` says, where it says so, for an engine's threads to inherit it.

    Raises:
        BadInput: as `enter` does, or this process may not use such a core.
    """
    if not is_placed(run):
        return make()
    if run.cpus is not None:
        _require_allowed(run.cpus)
    from concurrent.futures import ThreadPoolExecutor

    def placed() -> Found:
        enter(run)
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(placed).result()
