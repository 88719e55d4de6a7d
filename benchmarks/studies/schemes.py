"""Which int8 is right on which CPU: the files of two quantizers in each scheme, scored on the whole confirm split.

    python benchmarks/studies/schemes.py FP32_ARTIFACT DATA RECORD.json [--work out/schemes]

All files are made from the same calibration photos and answer on OpenVINO with its f32 hint; each int8 file answers a
second time without VNNI, where this CPU has it. Files and answers are kept in the work folder: an interrupted run goes
on. `tiffin show RECORD.json` prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from tiffin import machine
from tiffin.artifact import Artifact, Producer, RunConfig
from tiffin.artifact.store import is_artifact, save
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.cli.render import say
from tiffin.data import balanced, find_dataset
from tiffin.data.overlap import prove_disjoint
from tiffin.data.prepared import PreparedPhotos, prepare_photos
from tiffin.errors import TiffinError
from tiffin.export.graph.canonical import PROLOGUE
from tiffin.optimize.candidates import without_vnni
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records import Record, Subject
from tiffin.runtime import backends

PER_CLASS = 3
FILES = {
    "NNCF full range": PtqOptions("cpu-vnni", "nncf", compensate=False),
    "NNCF 7 bits": PtqOptions("cpu", "nncf", compensate=False),
    "NNCF 7 bits, full bias correction": PtqOptions("cpu", "nncf", bias_correction="full", compensate=False),
    "NNCF 7 bits, compensated": PtqOptions("cpu", "nncf"),
    "ORT u8s8": PtqOptions("cpu-vnni", "ort", compensate=False),
    "ORT u8s8 reduce_range": PtqOptions("cpu", "ort", compensate=False),
    "ORT u8s8 reduce_range, compensated": PtqOptions("cpu", "ort"),
    "ORT u8u8": PtqOptions("cpu-u8", "ort", compensate=False),
    "ORT u8u8, compensated": PtqOptions("cpu-u8", "ort"),
    "ORT s8s8, float biases": PtqOptions("tensorrt", "ort", compensate=False),
}
PEER = "NNCF default"
Make = Callable[[Artifact, CalibrationSet, Path], Artifact]


class Files:
    """The int8 files of one fp32 artifact, each made once."""

    def __init__(self, source: Artifact, calibration: CalibrationSet, folder: Path) -> None:
        self._source, self._calibration, self._folder = source, calibration, folder

    def all(self) -> dict[str, Artifact]:
        """By name, the peer's own default first."""
        made = {PEER: self._once(PEER, {"nncf": "default"}, nncf_default)}
        for name, options in FILES.items():
            made[name] = self._once(name, options.applied().plain(), partial(_tiffins, options))
        return made

    def _photos(self) -> CalibrationSet:
        return dataclasses.replace(self._calibration, taken=0)

    def _once(self, name: str, about: dict[str, Any], make: Make) -> Artifact:
        made_by = machine.versions(("onnx", "onnxruntime", "nncf"))
        parts = [self._source.digest, about, self._calibration.digest(), made_by]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
        out = self._folder / key
        if is_artifact(out):
            return Artifact.load(out)
        say(f"making {name}")
        return make(self._source, self._photos(), out)


def _tiffins(options: PtqOptions, source: Artifact, calibration: CalibrationSet, out: Path) -> Artifact:
    return quantize_int8(source, options, calibration, out)


def nncf_default(source: Artifact, calibration: CalibrationSet, out: Path) -> Artifact:
    """What `nncf.quantize` writes when it is asked for nothing, save that the graph's preprocessing stays in float."""
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    graph = onnx.load(source.model_path)
    with contextlib.redirect_stdout(io.StringIO()):
        photos = nncf.Dataset(list(calibration.feeds(graph.graph.input[0].name)))
        ignored = nncf.IgnoredScope(names=list(PROLOGUE))
        model = nncf.quantize(graph, photos, subset_size=len(calibration), ignored_scope=ignored)
    producer = Producer("quantize", machine.versions(("nncf",)), {"quantizer": "nncf", "overflow_fix": "default"})
    manifest = dataclasses.replace(
        source.manifest,
        precision="int8",
        producer=producer,
        parent=source.digest,
        calibration=tuple(digest[:16] for digest in calibration.hashes),
    )
    return save(out, manifest, {"model.onnx": model.SerializeToString(deterministic=True)})


def candidates(source: Artifact, files: dict[str, Artifact]) -> list[Candidate]:
    """The float file first, then each int8 file, then those without VNNI."""
    run = RunConfig("openvino", execution_precision="fp32")
    rows = [Candidate("fp32", source, run)]
    if "bf16" in backends.probe("openvino").precisions:
        rows.append(Candidate("bf16 hint", source, dataclasses.replace(run, execution_precision="bf16")))
    int8 = [Candidate(name, artifact, run) for name, artifact in files.items()]
    return [*rows, *int8, *without_vnni(int8)]


def measure(rows: list[Candidate], photos: PreparedPhotos, cache: Path, about: dict[str, Any], out: Path) -> None:
    """Score all rows; one that fails is a row with its reason."""
    environment, subjects, answers = machine.environment(), list[Subject](), {}
    for row in rows:
        say(f"scoring {row.name}")
        try:
            found, applied = score(row, photos, cache)
            # The top of the logits is enough, in a tenth of the size.
            answers[row.name] = dataclasses.replace(found, logits=None)
        except TiffinError as error:
            subjects.append(dataclasses.replace(row, reason=error.what).subject())
        else:
            subjects.append(row.subject(applied=applied))
    options = {
        "calibration_per_class": PER_CLASS,
        "vnni": "each int8 file with and without it" if machine.has_vnni() else "this CPU has none: all without it",
    }
    Record("score", environment, tuple(subjects), options, about, predictions=answers,
           created=machine.utc_now()).save(out)  # fmt: skip


def main() -> None:
    """Make the files, score them, write the record."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("artifact", type=Path)
    words.add_argument("data", type=Path)
    words.add_argument("record", type=Path)
    words.add_argument("--work", type=Path, default=Path("out/schemes"))
    words.add_argument("--photos", type=int, help="score only the first so many, to try it out")
    asked = words.parse_args()
    source, dataset, cache = Artifact.load(asked.artifact), find_dataset(asked.data), asked.work / "cache"
    drawn, confirm = balanced(dataset.role("calibrate"), PER_CLASS, 0), dataset.role("confirm")[: asked.photos]
    prove_disjoint(drawn, confirm, ("calibrate", "confirm"), cache / "pixel-hashes.json")
    prepared, photos = (prepare_photos(part, source.preprocess, cache, dataset.kind) for part in (drawn, confirm))
    files = Files(source, CalibrationSet.of(prepared, dataset.name), asked.work / "artifacts").all()
    about = {"name": dataset.name, "kind": dataset.kind, "role": "confirm", "count": len(photos),
             "labels": dataset.labels}  # fmt: skip
    measure(candidates(source, files), photos, cache, about, asked.record)


if __name__ == "__main__":
    main()
