"""Latency: every candidate in a worker of its own, the others stopped, blocks interleaved in seeded random order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..artifact import Artifact
from ..errors import TiffinError
from ..records import Rounds, Subject
from .candidate import Candidate
from .workers.client import WorkerClient

Progress = Callable[[str], None]


@dataclass(frozen=True)
class RoundOptions:
    """How latencies are measured.

    Args:
        launches: times that each worker is started anew; a process has a bias of its own.
        blocks: timed blocks a launch.
        block_s, min_calls: a block lasts at least so many seconds and calls.
        warmup_s: untimed-in-the-result calls after each start, recorded apart.
        batch: photos a call.
        seed: of the order and of the feeds.
    """

    launches: int = 3
    blocks: int = 4
    block_s: float = 0.5
    min_calls: int = 5
    warmup_s: float = 0.5
    batch: int = 1
    seed: int = 0


@dataclass
class _Tally:
    """What has been measured of one candidate so far."""

    blocks: list[np.ndarray] = field(default_factory=list)
    launches: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    warmup: list[np.ndarray] = field(default_factory=list)
    cold_start_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    applied: dict[str, object] = field(default_factory=dict)
    reason: str = ""

    def rounds(self, batch: int) -> Rounds:
        warmup = np.concatenate(self.warmup) if self.warmup else np.zeros(0, np.int64)
        return Rounds(tuple(self.blocks), tuple(self.launches), tuple(self.order), warmup, batch)


def measure(
    candidates: Sequence[Candidate], options: RoundOptions, progress: Progress = lambda line: None
) -> tuple[tuple[Subject, ...], dict[str, Rounds]]:
    """Measure all that can run; a worker that fails becomes a subject with the reason.

    Returns:
        Subjects in the order given, and rounds by name of those with any.
    """
    chance = random.Random(options.seed)
    tallies = {candidate.name: _Tally(reason=candidate.reason) for candidate in candidates}
    position = 0
    for launch in range(options.launches):
        workers: dict[str, WorkerClient] = {}
        try:
            for candidate in candidates:
                _start(candidate, tallies[candidate.name], workers, options)
            for block in range(options.blocks):
                progress(f"launch {launch + 1}/{options.launches}, block {block + 1}/{options.blocks}")
                for name in chance.sample(sorted(workers), len(workers)):
                    position += 1
                    _time_block(workers, name, tallies[name], (launch, position), options)
            for name, worker in workers.items():
                _ask_memory(worker, tallies[name])
        finally:
            for worker in workers.values():
                worker.close()
    rounds = {name: tally.rounds(options.batch) for name, tally in tallies.items() if tally.blocks and not tally.reason}
    return tuple(_subject(candidate, tallies[candidate.name]) for candidate in candidates), rounds


def _start(candidate: Candidate, tally: _Tally, workers: dict[str, WorkerClient], options: RoundOptions) -> None:
    """Start, warm up and stop one worker; all earlier ones are stopped already."""
    if tally.reason or candidate.artifact is None or candidate.run is None:
        return
    try:
        feeds = random_feeds(candidate.artifact, options.batch, options.seed)
        worker = WorkerClient(candidate.artifact, candidate.run, candidate.place, feeds)
        workers[candidate.name] = worker  # at once: whatever stops us now closes it
        tally.warmup.append(worker.time_ns(options.warmup_s, 1))
    except TiffinError as error:
        tally.reason = error.what
        if candidate.name in workers:
            workers.pop(candidate.name).close()
        return
    tally.cold_start_s.append(worker.cold_start_s)
    tally.applied = worker.applied
    worker.pause()


def _time_block(
    workers: dict[str, WorkerClient], name: str, tally: _Tally, where: tuple[int, int], options: RoundOptions
) -> None:
    worker = workers[name]
    worker.resume()
    try:
        block = worker.time_ns(options.block_s, options.min_calls)
    except TiffinError as error:
        tally.reason = error.what
        workers.pop(name).close()
        return
    worker.pause()
    tally.blocks.append(block)
    tally.launches.append(where[0])
    tally.order.append(where[1])


def _ask_memory(worker: WorkerClient, tally: _Tally) -> None:
    worker.resume()
    try:
        tally.peak_bytes = max(tally.peak_bytes or 0, worker.peak_bytes() or 0) or None
    except TiffinError as error:
        tally.reason = error.what


def _subject(candidate: Candidate, tally: _Tally) -> Subject:
    return candidate.subject(
        applied=tally.applied,
        cold_start_s=tuple(tally.cold_start_s),
        peak_bytes=tally.peak_bytes,
        reason=tally.reason,
    )


def random_feeds(artifact: Artifact, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Seeded noise of the inputs' dtypes and shapes: latency of these networks does not depend on the pixels."""
    chance = np.random.default_rng(seed)
    feeds = {}
    for spec in artifact.manifest.inputs:
        shape = [batch if size is None else size for size in spec.shape]
        dtype = np.dtype(spec.dtype)
        high = 256 if dtype == np.uint8 else 2
        feeds[spec.name] = chance.integers(0, high, shape).astype(dtype)
    return feeds
