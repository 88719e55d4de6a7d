"""The worker: one artifact on one engine, timed by a loop that knows nothing of food.

Reads one JSON command a line on standard input, answers one JSON line each on the pipe that was its standard output;
whatever else prints goes to standard error. Imports floors 1 to 3 only. Its one argument is JSON: `cpus` that it may
use, and `delay` by which each call is prolonged (see `Place`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np

from ... import machine
from ...artifact import Artifact, RunConfig
from ...artifact.lineage import source_of
from ...errors import BadInput, TiffinError
from ...runtime import backends
from ...runtime.session import Session
from . import timing

Answer = dict[str, Any]
_KERNEL_RUNS = 5  # after a block, by the device's own clock


class Worker:
    """Holds the open session between commands."""

    def __init__(self, delay: float = 0.0) -> None:
        self._session: Session | None = None
        self._feeds: dict[str, np.ndarray] = {}
        self._delay = delay

    @property
    def session(self) -> Session:
        """The open session; the client opens before anything else."""
        assert self._session is not None
        return self._session

    def open(self, artifact: str, source: bool, run: Mapping[str, Any], feeds: Mapping[str, str]) -> Answer:
        """Load, run once, and say what was applied.

        Args:
            artifact: its folder.
            source: open the ONNX model that the engine in it was compiled from.
            feeds: input name → .npy file.
        """
        began = perf_counter_ns()
        _import_engine(str(run["backend"]))
        imported = perf_counter_ns()
        held = Artifact.load(artifact)
        self._session = Session(source_of(held) if source else held, RunConfig(**run))
        loaded = perf_counter_ns()
        self._feeds = {name: np.load(path) for name, path in feeds.items()}
        ready = perf_counter_ns()
        self._session.run(self._feeds)
        answered = perf_counter_ns()
        return {
            "applied": self._session.applied.plain(),
            "import_s": (imported - began) / 1e9,
            "load_s": (loaded - imported) / 1e9,
            "first_s": (answered - ready) / 1e9,
        }

    def time(self, seconds: float, min_calls: int, regime: str, fps: float, rewarm: int) -> Answer:
        """Nanoseconds of each call for at least `seconds` and `min_calls`, after `rewarm` calls that are kept apart.

        Raises:
            BadInput: a delay under throughput, whose calls overlap.
        """
        if regime == "throughput" and self._delay:
            raise BadInput(f"calls prolonged by {self._delay:.0%} under throughput", "one call at a time")
        call = timing.prolonged(self.session.run, self._delay)
        if regime == "throughput":  # requests in flight reach every lane
            warm = timing.in_flight(self.session, self._feeds, 0, rewarm)
        else:
            warm = timing.back_to_back(call, self._feeds, 0, rewarm)
        wall, cpu = perf_counter_ns(), process_time_ns()
        if regime == "paced":
            taken = timing.paced(call, self._feeds, seconds, min_calls, fps)
        elif regime == "throughput":
            taken = timing.in_flight(self.session, self._feeds, seconds, min_calls)
        else:
            taken = timing.back_to_back(call, self._feeds, seconds, min_calls)
        wall, cpu = perf_counter_ns() - wall, process_time_ns() - cpu
        told = [self.session.device_ns(self._feeds) for _ in range(_KERNEL_RUNS)]
        kernels = [ns for ns in told if ns is not None]
        return {"ns": taken, "warm": warm, "wall_s": wall / 1e9, "cpu_s": cpu / 1e9, "kernels_ns": kernels,
                "details": dict(self.session.applied.details)}  # fmt: skip

    def stages(self, photos: list[str]) -> Answer:
        """Photo to label, split, for each file: nanoseconds by stage."""
        return {"names": timing.STAGES, "ns": timing.stages(self.session, [Path(photo) for photo in photos])}

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

    def loadgen(self, step: str, **asked: Any) -> Answer:
        """Let MLPerf LoadGen drive the session; `step` is "probe" or "drive"."""
        from . import loadgen

        steps: dict[str, Callable[..., Answer]] = {"probe": loadgen.probe, "drive": loadgen.drive}
        return steps[step](self.session, **asked)


def _import_engine(backend: str) -> None:
    """Import what the backend will import when it opens, to time it apart; what is missing is `open`'s to say."""
    engine = getattr(backends.backend(backend), "ENGINE", None)
    if engine:
        with contextlib.suppress(ImportError):
            importlib.import_module(engine)


def _keep_to(cpus: list[int]) -> None:
    """All threads, those too that numpy's BLAS started when it was imported; later ones inherit it."""
    tasks = Path("/proc/self/task")
    for task in [int(entry.name) for entry in tasks.iterdir()] if tasks.is_dir() else [0]:
        os.sched_setaffinity(task, cpus)


def main() -> None:
    """Serve until standard input ends."""
    machine.die_with_parent()
    asked = json.loads(sys.argv[1])
    if asked["cpus"] is not None:
        _keep_to(asked["cpus"])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines that print must not garble the answers
    worker = Worker(asked["delay"])
    commands: dict[str, Callable[..., Answer]] = {
        name: getattr(worker, name) for name in ("open", "time", "stages", "infer", "loadgen")
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
