"""Our session's lanes beside OpenVINO's own `benchmark_app -hint throughput`: same artifact, launches in turn.

    python benchmarks/studies/throughput.py ARTIFACT RECORD.json [--launches 8] [--seconds 5]
    python benchmarks/studies/throughput.py --table docs/runtime.md RECORD.json

Each launch is a process of its own. benchmark_app computes in float32, as the session does, once with the shape fixed
to one photo (`-shape`) and once with the artifact's own free batch (`-data_shape`). Lanes are as many as usable cores.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.rounds import random_feeds
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.workers.timing import in_flight
from tiffin.records import Record
from tiffin.records.record import load_record
from tiffin.runtime import Session

OURS = "session"
APP = {"benchmark_app, fixed shape": "-shape", "benchmark_app, free batch": "-data_shape"}


def run_config() -> RunConfig:
    """A lane for each core."""
    return RunConfig("openvino", lanes=machine.usable_cores(), hint="throughput")


def ours(artifact: Artifact, seconds: float) -> float:
    """Photos a second with two requests a lane in flight, after one second of warming up."""
    feeds = random_feeds(artifact, 1, 0)
    with Session(artifact, run_config()) as session:
        _in_flight(session, feeds, 1.0)
        return _in_flight(session, feeds, seconds)


def _in_flight(session: Session, feeds: dict[str, np.ndarray], seconds: float) -> float:
    start = time.perf_counter()
    answered = len(in_flight(session, feeds, seconds, 0))
    return answered / (time.perf_counter() - start)


def theirs(artifact: Artifact, option: str, seconds: float) -> float:
    """What benchmark_app prints."""
    spec = artifact.manifest.inputs[0]
    shape = f"[{','.join(str(size) for size in (1, *spec.shape[1:]))}]"
    program = str(Path(sys.executable).with_name("benchmark_app"))
    told = ["-m", str(artifact.model_path), "-hint", "throughput", "-infer_precision", "f32", option, shape]
    words = [program, *told, "-t", str(round(seconds))]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Throughput:\s+([\d.]+) FPS", said)
    if not found:
        sys.exit(f"benchmark_app said nothing of its throughput:\n{said}")
    return float(found[1])


def measure(path: str, launches: int, seconds: float, out: Path) -> None:
    """In turns, changing who goes first."""
    artifact, environment = Artifact.load(path), machine.environment()
    rates: dict[str, list[float]] = {name: [] for name in (OURS, *APP)}
    for launch in range(launches):
        names = list(rates) if launch % 2 else list(rates)[::-1]
        for name in names:
            if name in APP:
                rates[name].append(theirs(artifact, APP[name], seconds))
            else:
                told = [sys.executable, __file__, "--one", path, "--seconds", str(seconds)]
                rates[name].append(float(subprocess.run(told, capture_output=True, text=True, check=True).stdout))
    with Session(artifact, run_config()) as session:
        applied = session.applied
    subject = Candidate(OURS, artifact, run_config()).subject(applied=applied.plain())
    about = {"launches": launches, "seconds": seconds, "images_per_s": rates}
    Record("study", environment, (subject,), about, created=machine.utc_now()).save(out)


def table(record: Record) -> str:
    """Median photos a second, and the ratio of ours to theirs, launch by launch."""
    rates = {name: np.array(found) for name, found in record.options["images_per_s"].items()}
    lines = ["| | img/s | session ÷ it (least–greatest launch) |", "| --- | --: | --: |"]
    for name, found in rates.items():
        low, middle, high = np.quantile(rates[OURS] / found, (0, 0.5, 1))
        ratio = "" if name == OURS else f"{middle:.3f} ({low:.3f}–{high:.3f})"
        lines.append(f"| {name} | {np.median(found):.0f} | {ratio} |")
    about, asked = record.environment, record.options
    took = f"{asked['launches']} launches of {asked['seconds']:g} s each, in turn"
    lines += ["", f"{about['cpu']}, {about['cores']} cores, {record.subjects[0].precision}, {took}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+")
    words.add_argument("--launches", type=int, default=8)
    words.add_argument("--seconds", type=float, default=5.0)
    words.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.one:
        print(ours(Artifact.load(asked.paths[0]), asked.seconds))  # noqa: T201
        return
    if asked.table:
        fill(Path(asked.paths[0]), "throughput", table(load_record(Path(asked.paths[1]))))
        return
    measure(asked.paths[0], asked.launches, asked.seconds, Path(asked.paths[1]))
    print(table(load_record(Path(asked.paths[1]))))  # noqa: T201


if __name__ == "__main__":
    main()
