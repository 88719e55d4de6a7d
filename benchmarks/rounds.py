"""Latency: every candidate in a worker of its own, the others stopped, blocks interleaved in seeded random order."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..artifact import Artifact
from ..errors import BadInput, TiffinError
from ..records import Rounds, Stages, Subject
from ..records.stopping import Precision, precision
from .candidate import Candidate
from .options import Progress, RoundOptions, Status, ending, worst_ending
from .sensors import Sensors, between, memory
from .tally import Tally
from .workers.burner import burners
from .workers.client import WorkerClient

_EVER_S = 1e9  # whoever asks for more launches minds the time


class Measurement:
    """A run of several candidates. What is known so far can be read at any moment, also after an interruption.

    Args:
        photos: encoded photos on which photo-to-label is split into stages; none leaves that out.
        progress: called before each block.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        options: RoundOptions,
        progress: Progress = lambda status: None,
        photos: Sequence[Path] = (),
    ) -> None:
        self._candidates, self._options, self._progress, self._photos = candidates, options, progress, photos
        self._tallies = {candidate.name: Tally(reason=candidate.reason) for candidate in candidates}
        self._chance = random.Random(options.seed)
        self._sensors = Sensors()
        self._position = 0
        self._launched = 0
        self._began = time.monotonic()
        self._known: dict[str, Precision] = {}

    def run(self) -> None:
        """Measure all that can run, until the stopping rule says so; a worker that fails is a row with the reason.

        Raises:
            whatever interrupts it; workers are closed, and what was measured stays readable.
        """
        self._began = time.monotonic()
        self._run()

    def more(self, launches: int) -> None:
        """After `run`: so many launches more of all that ran, numbered on from those before; precision is not asked.

        Raises:
            BadInput: a sustained run, which is never relaunched.
            whatever interrupts it, as `run`.
        """
        if self._options.regime == "sustained":
            raise BadInput("more launches of a sustained run", "another regime")
        self._options = replace(self._options, target=None, launches=self._launched + launches, time_limit_s=_EVER_S)
        for tally in self._tallies.values():
            tally.ended = ""
        self._run()

    def _run(self) -> None:
        count = self._options.burners if self._options.regime == "contended" else 0
        with burners(count, self._candidates[0].place.cpus if self._candidates else None):
            if self._options.regime == "sustained":
                for candidate in self._candidates:
                    self._sustain(candidate)
            else:
                self._relaunch()

    def _relaunch(self) -> None:
        while self._open():
            began = time.monotonic()
            self._launch(self._launched)
            self._launched += 1
            self._judge(self._launched, time.monotonic() - began)

    def _open(self) -> list[Candidate]:
        """Candidates that still need launches; the reference, the first that runs, stays as long as any other does."""
        running = self._running()
        waiting = [row for row in running[1:] or running if not self._tallies[row.name].ended]
        return [row for row in running if row in waiting or row is running[0]] if waiting else []

    def _running(self) -> list[Candidate]:
        return [row for row in self._candidates if not self._tallies[row.name].reason]

    def _launch(self, launch: int) -> None:
        with self._workers(self._open()) as workers:
            for _ in range(self._options.blocks):
                for name in self._chance.sample(sorted(workers), len(workers)):
                    self._progress(self._status(launch, name))
                    self._time_block(workers, name, launch)
            for name in list(workers):
                self._finish(workers, name)

    def _status(self, launch: int, name: str) -> Status:
        return Status(launch, name, self.elapsed_s, self._limit_s(), dict(self._known))

    def _limit_s(self) -> float:
        sustained = self._options.regime == "sustained"
        return self._options.sustain_s * len(self._candidates) if sustained else self._options.time_limit_s

    @contextlib.contextmanager
    def _workers(self, candidates: Sequence[Candidate]) -> Iterator[dict[str, WorkerClient]]:
        """Started, warmed up and stopped, one after the other in drawn order; closed whatever happens.

        Drawn, because it matters: the first to start was 0.5 % faster than itself started second (docs/believing.md).
        """
        workers: dict[str, WorkerClient] = {}
        try:
            for position, candidate in enumerate(self._chance.sample(candidates, len(candidates))):
                self._tallies[candidate.name].started_as = position
                self._start(candidate, workers)
            yield workers
        finally:
            for worker in workers.values():
                worker.close()

    def _start(self, candidate: Candidate, workers: dict[str, WorkerClient]) -> None:
        tally = self._tallies[candidate.name]
        assert candidate.artifact is not None and candidate.run is not None
        with self._failing(workers, candidate.name):
            feeds = random_feeds(candidate.artifact, self._options.batch, self._options.seed)
            worker = WorkerClient(candidate.artifact, candidate.run, candidate.place, feeds)
            workers[candidate.name] = worker  # at once: whatever stops us now closes it
            regime = "throughput" if self._options.regime == "throughput" else "back-to-back"  # all lanes, or the one
            tally.started(worker, worker.time(self._options.warmup_s, 1, regime).ns)
            worker.pause()

    @contextlib.contextmanager
    def _failing(self, workers: dict[str, WorkerClient], name: str) -> Iterator[None]:
        """A worker that fails is closed and becomes a reason."""
        try:
            yield
        except (TiffinError, OSError, MemoryError) as error:  # no room for a worker's feeds, no process to be had
            self._tallies[name].reason = error.what if isinstance(error, TiffinError) else str(error) or "out of memory"
            if name in workers:
                workers.pop(name).close()

    def _time_block(self, workers: dict[str, WorkerClient], name: str, launch: int) -> None:
        chosen, tally, worker = self._options, self._tallies[name], workers[name]
        self._position += 1
        with self._failing(workers, name):
            before = self._sensors.read()
            worker.resume()
            block = worker.time(chosen.block_time_s, chosen.min_calls, chosen.regime, chosen.fps, chosen.rewarm)
            worker.pause()
            told = between(before, self._sensors.read())
            tally.keep(block, told, memory(worker.pid), launch, self._position)

    def _finish(self, workers: dict[str, WorkerClient], name: str) -> None:
        """After the last block of a launch: photo to label, split into stages."""
        tally, worker = self._tallies[name], workers[name]
        if self._photos and _takes_a_photo(worker.artifact):
            worker.resume()
            with self._failing(workers, name):
                names, rows = worker.stages(self._photos)
                tally.stage_names = names
                tally.stages += rows
                worker.pause()

    def _sustain(self, candidate: Candidate) -> None:
        """One candidate for `sustain_s`, block after block, never relaunched: heat is the point."""
        tally = self._tallies[candidate.name]
        if tally.reason:
            return
        with self._workers([candidate]) as workers:
            end = time.monotonic() + self._options.sustain_s
            while time.monotonic() < end and candidate.name in workers:
                self._progress(self._status(0, candidate.name))
                self._time_block(workers, candidate.name, 0)
            if candidate.name in workers:
                self._finish(workers, candidate.name)
        tally.ended = "fixed"

    def _judge(self, launch: int, launch_s: float) -> None:
        """Say of each open candidate how well it is known, and whether it is done."""
        left_s = self._options.time_limit_s - self.elapsed_s
        most = max(self._options.launches, self._options.max_launches)
        affordable = min(int(left_s / launch_s), most - launch)
        names = [row.name for row in self._open()]
        found, target = self.rounds(), self._options.target
        for name in names[1:] or names:
            known = precision(found[name], found[names[0]] if name != names[0] else None, target or 1.0)
            self._known[name] = known
            self._tallies[name].ended = ending(known, launch, affordable, self._options)
        if not self._open() and (running := self._running())[1:]:
            self._tallies[running[0].name].ended = worst_ending(self._tallies[row.name].ended for row in running[1:])

    def rounds(self) -> dict[str, Rounds]:
        """By name of those with any that did not fail."""
        return {name: tally.rounds(self._options) for name, tally in self._tallies.items() if tally.told}

    def stages(self) -> dict[str, Stages]:
        """Photo to label by name, of those it was measured of."""
        return {name: tally.photo_to_label() for name, tally in self._tallies.items() if tally.told and tally.stages}

    def subjects(self) -> tuple[Subject, ...]:
        """One a candidate, in the order given."""
        return tuple(candidate.subject(**self._tallies[candidate.name].facts()) for candidate in self._candidates)

    @property
    def elapsed_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def missing_sensors(self) -> dict[str, str]:
        """What this machine does not tell, and why."""
        return dict(self._sensors.missing)


def measure(
    candidates: Sequence[Candidate], options: RoundOptions, progress: Progress = lambda status: None
) -> tuple[tuple[Subject, ...], dict[str, Rounds]]:
    """Run a `Measurement` to its end.

    Returns:
        Subjects in the order given, and rounds by name of those with any.
    """
    run = Measurement(candidates, options, progress)
    run.run()
    return run.subjects(), run.rounds()


def _takes_a_photo(artifact: Artifact) -> bool:
    """True of a classifier that takes photos one by one."""
    manifest = artifact.manifest
    return manifest.task == "classification" and bool(manifest.preprocess) and manifest.inputs[0].shape[0] in (None, 1)


def random_feeds(artifact: Artifact, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Seeded noise of the inputs' dtypes and shapes: latency of these networks does not depend on the pixels.

    Args:
        batch: of inputs whose first axis is free.

    Raises:
        BadInput: another axis is free.
    """
    chance = np.random.default_rng(seed)
    feeds = {}
    for spec in artifact.manifest.inputs:
        if None in spec.shape[1:]:
            raise BadInput(f"{artifact.folder}: input {spec.name} is of free size, {_sizes(spec.shape)}",
                           "no free axis but the first, the batch",
                           "fix the others in its ONNX model, and export that")  # fmt: skip
        shape = [batch if size is None else size for size in spec.shape]
        dtype = np.dtype(spec.dtype)
        high = 256 if dtype == np.uint8 else 2
        drawn = chance.integers(0, high, shape, np.uint8)  # a byte each: of large batches int64 would not fit
        feeds[spec.name] = drawn.astype(dtype, copy=False)
    return feeds


def _sizes(shape: tuple[int | None, ...]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape)
