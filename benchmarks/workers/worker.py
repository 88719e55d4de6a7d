"""The worker: one artifact on one engine, timed by a loop that knows nothing of food.

Reads one JSON command a line on standard input, answers one JSON line each on the pipe that was its standard output;
whatever else prints goes to standard error. Imports floors 1 to 3 only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import TiffinError
from ...runtime.session import Session

Answer = dict[str, Any]


class Worker:
    """Holds the open session between commands."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._feeds: dict[str, np.ndarray] = {}

    @property
    def session(self) -> Session:
        """The open session; the client opens before anything else."""
        assert self._session is not None
        return self._session

    def open(self, artifact: str, run: Mapping[str, Any], feeds: Mapping[str, str]) -> Answer:
        """Load, run once, and say what was applied. `feeds`: input name → .npy file."""
        start = time.perf_counter_ns()
        self._session = Session(Artifact.load(artifact), RunConfig(**run))
        load_ns = time.perf_counter_ns() - start
        self._feeds = {name: np.load(path) for name, path in feeds.items()}
        self._session.run(self._feeds)
        applied = self._session.applied
        return {
            "applied": {**vars(applied.run), "version": applied.version, "details": dict(applied.details)},
            "load_ns": load_ns,
        }

    def time(self, seconds: float, min_calls: int) -> Answer:
        """Call back to back for at least `seconds` and `min_calls`: nanoseconds of each call."""
        run, feeds, clock = self.session.run, self._feeds, time.perf_counter_ns
        taken: list[int] = []
        end = clock() + int(seconds * 1e9)
        before = clock()
        while before < end or len(taken) < min_calls:
            start = clock()
            run(feeds)
            before = clock()
            taken.append(before - start)
        return {"ns": taken}

    def infer(self, photos: str, start: int, stop: int, batch: int, out: str) -> Answer:
        """Answer rows [start, stop) of an array file into the same rows of another (both .npy)."""
        source, target = np.load(photos, mmap_mode="r"), np.load(out, mmap_mode="r+")
        manifest = self.session.artifact.manifest
        name, output = manifest.inputs[0].name, manifest.outputs[0].name
        for first in range(start, stop, batch):
            last = min(first + batch, stop)
            target[first:last] = self.session.run({name: np.ascontiguousarray(source[first:last])})[output]
        target.flush()
        return {}

    def memory(self) -> Answer:
        """Peak resident memory of this process in bytes, None where the kernel does not tell."""
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
        return {"peak_bytes": peak}


def _die_with_parent() -> None:
    """A stopped worker cannot see that its harness was killed: Linux kills it (prctl PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Serve until standard input ends."""
    _die_with_parent()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines that print must not garble the answers
    worker = Worker()
    commands: dict[str, Callable[..., Answer]] = {
        name: getattr(worker, name) for name in ("open", "time", "infer", "memory")
    }
    print(json.dumps({"pid": os.getpid()}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("command")](**request)
        except TiffinError as error:
            answer = {"error": [type(error).__name__, error.what, error.expected, error.fix]}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
