"""Photo file → label: `Classifier.stream` beside the usual script, and beside what overlapping could give at most.

    python benchmarks/studies/photo_to_label.py ARTIFACT PHOTOS RECORD.json [--launches 5] [--seconds 3]
    python benchmarks/studies/photo_to_label.py --table docs/photos.md RECORD.json

ARTIFACT is an ONNX one; PHOTOS a dataset's folder. Each launch is a process of its own, in turn. The usual script
reads a file with Pillow, resizes and crops, normalizes with numpy and calls the engine with the engine's own settings,
one photo after the other; its model is the artifact's without the nodes that do the same in the graph. The ceiling is
measured the same way: preparing alone and running alone, each on all cores; perfectly overlapped their times add up.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.studies.page import fill
from tiffin.data import find_dataset
from tiffin.records import Record
from tiffin.records.record import load_record
from tiffin.runtime import Classifier, Session, jpeg
from tiffin.runtime.items import Item
from tiffin.runtime.preprocess import prepare

ENGINES = ("onnxruntime", "openvino")
PREPARING = "preparing alone"
PHOTOS, WARM = 300, 24


def run_config(engine: str) -> RunConfig:
    """A lane for each core."""
    return RunConfig(engine, lanes=machine.usable_cores(), hint="throughput")


def without_prologue(artifact: Artifact, folder: Path) -> Path:
    """The artifact's model from the normalized float `(N, 3, H, W)` on."""
    import onnx
    import onnx.utils

    model = onnx.load(artifact.model_path)
    after = next(node.output[0] for node in model.graph.node if node.op_type == "Transpose")
    onnx.utils.extract_model(str(artifact.model_path), str(folder / "usual.onnx"), [after],
                             [artifact.manifest.outputs[0].name])  # fmt: skip
    return folder / "usual.onnx"


def usual_engine(engine: str, model: str) -> Callable[[np.ndarray], np.ndarray]:
    """A call of the engine as its documentation writes it."""
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda array: session.run(None, {name: array})[0]
    import openvino

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    return lambda array: compiled(array)[0]


def usual(engine: str, model: str, artifact: Artifact) -> Callable[[Iterator[Path]], Iterator[int]]:
    """The usual script."""
    host, call = artifact.manifest.preprocess, usual_engine(engine, model)
    assert host is not None
    filtered = Image.Resampling[host.interpolation.upper()]
    mean, std = np.array(host.mean, np.float32), np.array(host.std, np.float32)

    def one(path: Path) -> int:
        image = Image.open(path).convert("RGB")
        shorter = round(host.height / host.crop_fraction)
        scale = shorter / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), filtered)
        left, top = (image.width - host.width) // 2, (image.height - host.height) // 2
        image = image.crop((left, top, left + host.width, top + host.height))
        array = (np.asarray(image, np.float32) - mean) / std
        return int(call(np.ascontiguousarray(array.transpose(2, 0, 1)[None])).argmax())

    return lambda paths: map(one, paths)


def streamed(classifier: Classifier, paths: Iterator[Path]) -> Iterator[int]:
    """Ours."""
    for answer in classifier.stream((Item(path.name, path) for path in paths), top=1):
        if answer.error is not None:
            raise answer.error
        yield answer.guesses[0].index


def preparing(artifact: Artifact, paths: Iterator[Path]) -> Iterator[int]:
    """As many threads as cores prepare photos; each thread's share is drawn in turn."""
    host, lock = artifact.manifest.preprocess, threading.Lock()
    assert host is not None
    done, last = deque[int](), threading.Semaphore(0)

    def work() -> None:
        while True:
            with lock:
                path = next(paths, None)
            if path is None:
                return
            prepare(path, host)
            done.append(0)
            last.release()

    for _ in range(machine.usable_cores()):
        threading.Thread(target=work, daemon=True).start()
    while True:
        last.acquire()
        yield done.popleft()


def running(session: Session, paths: Iterator[Path]) -> Iterator[int]:
    """One prepared photo, again and again, two runs a lane in flight."""
    spec = session.artifact.manifest.inputs[0]
    host = session.artifact.manifest.preprocess
    assert host is not None
    feeds = {spec.name: prepare(next(paths), host)[None]}
    waiting: deque[Any] = deque()
    for _ in paths:
        waiting.append(session.submit(feeds))
        if len(waiting) > 2 * session.requested.lanes:
            waiting.popleft().result()
            yield 0


def contender(name: str, artifact: Artifact, model: str, stack: ExitStack) -> Callable[[Iterator[Path]], Iterator[int]]:
    """By its name: "usual openvino", "stream openvino", "running alone openvino", or `PREPARING`."""
    if name == PREPARING:
        return functools.partial(preparing, artifact)
    kind, engine = name.rsplit(" ", 1)
    if kind == "usual":
        return usual(engine, model, artifact)
    session = stack.enter_context(Session(artifact, run_config(engine)))
    return functools.partial(streamed, Classifier(session)) if kind == "stream" else functools.partial(running, session)


def one(name: str, artifact: Artifact, model: str, photos: Path, seconds: float) -> dict[str, Any]:
    """Photos a second and processor time a photo, after warming up; the labels of the photos in order."""
    paths = [photo.path for photo in find_dataset(photos).role("confirm")][:PHOTOS]
    with ExitStack() as stack:
        answers = contender(name, artifact, model, stack)(itertools.cycle(paths))
        stack.callback(getattr(answers, "close", lambda: None))  # a stream ends before its session
        labels = list(itertools.islice(answers, WARM))
        start, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            labels.append(next(answers))
        took_s, cpu_s, count = time.perf_counter() - start, time.process_time() - cpu, len(labels) - WARM
    return {"images_per_s": count / took_s, "cpu_s": cpu_s / count, "labels": labels[: len(paths)]}


def measure(path: str, photos: Path, launches: int, seconds: float, out: Path) -> None:
    """In turns, changing who goes first."""
    artifact, environment = Artifact.load(path), machine.environment()
    kinds = ("usual", "stream", "running alone")
    names = [PREPARING, *(f"{kind} {engine}" for engine in ENGINES for kind in kinds)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        model = without_prologue(artifact, Path(folder))
        for launch in range(launches):
            for name in names if launch % 2 else names[::-1]:
                words = [sys.executable, __file__, path, photos, model, "--one", name, "--seconds", str(seconds)]
                said = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
                found[name].append(json.loads(said.splitlines()[-1]))
    about = {
        "launches": launches,
        "seconds": seconds,
        "simplejpeg": jpeg.decoder() is not None,
        "images_per_s": {name: [launch["images_per_s"] for launch in told] for name, told in found.items()},
        "cpu_s": {name: [launch["cpu_s"] for launch in told] for name, told in found.items()},
        "answers": {engine: _agreement(found, engine) for engine in ENGINES},
    }
    subjects = tuple(Candidate(engine, artifact, run_config(engine)).subject() for engine in ENGINES)
    Record("study", environment, subjects, about, created=machine.utc_now()).save(out)


def _agreement(found: dict[str, list[dict[str, Any]]], engine: str) -> tuple[int, int]:
    """Photos that both answered, and those of them with the same label."""
    pairs = [
        (theirs, ours)
        for usual, stream in zip(found[f"usual {engine}"], found[f"stream {engine}"], strict=True)
        for theirs, ours in zip(usual["labels"], stream["labels"], strict=False)
    ]
    return len(pairs), sum(theirs == ours for theirs, ours in pairs)


def table(record: Record) -> str:
    """Medians over launches; ratios launch by launch."""
    rates = {name: np.array(found) for name, found in record.options["images_per_s"].items()}
    lines = ["| engine | usual script, img/s | `stream`, img/s | × (least–greatest) | ceiling, img/s | of the ceiling "
             "| same label |", "| --- | --: | --: | --: | --: | --: | --: |"]  # fmt: skip
    for engine in ENGINES:
        usual, ours = rates[f"usual {engine}"], rates[f"stream {engine}"]
        ceiling = 1 / (1 / rates[PREPARING] + 1 / rates[f"running alone {engine}"])
        low, middle, high = np.quantile(ours / usual, (0, 0.5, 1))
        both, same = record.options["answers"][engine]
        lines.append(
            f"| {engine} | {np.median(usual):.0f} | {np.median(ours):.0f} | {middle:.2f} ({low:.2f}–{high:.2f}) "
            f"| {np.median(ceiling):.0f} | {np.median(ours / ceiling):.0%} | {same} of {both} |"
        )
    about, asked = record.environment, record.options
    simplejpeg = "with" if asked["simplejpeg"] else "without"
    took = f"{asked['launches']} launches of {asked['seconds']:g} s each, in turn"
    prepared = f"Preparing alone: {np.median(rates[PREPARING]):.0f} img/s"
    cpu, cores, precision = about["cpu"], about["cores"], record.subjects[0].precision
    lines += ["", f"{cpu}, {cores} cores, {precision}, {simplejpeg} simplejpeg; {took}. {prepared}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+")
    words.add_argument("--launches", type=int, default=5)
    words.add_argument("--seconds", type=float, default=3.0)
    words.add_argument("--one", help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    paths = asked.paths
    if asked.one:
        found = one(asked.one, Artifact.load(paths[0]), paths[2], Path(paths[1]), asked.seconds)
        print(json.dumps(found))  # noqa: T201
        return
    if asked.table:
        fill(Path(paths[0]), "photo-to-label", table(load_record(Path(paths[1]))))
        return
    measure(paths[0], Path(paths[1]), asked.launches, asked.seconds, Path(paths[2]))
    print(table(load_record(Path(paths[2]))))  # noqa: T201


if __name__ == "__main__":
    main()
