"""One cell of the parity matrix: build the artifact, answer photos, time it beside fp32 of the same backend.

What `tiffin` does by default: `quantize`'s int8 for CPUs and for TensorRT, OpenVINO's precision as it computes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.rounds import measure
from tiffin.benchmarks.simulation import simulated
from tiffin.data.prepared import PreparedPhotos
from tiffin.errors import TiffinError
from tiffin.optimize.candidates import plan, without_vnni
from tiffin.optimize.pipeline import Built
from tiffin.optimize.stages import Make, Stages
from tiffin.records import Predictions, Record, Rounds, Subject
from tiffin.train import Checkpoint

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
BACKENDS = ("torch", "onnxruntime", "openvino", "tensorrt_rtx")
PARITY_PHOTOS = 16
THREADS = 1


@dataclass(frozen=True)
class Cell:
    """One architecture in one precision on one backend."""

    architecture: str
    precision: str
    backend: str

    @property
    def name(self) -> str:
        """In the record."""
        return f"{self.architecture} {self.precision} {self.backend}"

    @property
    def beside(self) -> str:
        """Name of fp32 on the same backend, timed in turn with it."""
        return f"{self.name}, fp32 beside it"

    @property
    def without_vnni(self) -> str:
        """Name of the same artifact's answers with the CPU's VNNI switched off."""
        return f"{self.name}, without VNNI"


def cells(architecture: str) -> list[Cell]:
    """All of one architecture; torch fp32, which the others are compared with, first."""
    return [Cell(architecture, precision, backend) for precision in PRECISIONS for backend in BACKENDS]


def refused(cell: Cell) -> str:
    """Why nothing needs to be built to know that a cell stays empty, or an empty string."""
    return "the torch backend computes in fp32 only" if cell.backend == "torch" and cell.precision != "fp32" else ""


@dataclass(frozen=True)
class Materials:
    """What one architecture's cells are made of.

    Args:
        confirm: photos to answer; calibration: photos for int8, none of them among those.
        folder: for artifacts and answers.
        timing: None times nothing.
    """

    checkpoint: Checkpoint
    confirm: PreparedPhotos
    calibration: PreparedPhotos
    folder: Path
    timing: RoundOptions | None


def measure_cell(cell: Cell, given: Materials) -> Record:
    """A record of this cell alone: its answers, its times, and what stays in the way of more."""
    artifacts = _Artifacts(given)
    found = _Found(cell, given)
    row = artifacts.row(cell)
    if cell.backend == "tensorrt_rtx" and row.artifact is not None:
        row = found.simulation(row)
    found.answer(row, artifacts.reference())
    if not row.reason and given.timing and cell.precision != "fp32" and cell.backend != "tensorrt_rtx":
        found.time(row, artifacts.row(dataclasses.replace(cell, precision="fp32")), given.timing)
    for other in without_vnni([row]):
        found.answer(dataclasses.replace(other, name=cell.without_vnni), artifacts.reference())
    return found.record()


class _Artifacts:
    """Everything built from one checkpoint, found again by the next cell's process."""

    def __init__(self, given: Materials) -> None:
        self._given = given
        self._stages = Stages(given.folder / "artifacts", lambda line: None)

    def reference(self) -> Candidate:
        """torch fp32."""
        return self._planned("torch", "torch-fp32", "fp32")

    def row(self, cell: Cell) -> Candidate:
        """The cell's candidate; without an artifact where none could be built, with a reason where none can run."""
        if cell.backend == "torch":
            found = self.reference()
        elif cell.backend == "tensorrt_rtx":
            found = self._engine(cell.precision)
        else:
            stage = {"fp32": "fp32", "int8": "int8-cpu-ort"}.get(cell.precision, cell.precision)
            if cell.backend == "openvino":  # it computes an fp32 graph in the precision that it is told
                stage = "openvino-int8-cpu-ort" if cell.precision == "int8" else "openvino-fp32"
            words = "int8 cpu ort" if cell.precision == "int8" else cell.precision
            found = self._planned(cell.backend, stage, words)
        return dataclasses.replace(found, name=cell.name)

    def _planned(self, backend: str, stage: str, words: str) -> Candidate:
        """As the demo would run it."""
        self._build(stage)
        artifact, reason = self._stages.artifacts.get(stage), self._stages.reasons.get(stage, "")
        built = Built({stage: artifact} if artifact else {}, {stage: reason} if not artifact else {})
        return next(row for row in plan(built, THREADS) if row.name == f"{backend} {words}")

    def _engine(self, precision: str) -> Candidate:
        source = {"fp32": "fp32", "int8": "int8-tensorrt-ort"}.get(precision, precision)
        stage = f"tensorrt_rtx-{source}"
        self._build(stage)
        return Candidate(stage, self._stages.artifacts.get(stage), reason=self._stages.reasons.get(stage, ""))

    def _build(self, stage: str) -> None:
        """One stage and those that it is made of."""
        if stage in self._stages.artifacts or stage in self._stages.reasons:
            return
        made, source, options = self._how(stage)
        if not source:
            self._stages.first(stage, self._given.checkpoint.sha256, options, made)
            return
        self._build(source)
        self._stages.then(stage, source, options, made)

    def _how(self, stage: str) -> tuple[Make, str, dict[str, Any]]:
        """How a stage is made, the stage that it is made of, and what else it depends on."""
        from tiffin.export.to_onnx import to_onnx
        from tiffin.export.to_openvino import to_openvino
        from tiffin.export.to_pt2 import to_pt2
        from tiffin.export.to_tensorrt import to_tensorrt
        from tiffin.quantize.quantize import quantize_half

        given, held = self._given, self._stages.artifacts
        parity = np.asarray(given.confirm.array()[:PARITY_PHOTOS])
        if stage == "torch-fp32":
            return lambda out: to_pt2(given.checkpoint, out), "", {}
        if stage == "fp32":
            return lambda out: to_onnx(given.checkpoint, out, parity)[0], "", {}
        if stage in ("fp16", "bf16"):
            return lambda out: quantize_half(held["fp32"], stage, out), "fp32", {"precision": stage}
        if stage.startswith("int8-"):
            scheme = stage.split("-")[1]
            about = {"scheme": scheme, "photos": given.calibration.digest()}
            return lambda out: self._quantized(scheme, out), "fp32", about
        backend, source = stage.split("-", 1)
        if backend == "openvino":
            return lambda out: to_openvino(held[source], out=out), source, {}
        return lambda out: to_tensorrt(held[source], out, backend), source, {}

    def _quantized(self, scheme: str, out: Path) -> Artifact:
        from tiffin.quantize.calibration import CalibrationSet
        from tiffin.quantize.options import PtqOptions
        from tiffin.quantize.quantize import quantize_int8

        photos = CalibrationSet.of(self._given.calibration, "calibrate")
        return quantize_int8(self._stages.artifacts["fp32"], PtqOptions(scheme), photos, out)


class _Found:
    """What is known of one cell so far."""

    def __init__(self, cell: Cell, given: Materials) -> None:
        self._cell, self._given = cell, given
        self._environment = machine.environment()
        self._subjects: dict[str, Subject] = {}
        self._answers: dict[str, Predictions] = {}
        self._rounds: dict[str, Rounds] = {}
        self._about: dict[str, object] = {"size": given.checkpoint.preprocess.height}

    def simulation(self, engine: Candidate) -> Candidate:
        """An engine was built; in its place its graph answers, since no GPU is here."""
        assert engine.artifact is not None
        self._about["engine_bytes"] = engine.artifact.size_bytes
        return simulated(self._cell.name, engine.artifact, THREADS)

    def answer(self, row: Candidate, reference: Candidate) -> None:
        """Score, and compare logits with the reference's; a failure is a reason."""
        self._subjects[row.name] = row.subject()
        if row.reason or row.artifact is None:
            return
        cache = self._given.folder / "logits"
        try:
            wanted = self._wanted(reference, cache)
            found, applied = score(row, self._given.confirm, cache)
        except TiffinError as error:
            self._subjects[row.name] = dataclasses.replace(row, reason=error.what).subject()
            return
        self._subjects[row.name] = row.subject(applied=applied)
        self._answers[row.name] = dataclasses.replace(found, logits=None)
        assert found.logits is not None
        gap = np.abs(found.logits - wanted).max() / np.abs(wanted).max()
        self._about[f"difference of {row.name}"] = float(gap)

    def _wanted(self, reference: Candidate, cache: Path) -> np.ndarray:
        """The reference's logits, kept beside the artifacts: `score` would start torch to find out that it has them."""
        kept = self._given.folder / f"reference-{self._given.confirm.digest()[:12]}.npy"
        if not kept.exists():
            logits = score(reference, self._given.confirm, cache)[0].logits
            assert logits is not None
            np.save(kept, logits)
        return np.load(kept)

    def time(self, row: Candidate, fp32: Candidate, options: RoundOptions) -> None:
        """In turn with fp32 of the same backend."""
        subjects, self._rounds = measure([dataclasses.replace(fp32, name=self._cell.beside), row], options)
        for subject in subjects:
            kept = self._subjects.get(subject.name)
            reason = kept.reason if kept else subject.reason
            self._subjects[subject.name] = dataclasses.replace(subject, reason=reason)
            if subject.reason:
                self._about[f"not timed: {subject.name}"] = subject.reason

    def record(self) -> Record:
        """All of it."""
        rounds = {name: each for name, each in self._rounds.items() if name in self._subjects}
        return Record(
            "study", self._environment, tuple(self._subjects.values()), {self._cell.name: self._about},
            rounds=rounds, predictions=self._answers, created=machine.utc_now(),
        )  # fmt: skip
