"""Does the harness find what is there, and nothing else? Runs whose truth is known: A against itself, and delayed.

    python benchmarks/studies/believe.py ARTIFACT RECORD.json --runs 60 [--burner] [--cpu 0]
    python benchmarks/studies/believe.py --report RECORD.json

Each run is a comparison as `tiffin bench` makes it, of at most 60 s: A, A again, A with each call prolonged by 5 % of
its own duration, and by 2 % or 10 % in turn. The record keeps all rounds; launch `run * 1000 + k` is launch k of a run.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.rounds import Measurement
from tiffin.benchmarks.workers.place import Place
from tiffin.records import Record, Rounds, Subject
from tiffin.records.ratios import launch_ratios, ratio_over_launches, trimmed_p
from tiffin.records.record import load_record
from tiffin.records.speed import Comparison, Speed, compare_speeds, verdict

RUN = 1000
DELAYS = {"A": 0.0, "A again": 0.0, "2 % slower": 0.02, "5 % slower": 0.05, "10 % slower": 0.10}
RESAMPLED, SHORT = 2000, 6


def candidates(artifact: Artifact, backend: str, cpu: int | None, run: int) -> list[Candidate]:
    """Those of one run; 2 % and 10 % take turns."""
    left_out = "10 % slower" if run % 2 else "2 % slower"
    cpus = None if cpu is None else (cpu,)
    config = RunConfig(backend, threads=None if cpu is None else 1)
    return [
        Candidate(name, artifact, config, Place(name, cpus=cpus, delay=delay))
        for name, delay in DELAYS.items()
        if name != left_out
    ]


def measure(artifact: Artifact, backend: str, cpu: int | None, runs: int, options: RoundOptions, out: Path) -> None:
    """Run after run, written after each: an interruption leaves what is complete."""
    environment = machine.environment()
    about: dict[str, Any] = {"ended": [], "cpu": cpu, **asdict(options)}
    found: dict[str, list[Rounds]] = {name: [] for name in DELAYS}
    subjects: dict[str, Subject] = {}
    for run in range(runs):
        work = Measurement(candidates(artifact, backend, cpu, run), replace(options, seed=run))
        work.run()
        for subject in work.subjects():
            subjects[subject.name] = subject
        for name, part in work.rounds().items():
            found[name].append(replace(part, launches=tuple(run * RUN + k for k in part.launches)))
        about["ended"].append({name: part.ended for name, part in work.rounds().items()})
        rows = tuple(subjects[name] for name in DELAYS if name in subjects)
        rounds = {name: joined(parts) for name, parts in found.items() if parts}
        Record("study", environment, rows, about, rounds=rounds, complete=run + 1 == runs,
               created=machine.utc_now()).save(out)  # fmt: skip
        said = ", ".join(
            f"{name} {row.ratio.value:.3f} {row.speed.value}" for name, row in compare(rounds, run).items()
        )
        print(f"run {run + 1}/{runs}: {said}", flush=True)  # noqa: T201


def joined(parts: list[Rounds]) -> Rounds:
    """Rounds of several runs as one."""
    names = sorted({name for part in parts for name in part.sensors})
    return replace(
        parts[0],
        blocks=tuple(block for part in parts for block in part.blocks),
        launches=tuple(launch for part in parts for launch in part.launches),
        order=tuple(position for part in parts for position in part.order),
        warmup=np.concatenate([part.warmup for part in parts]),
        sensors={name: np.concatenate([part.sensor(name) for part in parts]) for name in names},
    )


def of_run(rounds: Rounds, run: int) -> Rounds:
    """One run's part."""
    kept = [index for index, launch in enumerate(rounds.launches) if launch // RUN == run]
    return replace(
        rounds,
        blocks=tuple(rounds.blocks[index] for index in kept),
        launches=tuple(rounds.launches[index] % RUN for index in kept),
        order=tuple(rounds.order[index] for index in kept),
        sensors={},
    )


def runs_of(record: Record, name: str) -> list[int]:
    """Runs in which a candidate took part."""
    return sorted({launch // RUN for launch in record.rounds[name].launches})


def compare(rounds: dict[str, Rounds], run: int, alone: str = "") -> dict[str, Comparison]:
    """One run's comparisons with A, as `tiffin bench` makes them; of one candidate as if it had been the only one."""
    parts = {name: of_run(found, run) for name, found in rounds.items() if not alone or name in ("A", alone)}
    kept = {name: part for name, part in parts.items() if part.blocks}
    return compare_speeds({name: (part, kept["A"]) for name, part in kept.items() if name != "A"})


def report(record: Record) -> str:
    """What the runs found, and A/A once more over short runs resampled from all launches."""
    runs = runs_of(record, "A")
    lines = [
        f"{len(runs)} runs, {record.options['regime']}, core {record.options['cpu']}, {record.environment['cpu']}",
        "candidate      truth  median  faster  slower  same  ambiguous  slower alone  95 % interval holds truth",
    ]
    for name, delay in list(DELAYS.items())[1:]:
        speeds = [found[name] for run in runs if name in (found := compare(dict(record.rounds), run))]
        counts = [sum(speed.speed is word for speed in speeds) for word in list(Speed)[:4]]
        alone = sum(
            compare(dict(record.rounds), run, name)[name].speed is Speed.SLOWER for run in runs_of(record, name)
        )
        held = sum(speed.ratio.low <= 1 + delay <= speed.ratio.high for speed in speeds)
        middle = float(np.median([speed.ratio.value for speed in speeds]))
        lines.append(
            f"{name:13}  {1 + delay:5.2f}  {middle:.4f}  {counts[0]:6}  {counts[1]:6}  {counts[2]:4}  {counts[3]:9}  "
            f"{alone:12}  {held} of {len(speeds)}"
        )
    return "\n".join([*lines, *resampled(record, runs)])


def resampled(record: Record, runs: list[int]) -> list[str]:
    """Short A/A runs of `SHORT` launches drawn from all; shown alike to fresh ones by Kolmogorov and Smirnov."""
    from scipy.stats import ks_2samp

    pairs = {run: launch_ratios(of_run(record.rounds["A again"], run), of_run(record.rounds["A"], run)) for run in runs}
    pool = np.concatenate(list(pairs.values()))
    fresh = [float(np.log(found[:SHORT]).mean()) for found in pairs.values() if len(found) >= SHORT]
    chance, drawn, false = np.random.default_rng(0), [], 0
    for _ in range(RESAMPLED):
        ratios = chance.choice(pool, SHORT, replace=False)
        drawn.append(float(np.log(ratios).mean()))
        found = verdict(ratio_over_launches(ratios), trimmed_p(np.log(ratios)))
        false += found.speed in (Speed.FASTER, Speed.SLOWER)
    alike = ks_2samp(fresh, drawn).pvalue if fresh else float("nan")
    return [
        f"A/A, {RESAMPLED} short runs of {SHORT} launches resampled from {len(pool)}: "
        f"{false} false verdicts ({false / RESAMPLED:.2%})",
        f"resampled against {len(fresh)} fresh short runs: Kolmogorov-Smirnov p = {alike:.2f}",
    ]


def main() -> None:
    """Measure, or report a record."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+", type=Path)
    words.add_argument("--report", action="store_true")
    words.add_argument("--runs", type=int, default=60)
    words.add_argument("--backend", default="onnxruntime")
    words.add_argument("--burner", action="store_true", help="beside a process that keeps the same core busy")
    words.add_argument("--cpu", type=int, help="the one core for workers and burner; else all, with their threads")
    asked = words.parse_args()
    if not asked.report:
        options = RoundOptions(regime="contended" if asked.burner else "back-to-back", time_limit_s=60)
        artifact, asked.paths = Artifact.load(asked.paths[0]), asked.paths[1:]
        measure(artifact, asked.backend, asked.cpu, asked.runs, options, asked.paths[0])
    print(report(load_record(asked.paths[0])))  # noqa: T201


if __name__ == "__main__":
    main()
