"""Does the harness find what others find? The same model, threads and input, measured by the engines' own loops.

    python benchmarks/studies/peers.py ONNX_ARTIFACT RECORD.json [--launches 8] [--seconds 5] [--threads N]
    python benchmarks/studies/peers.py --report RECORD.json

OpenVINO's `benchmark_app` tells the median of its calls, so medians are compared. The loop of ONNX Runtime
(`onnxruntime.tools.onnxruntime_test`) tells the mean alone, so means are compared, ours from the same raw times. That
loop offers no threads and does not warm up: it is given a session with N threads that has been called before.

A launch starts each of the four programs once, one after the other: engines in seeded order, Tiffin and the peer taking
turns at going first. In the record a peer's block is one number, what it told of that launch in nanoseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.rounds import random_feeds
from tiffin.benchmarks.workers.client import WorkerClient
from tiffin.benchmarks.workers.place import NATIVE
from tiffin.records import Record, Rounds
from tiffin.records.ratios import ratio_over_launches
from tiffin.records.record import load_record

TARGET = 0.03
WARMUP_S = 0.5
WARMUP_CALLS = 10
PEERS = {"openvino": "benchmark_app", "onnxruntime": "onnxruntime_test"}
STATISTICS: dict[str, tuple[str, Callable[[np.ndarray], np.floating]]] = {
    "openvino": ("median", np.median),
    "onnxruntime": ("mean", np.mean),
}
SPECIFIC = "MODEL", "INPUT.npy", "FOLDER"  # paths of this machine, left out of the record


@dataclass
class Told:
    """What one program told: an array of nanoseconds a launch, and when each was measured."""

    blocks: list[np.ndarray] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    warmup: list[np.ndarray] = field(default_factory=list)

    def rounds(self) -> Rounds:
        """One block a launch."""
        warmup = np.concatenate(self.warmup) if self.warmup else np.zeros(0, np.int64)
        return Rounds(tuple(self.blocks), tuple(range(len(self.blocks))), tuple(self.order), warmup)


class Study:
    """One artifact, measured by all four programs over and over.

    Args:
        seconds: of timed calls a program and launch.
    """

    def __init__(self, artifact: Artifact, seconds: float, threads: int) -> None:
        self._artifact, self._seconds, self._threads = artifact, seconds, threads
        self._told = {(engine, who): Told() for engine in PEERS for who in ("Tiffin", PEERS[engine])}
        self._environment = machine.environment()
        self._position = 0
        self._chance = random.Random(0)
        self.applied: dict[str, dict[str, object]] = {}
        # The loop of ONNX Runtime asks for a number of calls.
        self.calls = max(20, round(seconds * 1e9 / float(np.median(self._ours("onnxruntime", 1.0)[0]))))

    def launch(self, number: int) -> None:
        """All four once."""
        for engine in self._chance.sample(sorted(PEERS), len(PEERS)):
            for who in ("Tiffin", PEERS[engine])[:: -1 if number % 2 else 1]:
                told = self._told[engine, who]
                if who == "Tiffin":
                    block, warmup = self._ours(engine, self._seconds)
                    told.warmup.append(warmup)
                else:
                    block = np.array([round(self._theirs(engine))], np.int64)
                told.blocks.append(block)
                told.order.append(self._position)
                self._position += 1

    def _ours(self, engine: str, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds of a fresh worker's calls, and of those that warmed it up."""
        feeds = random_feeds(self._artifact, 1, 0)
        with WorkerClient(self._artifact, RunConfig(engine, threads=self._threads), NATIVE, feeds) as worker:
            warmup = worker.time(WARMUP_S, 1).ns
            self.applied[engine] = worker.applied
            return worker.time(seconds, 3).ns, warmup

    def _theirs(self, engine: str) -> float:
        """Nanoseconds a call, as the peer tells them."""
        with tempfile.TemporaryDirectory() as folder:
            photos = Path(folder, "input.npy")
            np.save(photos, next(iter(random_feeds(self._artifact, 1, 0).values())))
            if engine == "onnxruntime":
                printed = run([sys.executable, __file__, *self.flags(engine, self._artifact.model_path, photos)])
                return 1e6 * float(found(r"avg latency: ([\d.]+) ms", printed))
            app = Path(sys.executable).with_name("benchmark_app")
            run([str(app), *self.flags(engine, self._artifact.model_path, photos, folder)])
            report = json.loads(Path(folder, "benchmark_report.json").read_text())
            return 1e6 * float(report["execution_results"]["latency (ms)"])

    def flags(self, engine: str, model: object, photos: object, folder: object = "") -> list[str]:
        """Of the peer's command. For `benchmark_app` a batch of 1 is given to the model, which stays dynamic."""
        if engine == "onnxruntime":
            return ["--ort-loop", *map(str, (model, photos, self.calls, self._threads))]
        spec = self._artifact.manifest.inputs[0]
        shape = ",".join(str(size or 1) for size in spec.shape)
        told = {
            "-m": model, "-i": f"{spec.name}:{photos}", "-data_shape": f"{spec.name}[{shape}]", "-d": "CPU",
            "-api": "sync", "-hint": "none", "-nstreams": 1, "-nthreads": self._threads, "-infer_precision": "f32",
            "-t": max(1, round(self._seconds)), "-report_type": "no_counters", "-report_folder": folder,
        }  # fmt: skip
        return [*(str(word) for pair in told.items() for word in pair), "-inference_only", "-json_stats"]

    def record(self, complete: bool) -> Record:
        """All so far."""
        rounds = {f"{engine} {who}": told.rounds() for (engine, who), told in self._told.items()}
        rows = [
            Candidate(f"{engine} {who}", self._artifact, RunConfig(engine, threads=self._threads)).subject(
                applied=self.applied.get(engine, {}) if who == "Tiffin" else {}
            )
            for engine, who in self._told
        ]
        about = {
            engine: {
                "statistic": STATISTICS[engine][0],
                "program": PEERS[engine],
                "flags": self.flags(engine, *SPECIFIC),
            }
            for engine in PEERS
        }
        return Record(
            "study", self._environment, tuple(rows), {"seconds": self._seconds, "threads": self._threads, **about},
            rounds=rounds, complete=complete, created=machine.utc_now(),
        )  # fmt: skip


def run(command: list[str]) -> str:
    """What a program printed; the study ends with its last words if it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")
    return ended.stdout


def found(pattern: str, text: str) -> str:
    """The one group of a pattern that must be there."""
    match = re.search(pattern, text)
    return match[1] if match else sys.exit(f"no {pattern!r} in:\n{text}")


def ort_loop(model: Path, photos: Path, calls: int, threads: int) -> None:
    """ONNX Runtime's own loop, unchanged, over a session that is made as its code makes it but with these threads."""
    import onnxruntime as ort
    from onnxruntime.tools import onnxruntime_test as peer

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads

    def warm(path: str, sess_options: object, providers: list[str]) -> ort.InferenceSession:
        session = ort.InferenceSession(path, options, providers=providers)
        for _ in range(WARMUP_CALLS):
            session.run([], feeds)
        return session

    feeds = {ort.InferenceSession(model, options).get_inputs()[0].name: np.load(photos)}
    peer.onnxrt = SimpleNamespace(InferenceSession=warm, get_available_providers=ort.get_available_providers)
    peer.run_model(str(model), calls, feeds=feeds)


def report(record: Record) -> str:
    """Tiffin / peer for each engine, with its interval over launches."""
    about = record.options
    head = f"{record.environment['cpu']}, {about['threads']} thread(s), {about['seconds']:g} s a program and launch"
    return "\n".join([head, *(compared(record, engine) for engine in PEERS)])


def compared(record: Record, engine: str) -> str:
    """One engine's line, in the statistic that its peer tells."""
    word, statistic = STATISTICS[engine]
    ours, theirs = (
        np.array([float(statistic(block)) for block in record.rounds[f"{engine} {who}"].blocks]) / 1e6
        for who in ("Tiffin", PEERS[engine])
    )
    ratio = ratio_over_launches(ours / theirs)
    reach = max(1 - ratio.low, ratio.high - 1)
    sure = "" if reach <= TARGET else f", but the interval reaches {100 * reach:.1f} %"
    within = (
        f"within {100 * TARGET:.0f} %{sure}" if abs(ratio.value - 1) <= TARGET else f"not within {100 * TARGET:.0f} %"
    )
    return (
        f"{engine}, {word}s: Tiffin {np.median(ours):.3f} ms, {PEERS[engine]} {np.median(theirs):.3f} ms; ratio "
        f"{ratio.value:.4f}, 95 % interval {ratio.low:.4f}–{ratio.high:.4f}, {ratio.n} launches; {within}"
    )


def main() -> None:
    """Measure, or report a record."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="*", type=Path)
    words.add_argument("--report", action="store_true")
    words.add_argument("--launches", type=int, default=8)
    words.add_argument("--seconds", type=float, default=5)
    words.add_argument("--threads", type=int, default=machine.usable_cores())
    words.add_argument("--ort-loop", nargs=4, help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.ort_loop:
        model, photos, calls, threads = asked.ort_loop
        ort_loop(Path(model), Path(photos), int(calls), int(threads))
        return
    if not asked.report:
        study = Study(Artifact.load(asked.paths.pop(0)), asked.seconds, asked.threads)
        for launch in range(asked.launches):
            study.launch(launch)
            study.record(launch + 1 == asked.launches).save(asked.paths[0])
            print(f"launch {launch + 1}/{asked.launches}", file=sys.stderr, flush=True)  # noqa: T201
    print(report(load_record(asked.paths[0])))  # noqa: T201


if __name__ == "__main__":
    main()
