"""The other end of a worker: start, ask, pause, close. A worker that dies or hangs is an error with its last words."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ... import errors
from ...artifact import Artifact, RunConfig
from ...artifact.lineage import is_source
from ...errors import EngineMissing, TiffinError, WorkerFailed
from .place import Place

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """One block of timed calls: int64 nanoseconds a call, those of the calls before it, and what the block took.

    `kernels_ms` is what the device itself says of a few calls after the block, median; None where it does not.
    """

    ns: np.ndarray
    warm: np.ndarray
    wall_s: float
    cpu_s: float
    kernels_ms: float | None = None


class WorkerClient:
    """One worker process with an artifact open in it.

    Raises:
        EngineMissing: this system has not the POSIX calls that pause it.
        WorkerFailed: it died, hung, or answered garbage.
        TiffinError: what the worker itself raised, of the same class.
    """

    def __init__(self, artifact: Artifact, run: RunConfig, place: Place, feeds: dict[str, np.ndarray]) -> None:
        _require_signals()
        self.artifact = artifact
        self._scratch = tempfile.TemporaryDirectory(prefix="tiffin-worker-")
        self._stderr = Path(self._scratch.name, "stderr").open("w+b")  # noqa: SIM115  closed by `close`
        self._unread = b""
        started = time.perf_counter_ns()
        self._process = self._start(place)
        try:
            self._read(place.start_timeout_s)
            greeted = time.perf_counter_ns()
            opened = self.ask(
                "open",
                place.start_timeout_s,
                artifact=str(artifact.folder),
                source=is_source(artifact),
                run=vars(run),
                feeds={name: self._store(name, array) for name, array in feeds.items()},
            )
        except BaseException:
            self.close()
            raise
        self.applied: dict[str, Any] = opened["applied"]
        self.cold_start_s = (time.perf_counter_ns() - started) / 1e9
        split = {name: float(opened[f"{name}_s"]) for name in ("import", "load", "first")}
        self.cold_split_s: dict[str, float] = {"start": (greeted - started) / 1e9, **split}
        self._call_s = split["first"]  # the longest call so far

    def _start(self, place: Place) -> subprocess.Popen[bytes]:
        asked = json.dumps({"cpus": place.cpus, "delay": place.delay})
        command = [*place.argv_prefix, place.python, "-m", "tiffin.benchmarks.workers.worker", asked]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={name: value for name, value in {**os.environ, **place.env}.items() if value is not None},
                start_new_session=True,  # Ctrl-C is the harness's to handle, also while the worker is stopped
            )
        except OSError as error:
            self._stderr.close()
            self._scratch.cleanup()
            raise WorkerFailed(f"worker cannot be started: {command[0]} ({error.strerror})", "a program") from error

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed("died") from None
        answer = self._read(timeout_s)
        if "error" in answer:
            name, *words = answer["error"]
            kind = getattr(errors, name, TiffinError)
            raise kind(*words)
        return answer

    def time(
        self, seconds: float, min_calls: int, regime: str = "back-to-back", fps: float = 30.0, rewarm: int = 0
    ) -> Block:
        """One block of calls in a regime; `rewarm` calls before it are kept apart."""
        expected_s = seconds + (min_calls + rewarm) * self._call_s
        if regime == "paced":
            expected_s += (min_calls + 1) / fps
        answer = self.ask("time", 60 + 20 * expected_s, seconds=seconds, min_calls=min_calls, regime=regime, fps=fps,
                          rewarm=rewarm)  # fmt: skip
        ns, warm = (np.array(answer[name], np.int64) for name in ("ns", "warm"))
        self._call_s = max(self._call_s, int(ns.max(initial=0)) / 1e9)
        if "details" in answer:  # such as graphs, which are recorded only after the first calls
            self.applied["details"] = answer["details"]
        kernels = answer.get("kernels_ns")
        return Block(ns, warm, answer["wall_s"], answer["cpu_s"], float(np.median(kernels)) / 1e6 if kernels else None)

    def infer(self, photos: Path, rows: tuple[int, int], batch: int, out: Path) -> None:
        """Answer rows [start, stop) of an array file into the same rows of another."""
        start, stop = rows
        calls, began = -(-(stop - start) // batch), time.monotonic()
        self.ask("infer", 600 + 20 * calls * self._call_s, photos=str(photos), start=start, stop=stop, batch=batch,
                 out=str(out))  # fmt: skip
        self._call_s = max(self._call_s, (time.monotonic() - began) / calls)

    def stages(self, photos: Sequence[Path]) -> tuple[tuple[str, ...], list[list[int]]]:
        """Photo to label, split: the stages' names, and nanoseconds of each photo by stage."""
        answer = self.ask("stages", 60 + 10 * len(photos), photos=[str(photo) for photo in photos])
        return tuple(answer["names"]), answer["ns"]

    @property
    def pid(self) -> int:
        """Of the worker's process."""
        return self._process.pid

    def pause(self) -> None:
        """SIGSTOP, and wait until all its threads stand: nothing of it runs, spinning thread pools included."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.killpg(self._process.pid, signal.SIGSTOP)  # it leads a group of its own: its children stand too
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the process, by force if need be."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
        self._scratch.cleanup()

    def _store(self, name: str, array: np.ndarray) -> str:
        path = Path(self._scratch.name, f"{name.replace('/', '_')}.npy")
        np.save(path, array)
        return str(path)

    def _read(self, timeout_s: float) -> dict[str, Any]:
        line = self._line(timeout_s)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._failed(f"answered garbage: {line[:80]!r}")
        return answer

    def _line(self, timeout_s: float) -> bytes:
        """The next line; a worker that stops within one is found out too."""
        stdout = self._process.stdout
        assert stdout is not None
        end = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise self._failed(f"did not answer within {timeout_s:.0f} s")
            block = os.read(stdout.fileno(), 1 << 20)
            if not block:
                raise self._failed("died")
            self._unread += block
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _failed(self, what: str) -> WorkerFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.poll()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        if os.environ.get("TIFFIN_DEBUG") == "1":
            _log.error("all that the worker said:\n%s", said or "(nothing)")
        last = f"; its last words: {said.splitlines()[-1][:200]}" if said else ""
        killed = "; the system killed it, likely for want of memory" if code == -signal.SIGKILL else ""
        ended = "" if code is None else f" (exit {code}{killed})"
        return WorkerFailed(f"worker {what}{ended}{last}", "an answer", "TIFFIN_DEBUG=1 shows all that it said")

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_signals() -> None:
    if not hasattr(os, "killpg") or not hasattr(os, "waitid"):
        raise EngineMissing("this system cannot pause a worker", "Linux, or macOS with Python 3.13 or later",
                            "measure there; `tiffin backends` says what runs here")  # fmt: skip
