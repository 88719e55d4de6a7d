"""What a Session costs over the raw engine call: same process, same engine object, same input, calls alternating.

    python benchmarks/studies/overhead.py ARTIFACT RECORD.json

Prints the ratio of medians per block with its spread and writes a record.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.rounds import random_feeds
from tiffin.records import Record, Rounds
from tiffin.runtime import Session

BLOCKS, CALLS = 12, 80


def raw_call(session: Session) -> Callable[[dict[str, np.ndarray]], object]:
    """The engine's own call, as its documentation writes it."""
    lane: Any = session._lanes[0]
    if session.requested.backend == "onnxruntime":
        engine, names = lane._session, [spec.name for spec in session.artifact.manifest.outputs]
        return lambda feeds: engine.run(names, feeds)
    request = lane._request
    return lambda feeds: request.infer(feeds, share_inputs=True)[0]


def alternate(calls: list[Callable[[dict[str, np.ndarray]], object]], feeds: dict[str, np.ndarray]) -> list[Rounds]:
    """Time both calls in turn, changing who goes first."""
    clock = time.perf_counter_ns
    blocks: list[list[np.ndarray]] = [[], []]
    for _ in range(CALLS):
        for call in calls:
            call(feeds)
    for _ in range(BLOCKS):
        times: list[list[int]] = [[], []]
        for turn in range(CALLS):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = clock()
                calls[which](feeds)
                times[which].append(clock() - start)
        for which in (0, 1):
            blocks[which].append(np.array(times[which], np.int64))
    return [Rounds(tuple(found), (0,) * BLOCKS, tuple(range(BLOCKS))) for found in blocks]


def main() -> None:
    """Measure both engines and write the record."""
    artifact, out, environment = Artifact.load(sys.argv[1]), Path(sys.argv[2]), machine.environment()
    subjects, rounds = [], {}
    for backend in ("onnxruntime", "openvino"):
        run = RunConfig(backend)
        with Session(artifact, run) as session:
            through, raw = alternate([session.run, raw_call(session)], random_feeds(artifact, 1, 0))
        ratios = through.block_medians_s() / raw.block_medians_s()
        low, middle, high = np.quantile(ratios, (0, 0.5, 1))
        print(f"{backend}: Session / raw call = {middle:.4f} ({low:.4f}–{high:.4f})")  # noqa: T201
        for name, found in ((f"{backend} session", through), (f"{backend} raw", raw)):
            subjects.append(Candidate(name, artifact, run).subject())
            rounds[name] = found
    Record("overhead", environment, tuple(subjects), {"blocks": BLOCKS, "calls": CALLS}, rounds=rounds).save(out)


if __name__ == "__main__":
    main()
