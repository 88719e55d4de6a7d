"""What each technique of post-training quantization is worth: divergence from fp32, flips, seconds of work.

    python benchmarks/studies/techniques.py FP32_ARTIFACT DATA RECORD.json [--draws 5] [--only NAME ...]
    python benchmarks/studies/techniques.py --report RECORD.json

Every technique quantizes the same checkpoint from the same seeded draws of calibration photos, in the portable scheme;
all are scored on OpenVINO on the select role, never on confirm. Between draws nothing changes but the photos: the
spread over draws is what a reseed alone does. Files and answers are kept in the work folder, so an interrupted run
goes on; the record is written after each technique.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.claims import read_claim, write_claim
from tiffin.artifact.store import is_artifact
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.cli.render import say
from tiffin.data import balanced, find_dataset
from tiffin.data.dataset import Dataset
from tiffin.data.overlap import prove_disjoint
from tiffin.data.prepared import PreparedPhotos, prepare_photos
from tiffin.errors import TiffinError
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records import Predictions, Record, Subject
from tiffin.records.divergence import divergence
from tiffin.records.paired import difference, flips
from tiffin.records.record import load_record

REFERENCE = "fp32"
TECHNIQUES = {
    "nncf": PtqOptions(quantizer="nncf", compensate=False),
    "nncf, no bias correction": PtqOptions(quantizer="nncf", bias_correction="none", compensate=False),
    "nncf, full bias correction": PtqOptions(quantizer="nncf", bias_correction="full", compensate=False),
    "nncf, empirical bias correction": PtqOptions(quantizer="nncf", bias_correction="empirical", compensate=False),
    "nncf, compensate": PtqOptions(quantizer="nncf"),
    "nncf, min-max, compensate": PtqOptions(quantizer="nncf", ranges="minmax"),
    "nncf, min-max": PtqOptions(quantizer="nncf", ranges="minmax", compensate=False),
    "nncf, percentile": PtqOptions(quantizer="nncf", ranges="percentile", compensate=False),
    "nncf, mse": PtqOptions(quantizer="nncf", ranges="mse", compensate=False),
    "nncf, mixed": PtqOptions(quantizer="nncf", preset="mixed", compensate=False),
    "nncf, smooth": PtqOptions(quantizer="nncf", smooth=True, compensate=False),
    "ort": PtqOptions(quantizer="ort", compensate=False),
    "ort, empirical bias correction": PtqOptions(quantizer="ort", bias_correction="empirical", compensate=False),
    "ort, compensate": PtqOptions(quantizer="ort"),
    "ort, moving average": PtqOptions(quantizer="ort", ranges="moving-average", compensate=False),
    "ort, percentile": PtqOptions(quantizer="ort", ranges="percentile", compensate=False),
    "ort, entropy": PtqOptions(quantizer="ort", ranges="entropy", compensate=False),
}


@dataclass
class Found:
    """Of one technique, by draw: seconds that quantizing took, mean logit divergence in nats; or why it failed."""

    options: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    divergence: list[float] = field(default_factory=list)
    reason: str = ""


class Study:
    """Quantizes and scores; whatever is in the work folder is not done again."""

    def __init__(self, source: Artifact, dataset: Dataset, work: Path, per_class: int) -> None:
        self._source, self._dataset, self._work, self._per_class = source, dataset, work, per_class
        self._host, self._cache = source.preprocess, work / "cache"
        self._select = prepare_photos(dataset.role("select"), self._host, self._cache, dataset.kind)
        self.subjects: list[Subject] = []
        self.answers: dict[str, Predictions] = {}
        self.found: dict[str, Found] = {}
        self._reference = self._answer(REFERENCE, source)

    def add(self, name: str, options: PtqOptions, draws: int) -> None:
        """One technique over its draws."""
        found = self.found[name] = Found(options.applied().plain())
        for draw in range(draws):
            try:
                artifact, seconds = self._quantize(name, options, draw)
                answers = self._answer(subject_name(name, draw), artifact)
            except TiffinError as error:
                found.reason = error.what
                return
            found.seconds.append(round(seconds, 1))
            found.divergence.append(divergence(answers, self._reference).value)

    def record(self, environment: dict[str, Any], draws: int, complete: bool) -> Record:
        """All that is there."""
        about = {
            "calibration_per_class": self._per_class,
            "draws": draws,
            "techniques": {name: asdict(found) for name, found in self.found.items()},
        }
        data = {"name": self._dataset.name, "kind": self._dataset.kind, "role": "select", "count": len(self._select)}
        return Record("study", environment, tuple(self.subjects), about, data, predictions=self.answers,
                      created=machine.utc_now(), complete=complete)  # fmt: skip

    def _photos(self, draw: int) -> PreparedPhotos:
        drawn = balanced(self._dataset.role("calibrate"), self._per_class, draw)
        prove_disjoint(drawn, self._dataset.role("select"), ("calibrate", "select"), self._cache / "pixel-hashes.json")
        return prepare_photos(drawn, self._host, self._cache, self._dataset.kind)

    def _quantize(self, name: str, options: PtqOptions, draw: int) -> tuple[Artifact, float]:
        parts = [
            self._source.digest,
            options.applied().plain(),
            draw,
            self._per_class,
            machine.versions(("nncf", "onnxruntime")),
        ]
        out = self._work / "artifacts" / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
        if is_artifact(out) and (claim := read_claim(Artifact.load(out), "seconds")):
            return Artifact.load(out), float(claim["seconds"])
        say(f"quantizing: {name}, draw {draw}")
        photos = CalibrationSet.of(self._photos(draw), self._dataset.name)
        start = time.perf_counter()
        artifact = quantize_int8(self._source, options, photos, out)
        seconds = time.perf_counter() - start
        write_claim(artifact, "seconds", {"seconds": seconds})
        return artifact, seconds

    def _answer(self, name: str, artifact: Artifact) -> Predictions:
        """All that was answered; the record keeps the top of the logits."""
        row = Candidate(name, artifact, RunConfig("openvino", execution_precision="fp32"))
        answers, applied = score(row, self._select, self._cache)
        self.subjects.append(row.subject(applied=applied))
        self.answers[name] = replace(answers, logits=None)
        return answers


def subject_name(technique: str, draw: int) -> str:
    """Of one draw in the record."""
    return f"{technique} #{draw}"


def report(record: Record) -> str:
    """One line a technique; a range is over the draws."""
    about, reference = record.options, record.predictions[REFERENCE]
    lines = [
        f"{record.data['count']} photos of {record.data['name']}'s select role, {about['draws']} draws of "
        f"{about['calibration_per_class']} calibration photos a class, {record.environment['cpu']}",
        f"{'technique':32}  divergence, 10⁻³ nats    flips of first draw, 95 %   flips, all draws  top-1 points  s",
    ]
    for name, found in about["techniques"].items():
        drawn = [record.predictions[subject_name(name, draw)] for draw in range(len(found["seconds"]))]
        lines.append(f"{name:32}  {_line(found, drawn, reference) if drawn else found['reason']}")
    return "\n".join(lines)


def _line(found: dict[str, Any], drawn: list[Predictions], reference: Predictions) -> str:
    nats = 1000 * np.array(found["divergence"])
    flipped = [flips(answers, reference) for answers in drawn]
    rate, counts = flipped[0].rate, [each.count for each in flipped]
    points = np.mean([100 * difference(answers, reference).value for answers in drawn])
    return (
        f"{nats.mean():7.2f} ({nats.min():.2f}–{nats.max():.2f})".ljust(24)
        + f"{flipped[0].count:4} ({100 * rate.low:.1f}–{100 * rate.high:.1f} %)".ljust(28)
        + f"{np.mean(counts):6.1f} ({min(counts)}–{max(counts)})".ljust(18)
        + f"{points:+11.2f} {np.median(found['seconds']):5.0f}"
    )


def main() -> None:
    """Measure, or report a record."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+", type=Path)
    words.add_argument("--report", action="store_true")
    words.add_argument("--draws", type=int, default=5)
    words.add_argument("--per-class", type=int, default=3)
    words.add_argument("--only", nargs="+", choices=TECHNIQUES, default=list(TECHNIQUES))
    words.add_argument("--work", type=Path, default=Path("out/techniques"))
    asked = words.parse_args()
    if not asked.report:
        artifact, data = asked.paths.pop(0), asked.paths.pop(0)
        environment = machine.environment()
        study = Study(Artifact.load(artifact), find_dataset(data), asked.work, asked.per_class)
        for name in asked.only:
            study.add(name, TECHNIQUES[name], asked.draws)
            study.record(environment, asked.draws, name == asked.only[-1]).save(asked.paths[0])
    print(report(load_record(asked.paths[0])))  # noqa: T201


if __name__ == "__main__":
    main()
