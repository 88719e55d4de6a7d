"""From the start of a process to its first label: a script over the raw engine, our Python API and `tiffin predict`.

    python benchmarks/studies/coldstart.py ARTIFACT RECORD.json [--launches 12] [--photo PHOTO]
    python benchmarks/studies/coldstart.py --table docs/footprint.md RECORD.json

Same artifact, photo and threads; each engine without and with its cache, which two launches before all others fill.
The programs are started in turn, in seeded order; the clock runs in the parent from before a process is started until
its answer has come through a pipe. Labels and scores must agree, or there is no record. What is imported has been
compiled to `.pyc` files, as after any first use, and files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

import tiffin
from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.render import Table, say
from tiffin.records import Record
from tiffin.records.latency import median_interval
from tiffin.records.ratios import ratio_over_launches
from tiffin.records.record import load_record

ENGINES = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",)}  # of a format
PROGRAMS = ("script", "API", "CLI")
UNCOUNTED = 2  # launches of each program, before all that count
Program = TypeVar("Program")
SAME = 1e-4  # of a score: an engine's sums may differ in their last bits where it fixes the shapes
PHOTO = Path(tiffin.__file__).parent / "data" / "synthesized" / "calibrate-000.jpg"

# What a user writes who knows the model: no check, no orientation, no colour mode but RGB.
BEGIN = """
import json, os, sys
import numpy as np
from PIL import Image
model, photo, about, threads, cache = sys.argv[1:]
about = json.load(open(about))
"""
END = """
image = Image.open(photo).convert("RGB")
height, width, crop = about["height"], about["width"], about["crop_fraction"]
scale = max(round(height / crop) / image.height, round(width / crop) / image.width)
size = round(image.width * scale), round(image.height * scale)
image = image.resize(size, Image.Resampling[about["interpolation"].upper()])
left, top = (image.width - width) // 2, (image.height - height) // 2
pixels = np.asarray(image.crop((left, top, left + width, top + height)))[None]
logits = infer(pixels)[0].astype(np.float64) / about["temperature"]
powers = np.exp(logits - logits.max())
best = int(logits.argmax())
print(json.dumps([about["labels"][best], powers[best] / powers.sum()]), flush=True)
"""
ENGINE = {
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
saved = os.path.join(cache, "optimized.onnx") if cache else ""
if cache and os.path.exists(saved):
    model, saved = saved, ""
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.optimized_model_filepath = saved
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
def infer(pixels):
    return session.run(None, {"PHOTOS": pixels})[0]
""",
    "openvino": """
import openvino
config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": int(threads)}
if cache:
    config["CACHE_DIR"] = cache
compiled = openvino.Core().compile_model(model, "CPU", config)
def infer(pixels):
    return compiled({"PHOTOS": pixels})[0]
""",
}
API = """
import json, sys
import tiffin
from tiffin.artifact import RunConfig
from tiffin.runtime import Classifier
artifact, photo, backend, threads, cache = sys.argv[1:]
session = tiffin.load(artifact, RunConfig(backend, threads=int(threads), cache=cache or None))
best = Classifier(session).predict(photo, 1)[0]
print(json.dumps([best.label, best.score]), flush=True)
"""


@dataclass(frozen=True)
class Start:
    """One program with its words; `cache` tells whether it has a folder of its own for that."""

    engine: str
    program: str
    cache: bool

    @property
    def name(self) -> str:
        """In the record."""
        return f"{self.engine} {self.program}{', cache' if self.cache else ''}"

    def run(self, threads: int) -> RunConfig:
        """For the record, without this machine's folder."""
        return RunConfig(self.engine, threads=threads, cache="temporary" if self.cache else None)

    def words(self, artifact: Artifact, photo: Path, threads: int, folder: Path) -> list[str]:
        """The command, whose files are written into `folder`."""
        cache = folder / self.name
        kept = str(cache) if self.cache else ""
        if self.cache:
            cache.mkdir()
        if self.program == "CLI":
            command = [str(Path(sys.executable).with_name("tiffin")), "predict", str(artifact.folder), str(photo)]
            command += ["--backend", self.engine, "--threads", str(threads), "--top", "1", "--jsonl"]
            return [*command, "--cache", kept] if self.cache else command
        file = folder / f"{self.name}.py"
        if self.program == "API":
            file.write_text(API)
            return [sys.executable, str(file), str(artifact.folder), str(photo), self.engine, str(threads), kept]
        file.write_text(BEGIN + ENGINE[self.engine].replace("PHOTOS", artifact.manifest.inputs[0].name) + END)
        about = folder / "about.json"
        about.write_text(json.dumps(facts(artifact)))
        return [sys.executable, str(file), str(artifact.model_path), str(photo), str(about), str(threads), kept]


def facts(artifact: Artifact) -> dict[str, object]:
    """What a script must know of a model, from the manifest."""
    manifest = artifact.manifest
    host = manifest.preprocess
    if host is None:
        sys.exit(f"{artifact.folder}: no classifier")
    names = ("height", "width", "crop_fraction", "interpolation")
    return {"labels": manifest.labels, "temperature": manifest.temperature} | {n: getattr(host, n) for n in names}


def environment_of(folder: Path) -> dict[str, str]:
    """Compiled modules are kept in a folder of ours, whatever this shell says of them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}


@dataclass(frozen=True)
class Launch:
    """One process: seconds to its answer, label and score; processor seconds and peak resident bytes where it tells."""

    seconds: float
    answer: tuple[str, float]
    cpu_s: float | None = None
    peak_bytes: int | None = None


def launch(words: Sequence[str], env: Mapping[str, str]) -> Launch:
    """Start a program: its first line is the answer, its second what it used."""
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter_ns()
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, env=env) as started:
            assert started.stdout is not None
            line = started.stdout.readline()
            took_s = (time.perf_counter_ns() - began) / 1e9
            used = started.stdout.read()
        errors.seek(0)
        if started.returncode or not line:
            sys.exit(f"{words}: {errors.read()}")
    found = json.loads(line)
    label, score = found if isinstance(found, list) else (found["top"][0]["label"], found["top"][0]["score"])
    return Launch(took_s, (label, score), *(json.loads(used) if used else ()))


def in_turn(
    words: Mapping[Program, Sequence[str]], env: Mapping[str, str], launches: int, uncounted: int
) -> dict[Program, list[Launch]]:
    """Start every program so often, in seeded order; the first `uncounted` of each fill caches."""
    chance, found = random.Random(0), {program: list[Launch]() for program in words}
    for number in range(-uncounted, launches):
        say(f"launch {number + 1} of {launches}" if number >= 0 else "filling the caches")
        for program in chance.sample(list(words), len(words)):
            found[program].append(launch(words[program], env))
    return found


def measure(artifact: Artifact, photo: Path, launches: int, out: Path) -> None:
    """Every program so many times, after two launches each that fill caches and are not counted."""
    threads, environment = machine.usable_cores(), machine.environment()
    starts = [
        Start(engine, program, cache)
        for engine in ENGINES[artifact.manifest.format] for cache in (False, True) for program in PROGRAMS
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        env = environment_of(Path(folder))
        words = {start: start.words(artifact, photo, threads, Path(folder)) for start in starts}
        found = in_turn(words, env, launches, UNCOUNTED)
    answers: dict[str, set[tuple[str, float]]] = {start.engine: set() for start in starts}
    for start, launched in found.items():
        answers[start.engine].update(each.answer for each in launched)
    require_same(answers)
    subjects = tuple(
        Candidate(start.name, artifact, start.run(threads)).subject(
            cold_start_s=tuple(each.seconds for each in launched[UNCOUNTED:])
        )
        for start, launched in found.items()
    )
    about = {"launches": launches, "threads": threads, "photo": photo.name,
             "answers": {engine: sorted(found) for engine, found in answers.items()}}  # fmt: skip
    Record("study", environment, subjects, about, created=machine.utc_now()).save(out)


def require_same(answers: Mapping[str, set[tuple[str, float]]]) -> None:
    """An engine's programs gave one label, and scores that are one score."""
    for engine, found in answers.items():
        scores = [score for _, score in found]
        if len({label for label, _ in found}) > 1 or max(scores) - min(scores) > SAME:
            sys.exit(f"{engine}: the programs answer differently: {sorted(found)}")


def table(record: Record) -> str:
    """A row an engine without or with its cache: the script's median, and the others' beside their ratio to it."""
    engines = dict.fromkeys(subject.requested["backend"] for subject in record.subjects)
    rows = []
    for engine in engines:
        for suffix in ("", ", cache"):
            script, *ours = (np.array(record.subject(f"{engine} {p}{suffix}").cold_start_s) for p in PROGRAMS)
            middle = f"{median_interval(script).value * 1e3:.0f}"
            rows.append([engine + suffix, middle, *(_beside(found, script) for found in ours)])
    head = ["", "script, ms", *(f"{program}, ms (÷ script)" for program in PROGRAMS[1:])]
    about, asked = record.environment, record.options
    said = (
        f"{about['cpu']}, {asked['threads']} threads, {record.subjects[0].precision} {record.subjects[0].format}, "
        f"{asked['launches']} launches each; medians, ratios by launch with their 95 % interval"
    )
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in (*engines, "numpy", "pillow"))
    return f"{Table(head, rows).markdown()}\n\n- {said}\n- Python {about['python']}, {versions}"


def _beside(found: np.ndarray, script: np.ndarray) -> str:
    ratio = ratio_over_launches(found / script)
    return f"{median_interval(found).value * 1e3:.0f} ({ratio.value:.2f}, {ratio.low:.2f}–{ratio.high:.2f})"


def main() -> None:
    """Measure, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument("--launches", type=int, default=12)
    words.add_argument("--photo", type=Path, default=PHOTO)
    words.add_argument("--table", action="store_true", help="PAGE RECORD.json: write the page's table")
    asked = words.parse_args()
    first, second = asked.paths
    if asked.table:
        fill(first, "coldstart", table(load_record(second)))
        return
    measure(Artifact.load(first), asked.photo.resolve(), asked.launches, second)
    print(table(load_record(second)))  # noqa: T201


if __name__ == "__main__":
    main()
