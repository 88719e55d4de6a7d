"""What the harness itself costs: time a call of an engine that does nothing, and its own memory.

    python benchmarks/studies/null.py ARTIFACT RECORD.json [--launches 10]
    python benchmarks/studies/null.py --report RECORD.json

The null backend is timed like any other. Its time a call holds the clock, the session and the making of zeros for an
answer: no more than this is added to an engine's own. Memory is the most that the harness itself held; its workers are
processes of their own.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.rounds import Measurement
from tiffin.benchmarks.sensors import memory
from tiffin.records import Record, Rounds
from tiffin.records.latency import median_interval
from tiffin.records.record import load_record

TARGET_NS = 5000
TARGET_BYTES = 150_000_000


def measure(artifact: Artifact, launches: int, out: Path) -> None:
    """Blocks are short: a call takes microseconds, and the record keeps each."""
    options = RoundOptions(launches=launches, target=None, block_s=0.004, time_limit_s=60.0 * launches)
    work = Measurement([Candidate("null", artifact, RunConfig("null"))], options)
    environment = machine.environment()
    work.run()
    # Not getrusage: its peak outlives exec, and may be that of the shell's or the test's process before.
    about = {"harness_peak_bytes": memory(os.getpid()).peak_rss_bytes, **asdict(options)}
    Record("study", environment, work.subjects(), about, rounds=work.rounds(), created=machine.utc_now()).save(out)


def report(record: Record) -> str:
    """Median and 99th percentile over launches, and memory."""
    rounds, peak = record.rounds["null"], record.options["harness_peak_bytes"]
    return "\n".join(
        [
            f"{record.environment['cpu']}, {len(rounds.all_ns())} calls in {len(set(rounds.launches))} launches",
            f"median: {over_launches(rounds, 50)} (target: at most {TARGET_NS} ns)",
            f"99th percentile: {over_launches(rounds, 99)}",
            f"the harness's own peak: {peak / 1e6:.0f} MB (target: below {TARGET_BYTES / 1e6:.0f} MB)",
        ]
    )


def over_launches(rounds: Rounds, percentile: float) -> str:
    """A percentile of each launch's calls: the median over launches, with its interval."""
    found = median_interval(np.array([np.percentile(ns, percentile) for ns in rounds.calls_by_launch().values()]))
    return f"{found.value:.0f} ns a call, {100 * found.confidence:.0f} % interval {found.low:.0f}–{found.high:.0f}"


def main() -> None:
    """Measure, or report a record."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+", type=Path)
    words.add_argument("--report", action="store_true")
    words.add_argument("--launches", type=int, default=10)
    asked = words.parse_args()
    if not asked.report:
        artifact = Artifact.load(asked.paths.pop(0))
        measure(artifact, asked.launches, asked.paths[0])
    print(report(load_record(asked.paths[0])))  # noqa: T201


if __name__ == "__main__":
    main()
