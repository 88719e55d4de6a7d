"""`tiffin serve` under concurrent clients, and what a request costs beside the same photo in process.

    python benchmarks/studies/serve.py ARTIFACT RECORD.json
    python benchmarks/studies/serve.py --table docs/serve.md RECORD.json

Closed loop: each client asks again as soon as it is answered. Photos go as JPEG to `/predict`, tensors as bytes to
`/v2/models/…/infer`. CPU seconds are the process's own, user and system; in process the same photos go one after
another through `Classifier.predict`, and the same tensors through `Session.run`, in a process of their own.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.studies.page import fill
from tiffin.data import find_dataset, sample
from tiffin.records import Record, Rounds
from tiffin.records.record import load_record
from tiffin.runtime import Classifier, Session
from tiffin.runtime.preprocess import prepare

NAME, PHOTOS, WARM_S = "m", 64, 3.0
LENGTH = "Inference-Header-Content-Length"
Body = tuple[str, bytes, dict[str, str]]


def bodies(artifact: Artifact, photos: list[Path], kind: str) -> list[Body]:
    """Path, body and headers of one request a photo."""
    if kind == "photo":
        return [(f"/predict?model={NAME}", path.read_bytes(), {}) for path in photos]
    host, spec, found = artifact.preprocess, artifact.manifest.inputs[0], []
    for path in photos:
        row = prepare(path, host)[None]
        about = {"name": spec.name, "shape": row.shape, "datatype": "UINT8"}
        head = json.dumps({"parameters": {"binary_data_output": True},
                           "inputs": [{**about, "parameters": {"binary_data_size": row.nbytes}}]}).encode()  # fmt: skip
        found.append((f"/v2/models/{NAME}/infer", head + row.tobytes(), {LENGTH: str(len(head))}))
    return found


def clients(port: int, asked: list[Body], count: int, seconds: float) -> tuple[list[int], dict[int, int]]:
    """Nanoseconds of each answered request, and answers by status."""
    taken: list[int] = []
    codes: dict[int, int] = {}
    lock, end = threading.Lock(), time.monotonic() + seconds

    def one(first: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        turn = first
        while time.monotonic() < end:
            path, body, headers = asked[turn % len(asked)]
            turn += 1
            start = time.perf_counter_ns()
            line.request("POST", path, body, headers)
            answer = line.getresponse()
            answer.read()
            spent = time.perf_counter_ns() - start
            with lock:
                codes[answer.status] = codes.get(answer.status, 0) + 1
                if answer.status == 200:
                    taken.append(spent)
            if answer.status == 503:
                time.sleep(float(answer.headers["Retry-After"]))
        line.close()

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, codes


def served(artifact: Artifact, asked: list[Body], count: int, seconds: float, backend: str) -> dict[str, Any]:
    """One server under load: times, statuses, CPU seconds and memory of its process."""
    command = [sys.executable, "-c", "from tiffin.cli.app import main; main()", "serve", f"{NAME}={artifact.folder}",
               "--backend", backend, "--port", "0"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    port, watched = int(server.stdout.readline().rpartition(":")[2]), psutil.Process(server.pid)
    try:
        clients(port, asked, count, WARM_S)
        memory, cpu, wall = [watched.memory_info().rss], sum(watched.cpu_times()[:2]), time.perf_counter()
        taken, codes = clients(port, asked, count, seconds / 2)
        memory.append(watched.memory_info().rss)
        more, again = clients(port, asked, count, seconds / 2)
        memory.append(watched.memory_info().rss)
        wall, cpu = time.perf_counter() - wall, sum(watched.cpu_times()[:2]) - cpu
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    total = {str(code): codes.get(code, 0) + again.get(code, 0) for code in sorted({*codes, *again})}
    return {"ns": taken + more, "codes": total, "cpu_s": cpu, "wall_s": wall, "rss_bytes": memory}


def in_process(path: str, kind: str, backend: str, seconds: float, photos: list[Path]) -> float:
    """CPU seconds a photo, photos one after another."""
    artifact = Artifact.load(path)
    with Session(artifact, RunConfig(backend)) as session:
        classifier = Classifier(session)
        name = artifact.manifest.inputs[0].name
        rows = [{name: prepare(photo, artifact.preprocess)[None]} for photo in photos]
        data = [photo.read_bytes() for photo in photos]
        calls: dict[str, Callable[[int], object]] = {
            "photo": lambda turn: classifier.predict(data[turn]), "tensor": lambda turn: session.run(rows[turn])
        }  # fmt: skip
        for turn in range(len(photos)):
            calls[kind](turn)
        count, start, end = 0, time.process_time(), time.monotonic() + seconds
        while time.monotonic() < end:
            calls[kind](count % len(photos))
            count += 1
        return (time.process_time() - start) / count


def measure(path: str, out: Path, backend: str, count: int, seconds: float) -> None:
    """Server and process in turns, for photos and tensors."""
    artifact, environment = Artifact.load(path), machine.environment()
    photos = [photo.path for photo in sample(find_dataset(None).role("confirm"), PHOTOS, 0)]
    rounds, results, subjects = {}, {}, []
    for kind in ("photo", "tensor"):
        alone = [_alone(path, kind, backend, photos)]
        found = served(artifact, bodies(artifact, photos, kind), count, seconds, backend)
        alone.append(_alone(path, kind, backend, photos))
        rounds[kind] = Rounds((np.array(found.pop("ns"), np.int64),), (0,), (0,))
        results[kind] = {**found, "in_process_cpu_s": alone}
        subjects.append(Candidate(kind, artifact, RunConfig(backend)).subject())
    about = {"clients": count, "seconds": seconds, "results": results}
    Record("study", environment, tuple(subjects), about, rounds=rounds, created=machine.utc_now()).save(out)


def _alone(path: str, kind: str, backend: str, photos: list[Path]) -> float:
    words = [sys.executable, __file__, "--alone", kind, "--backend", backend, path, os.pathsep.join(map(str, photos))]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def table(record: Record) -> str:
    """A row a kind of request."""
    lines = ["| request | answered/s | p50 ms | p99 ms | 503 | other errors | CPU ms | × in process | memory, MB |",
             "| --- | --: | --: | --: | --: | --: | --: | --: | --: |"]  # fmt: skip
    for kind, found in record.options["results"].items():
        ns, codes = record.rounds[kind].blocks[0], found["codes"]
        cpu_s, alone_s = found["cpu_s"] / len(ns), float(np.mean(found["in_process_cpu_s"]))
        p50, p99 = np.quantile(ns, (0.5, 0.99)) / 1e6
        others = sum(codes.values()) - codes.get("200", 0) - codes.get("503", 0)
        memory = " → ".join(f"{size / 1e6:.0f}" for size in found["rss_bytes"])
        lines.append(f"| {kind} | {len(ns) / found['wall_s']:.0f} | {p50:.1f} | {p99:.1f} | {codes.get('503', 0)} | "
                     f"{others} | {cpu_s * 1e3:.2f} | {cpu_s / alone_s:.2f} | {memory} |")  # fmt: skip
    about, run, asked = record.environment, record.subjects[0], record.options
    where = f"on the same {about['cores']} cores as the server ({about['cpu']})"
    what = f"{run.precision} on {run.requested['backend']}"
    when = "memory after the warm-up, in the middle and at the end"
    lines += ["", f"{asked['clients']} clients for {asked['seconds']:g} s {where}, {what}; {when}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2)
    words.add_argument("--backend", default="onnxruntime")
    words.add_argument("--clients", type=int, default=32)
    words.add_argument("--seconds", type=float, default=60.0)
    words.add_argument("--alone", help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.alone:
        photos = [Path(word) for word in asked.paths[1].split(os.pathsep)]
        print(in_process(asked.paths[0], asked.alone, asked.backend, 10.0, photos))  # noqa: T201
    elif asked.table:
        fill(Path(asked.paths[0]), "serve", table(load_record(Path(asked.paths[1]))))
    else:
        measure(asked.paths[0], Path(asked.paths[1]), asked.backend, asked.clients, asked.seconds)
        print(table(load_record(Path(asked.paths[1]))))  # noqa: T201


if __name__ == "__main__":
    main()
