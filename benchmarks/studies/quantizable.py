"""Does the forecast hold? What `tiffin doctor --for int8` foretells of each layer, against what is then measured.

    python benchmarks/studies/quantizable.py DATA RECORD.json FP32_ARTIFACT... [--work out/quantizable] [--photos 16]
    python benchmarks/studies/quantizable.py --table docs/debug.md RECORD.json

Each float artifact is foretold on photos of the select role; then quantized in each scheme without compensation, whose
corrected biases are no rounding, and each layer measured as `tiffin sensitivity` does, on others of that role. It is
foretold on those, too: what is wrong then is the forecast's, the rest is that photos differ.
Artifacts are kept in the work folder, and rows that RECORD.json has of an artifact or of others are taken over, of
another forecast than FORECAST what was measured: an interrupted run goes on, and `make quantizable` adds the networks
that `make drops` or `make matrix` trained since.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy.stats import spearmanr

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.files import replace_files
from tiffin.artifact.scheme import Scheme, scheme_named
from tiffin.artifact.store import is_artifact
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.options import PER_CLASS
from tiffin.cli.render import Table, say
from tiffin.data import Dataset, Photo, balanced, find_dataset, sample
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadInput
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.forecast import forecast
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.quantize.sensitivity import divergence, sensitivity
from tiffin.records.closeness import closeness
from tiffin.records.foretold import Foretold
from tiffin.runtime import load

SCHEMES = ("cpu", "cpu-vnni", "tensorrt")
# Which made a row; 1: rounding errors as independent noise, 2: ranges of the photos looked at alone, 3: calibration
# photos looked at, 4: not on the measured photos, too.
FORECAST = 5


@dataclass(frozen=True)
class Measured:
    """What int8 costs an artifact: signal to noise of each layer and of the answers, dB, and their divergence, nats."""

    layers: Mapping[str, float]
    db: float
    kl: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Measured:
        """As a record's row has it."""
        layers = {each["node"]: each["measured_db"] for each in row["layers"]}
        return cls(layers, row["whole"]["measured_db"], row["whole"]["measured_kl"])


class Study:
    """One dataset's photos, prepared for one artifact after the other."""

    def __init__(self, dataset: Dataset, work: Path, photos: int) -> None:
        self._dataset, self._work, self._photos = dataset, work, photos

    def rows(self, artifact: Artifact, known: Mapping[str, Measured]) -> Iterator[dict[str, Any]]:
        """A row for each scheme; one of `known` is not measured again."""
        calibration = self._calibration(artifact)
        looked, measured = (self._prepared(artifact, drawn) for drawn in self._select())
        say(f"{artifact.folder.name}: foretelling on {len(looked)} photos, and on those measured")
        model = onnx.load(artifact.model_path)
        foretold, same = (forecast(model, shown, calibration.photos) for shown in (looked, measured))
        for scheme in SCHEMES:
            found = known.get(scheme) or self._measured(artifact, scheme, calibration, measured)
            yield _row(artifact, foretold, same, scheme_named(scheme), found)

    def _select(self) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
        """Photos to foretell on, and as many others to measure on."""
        pool = self._dataset.role("select")
        measured = sample(pool, self._photos, 0)
        both = sample(pool, 2 * self._photos, 0)
        return tuple(each for each in both if each not in measured), measured

    def _prepared(self, artifact: Artifact, drawn: tuple[Photo, ...]) -> np.ndarray:
        return np.asarray(prepare_photos(drawn, artifact.preprocess, self._work / "cache").array())

    def _calibration(self, artifact: Artifact) -> CalibrationSet:
        drawn = balanced(self._dataset.role("calibrate"), PER_CLASS, 0)
        prepared = prepare_photos(drawn, artifact.preprocess, self._work / "cache")
        return CalibrationSet.of(prepared, self._dataset.name)

    def _measured(self, artifact: Artifact, word: str, calibration: CalibrationSet, shown: np.ndarray) -> Measured:
        made = self._quantized(artifact, word, calibration)
        say(f"{artifact.folder.name}: measuring {word}")
        layers = {row.node: row.sqnr_db for row in sensitivity(artifact, made, shown)}
        return Measured(layers, _whole_db(artifact, made, shown), divergence(artifact, made, shown))

    def _quantized(self, artifact: Artifact, word: str, calibration: CalibrationSet) -> Artifact:
        out = self._work / f"{artifact.folder.name}-{word}"
        if is_artifact(out):
            return Artifact.load(out)
        return quantize_int8(artifact, PtqOptions(word, "ort", compensate=False), calibration, out)


def _row(
    artifact: Artifact, foretold: Foretold, same: Foretold, scheme: Scheme, found: Measured
) -> dict[str, Any]:  # fmt: skip
    """`same`: foretold on the measured photos."""
    layers = [
        {"node": each.node, "op": each.op, "foretold_db": each.sqnr_db(scheme), "same_db": other.sqnr_db(scheme),
         "measured_db": found.layers[each.node]}
        for each, other in zip(foretold.layers, same.layers, strict=True) if each.node in found.layers
    ]  # fmt: skip
    whole = {"foretold_db": foretold.sqnr_db(scheme), "same_db": same.sqnr_db(scheme), "measured_db": found.db,
             "foretold_kl": foretold.kl(scheme), "same_kl": same.kl(scheme), "measured_kl": found.kl}  # fmt: skip
    return {"artifact": artifact.folder.name, "digest": artifact.digest, "scheme": scheme.name, "layers": layers,
            "whole": whole, "forecast": FORECAST}  # fmt: skip


def _whole_db(one: Artifact, other: Artifact, shown: np.ndarray) -> float:
    """Of the logits, both graphs as ONNX defines them."""
    found = []
    for artifact in (one, other):
        with load(artifact, RunConfig("onnxruntime", graph_level="none"), allow_uncertified=True) as session:
            found.append(session.run({artifact.manifest.inputs[0].name: shown})["logits"])
    return closeness(*found).sqnr_db


def page(record: dict[str, Any]) -> str:
    """The table and its notes, in Markdown."""
    head = ("artifact", "scheme", "layers", "rank correlation", "mean error dB (same photos)", "worst three found",
            "answers dB (same photos)", "measured", "KL mnat (same photos)", "measured")  # fmt: skip
    rows = []
    for row in record["rows"]:
        if row.get("forecast") != FORECAST:
            continue
        told, same, found = (np.array([each[f"{name}_db"] for each in row["layers"]])
                             for name in ("foretold", "same", "measured"))  # fmt: skip
        hit = len(set(np.argsort(told)[:6]) & set(np.argsort(found)[:3]))
        whole = row["whole"]
        rows.append([
            row["artifact"], row["scheme"], str(len(told)), f"{spearmanr(told, found).statistic:.2f}",
            f"{np.abs(told - found).mean():.1f} ({np.abs(same - found).mean():.2f})", f"{hit} of 3",
            f"{whole['foretold_db']:.1f} ({whole['same_db']:.1f})", f"{whole['measured_db']:.1f}",
            f"{whole['foretold_kl'] * 1e3:.2f} ({whole['same_kl'] * 1e3:.2f})", f"{whole['measured_kl'] * 1e3:.2f}",
        ])  # fmt: skip
    said = (
        f"foretold on {record['photos']} photos of the select role, with the ranges of what calibrates; measured "
        "on as many others of it; same photos: foretold on those; rounding alone: no compensation",
        "worst three found: how many of the three layers that were measured to lose most are among the six foretold to",
    )
    return Table(head, rows, left=2).markdown() + "\n\n" + "\n".join(f"- {line}" for line in said)


def _known(record: Path, photos: int) -> dict[str, list[dict[str, Any]]]:
    """Digest of an artifact → its rows in an earlier record.

    Raises:
        BadInput: the record is of other photos.
    """
    if not record.is_file():
        return {}
    earlier = json.loads(record.read_text())
    if earlier["photos"] != photos:
        raise BadInput(f"{record} has rows of {earlier['photos']} photos", f"{photos}, as this run measures",
                       "name another RECORD.json")  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {}
    for row in earlier["rows"]:
        found.setdefault(row["digest"], []).append(row)
    return found


def _is_done(rows: list[dict[str, Any]]) -> bool:
    return len(rows) == len(SCHEMES) and all(row.get("forecast") == FORECAST for row in rows)


def main() -> None:
    """Foretell, quantize, measure; or write the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path, help="the dataset's folder; with --table the page")
    words.add_argument("record", type=Path)
    words.add_argument("artifacts", type=Path, nargs="*")
    words.add_argument("--table", action="store_true")
    words.add_argument("--work", type=Path, default=Path("out/quantizable"))
    words.add_argument("--photos", type=int, default=16)
    asked = words.parse_args()
    if asked.table:
        fill(asked.data, "quantizable", page(json.loads(asked.record.read_text())))
        return
    study = Study(find_dataset(asked.data), asked.work, asked.photos)
    known = _known(asked.record, asked.photos)
    artifacts = [Artifact.load(path) for path in asked.artifacts]
    names = {artifact.folder.name: artifact.digest for artifact in artifacts}
    known = {digest: rows for digest, rows in known.items() if names.get(rows[0]["artifact"], digest) == digest}
    record = {"kind": "quantizable", "version": 1, "created": machine.utc_now(),
              "environment": machine.environment(), "photos": asked.photos}  # fmt: skip
    for artifact in artifacts:
        before = known.get(artifact.digest, [])
        if _is_done(before):
            continue
        measured = {row["scheme"]: Measured.of(row) for row in before}
        for row in study.rows(artifact, measured):
            others = [each for each in known.get(artifact.digest, []) if each["scheme"] != row["scheme"]]
            known[artifact.digest] = [*others, row]
            record["rows"] = [each for rows in known.values() for each in rows]
            replace_files({asked.record: (json.dumps(record, indent=1) + "\n").encode()})
    say(page(json.loads(asked.record.read_text())))


if __name__ == "__main__":
    main()
