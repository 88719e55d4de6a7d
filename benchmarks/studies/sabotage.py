"""Are broken artifacts caught, and is the cause named? The default checkpoint, broken in seven ways that happen.

    python benchmarks/studies/sabotage.py DATA RECORD.json [--work out/sabotage]
    python benchmarks/studies/sabotage.py --table docs/explain.md RECORD.json

Each artifact answers the whole confirm split on OpenVINO, and is judged as the gate judges: paired non-inferiority of
top-1 at one point, and a share of flips. Then `tiffin explain`'s own code looks at it on a sample. The record keeps
what all of them answered; files and answers are kept in the work folder, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tiffin import machine
from tiffin.artifact import Artifact, Producer, RunConfig
from tiffin.artifact.store import is_artifact, save
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.certify import isa_target
from tiffin.benchmarks.explain import measure
from tiffin.benchmarks.explain.normalization import KNOWN
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.explain import cause_lines
from tiffin.cli.render import Table, say
from tiffin.data import Dataset, balanced, find_dataset, sample
from tiffin.data.overlap import prove_disjoint
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadInput
from tiffin.export.to_onnx import to_onnx
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records import Predictions, Record, Subject, load_record
from tiffin.records.causes import causes
from tiffin.records.classification import top_k
from tiffin.records.distributions import binomial_cdf
from tiffin.records.loss_budget import loss_budget, worst_stage
from tiffin.records.paired import flips, non_inferior
from tiffin.runtime.preprocess import with_golden
from tiffin.train import load_checkpoint

REFERENCE, LIMITED = "fp32 as it should be", "avx2"
MARGIN, MOST_FLIPS, ALPHA = 0.01, 0.03, 0.05
PER_CLASS, NOISE = 3, 243
BIG = 304  # of photos of 348: the graph makes 224 of it
RUN = RunConfig("openvino", execution_precision="fp32")


@dataclass(frozen=True)
class Broken:
    """One way to break an artifact, and the kind of cause that must be named.

    Args:
        isa: the class of CPU that it is broken on; empty for all.
        tries: photos that hypotheses are tried on.
    """

    name: str
    kind: str
    make: Callable[[Maker, Path], Artifact]
    isa: str = ""
    tries: int = 200


class Maker:
    """What all broken artifacts are made from, made once."""

    def __init__(self, dataset: Dataset, work: Path) -> None:
        self.checkpoint, self.work = load_checkpoint(), work
        drawn = balanced(dataset.role("calibrate"), PER_CLASS, 0)
        prove_disjoint(drawn, dataset.role("confirm"), ("calibrate", "confirm"), work / "pixel-hashes.json")
        prepared = prepare_photos(drawn, self.checkpoint.preprocess, work / "cache")
        self.calibration = CalibrationSet.of(prepared, dataset.name)
        self.fp32 = once(work / "artifacts" / "fp32", lambda out: self.exported(self.checkpoint, out))

    def exported(self, checkpoint: Any, out: Path) -> Artifact:
        """An fp32 ONNX artifact, its parity proven on calibration photos."""
        return to_onnx(checkpoint, out, self.calibration.photos[:64])[0]

    def edited(self, out: Path, change: Callable[[onnx.ModelProto], None], **fields: Any) -> Artifact:
        """The fp32 graph changed by a hand that says nothing of it: its manifest names the checkpoint as parent."""
        model = onnx.load(self.fp32.model_path)
        change(model)
        onnx.checker.check_model(model)
        manifest = replace(self.fp32.manifest, producer=Producer("sabotage", {}, {"way": out.name}), **fields)
        return save(out, manifest, {"model.onnx": model.SerializeToString(deterministic=True)})


def once(out: Path, make: Callable[[Path], Artifact]) -> Artifact:
    """Made, or found made."""
    return Artifact.load(out) if is_artifact(out) else make(out)


def noise(maker: Maker, out: Path) -> Artifact:
    """int8 whose ranges come from uniform noise, as a peer's that has no data."""
    pixels = np.random.default_rng(0).integers(0, 256, (NOISE, *maker.calibration.photos.shape[1:]), np.uint8)
    options = PtqOptions("cpu", "ort", compensate=False)
    return quantize_int8(maker.fp32, options, CalibrationSet(pixels, "noise"), out)


def wrong_mean(maker: Maker, out: Path) -> Artifact:
    """ImageNet's mean and std, which this checkpoint was not trained with."""
    mean, std = KNOWN["ImageNet's mean and std"]
    host = replace(maker.checkpoint.preprocess, mean=mean, std=std)
    return maker.exported(replace(maker.checkpoint, preprocess=host), out)


def bgr(maker: Maker, out: Path) -> Artifact:
    """Its first layer expects blue first."""

    def change(model: onnx.ModelProto) -> None:
        _exchange(model, next(node for node in model.graph.node if node.op_type == "Conv").input[1],
                  lambda weights: weights[:, ::-1])  # fmt: skip

    return maker.edited(out, change)


def no_antialias(maker: Maker, out: Path) -> Artifact:
    """It takes larger photos and resizes them in the graph, each pixel from the nearest 2×2 alone."""
    host = replace(maker.checkpoint.preprocess, height=BIG, width=BIG)
    (spec,) = maker.fp32.manifest.inputs
    return maker.edited(out, _resized, preprocess=with_golden(replace(host, golden={})),
                        inputs=(replace(spec, shape=(None, BIG, BIG, 3)),))  # fmt: skip


def _resized(model: onnx.ModelProto) -> None:
    graph = model.graph
    for place in (1, 2):
        graph.input[0].type.tensor_type.shape.dim[place].dim_value = BIG
    layout = next(node for node in graph.node if node.name == "preprocess/layout")
    graph.initializer.append(numpy_helper.from_array(np.array([224, 224], np.int64), "sizes"))
    node = helper.make_node("Resize", [layout.output[0], "", "", "sizes"], ["resized"], "resize", axes=[2, 3],
                            mode="linear", antialias=0)  # fmt: skip
    for other in graph.node:
        other.input[:] = ["resized" if name == layout.output[0] else name for name in other.input]
    graph.node.insert(next(i for i, other in enumerate(graph.node) if other.name == layout.name) + 1, node)


def shifted(maker: Maker, out: Path) -> Artifact:
    """Each label's neighbour answers, as where a background class was counted."""

    def change(model: onnx.ModelProto) -> None:
        head = next(node for node in model.graph.node if node.op_type == "Gemm")
        by_row = any(each.name == "transB" and each.i for each in head.attribute)
        _exchange(model, head.input[1], lambda weights: np.roll(weights, 1, 0 if by_row else 1))
        _exchange(model, head.input[2], lambda bias: np.roll(bias, 1))

    return maker.edited(out, change)


def no_relu6(maker: Maker, out: Path) -> Artifact:
    """One of its ReLU6, in the middle, is left out."""

    def change(model: onnx.ModelProto) -> None:
        clips = [node for node in model.graph.node if node.op_type == "Clip"]
        lost = clips[len(clips) // 2]
        for other in model.graph.node:
            other.input[:] = [lost.input[0] if name == lost.output[0] else name for name in other.input]
        model.graph.node.remove(lost)

    return maker.edited(out, change)


def full_range(maker: Maker, out: Path) -> Artifact:
    """int8 with weights of the full range, right where the CPU has VNNI."""
    return quantize_int8(maker.fp32, PtqOptions("cpu-vnni", "ort"), replace(maker.calibration, taken=0), out)


def _exchange(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    held = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(held))), name))


WAYS = (
    Broken("int8 calibrated on noise", "ranges", noise),
    Broken("ImageNet's mean and std", "normalization", wrong_mean),
    Broken("BGR", "channel order", bgr),
    Broken("resize in the graph without antialias", "resize", no_antialias, tries=400),  # few flips
    Broken("labels shifted by one", "labels", shifted),
    Broken("a ReLU6 dropped", "activation", no_relu6),
    Broken("full-range int8 without VNNI", "saturation", full_range, LIMITED),
)


class Study:
    """Scores and explains; grows a record."""

    def __init__(self, dataset: Dataset, work: Path, photos: int) -> None:
        self._dataset, self._work, self._photos = dataset, work, photos
        self.subjects: list[Subject] = []
        self.predictions: dict[str, Predictions] = {}
        self.explained: dict[str, Any] = {}

    def judge(self, name: str, artifact: Artifact, isa: str = "") -> None:
        """Answer the whole confirm split."""
        target = isa_target(isa, RUN) if isa else None
        if target is not None and target.reason:
            raise BadInput(f"{name} cannot be tried here: {target.reason}", "a CPU with VNNI")
        row = Candidate(name, artifact, RUN)
        row = replace(row, place=target.place) if target else row
        say(f"scoring {name}")
        photos = prepare_photos(self._dataset.role("confirm"), artifact.preprocess, self._work / "cache")
        found, applied = score(row, photos, self._work / "cache")
        self.subjects.append(row.subject(applied=applied))
        self.predictions[name] = replace(found, logits=None)

    def explain(self, way: Broken, artifact: Artifact) -> None:
        """Stages and hypotheses on a sample; top-1 alone is kept of these."""
        name, isa = way.name, way.isa
        drawn = sample(self._dataset.role("confirm"), self._photos, 0)
        asked = measure.Asked(Candidate(name, artifact, RUN), self._dataset, "confirm", drawn, self._work / "cache",
                              classes=(isa,) if isa else (), tries=way.tries)  # fmt: skip
        found = measure.explain(asked, _said)
        self.explained[name] = dict(found.options)
        for subject in found.subjects:
            self.subjects.append(replace(subject, name=f"{name}: {subject.name}"))
        for stage, answers in found.predictions.items():
            self.predictions[f"{name}: {stage}"] = replace(
                answers, top=answers.top[:, :1], scores=answers.scores[:, :1]
            )

    def record(self, environment: dict[str, Any]) -> Record:
        """All of it."""
        confirm = self._dataset.role("confirm")
        data = {"name": self._dataset.name, "kind": self._dataset.kind, "role": "confirm", "count": len(confirm),
                "labels": self._dataset.labels}  # fmt: skip
        return Record("sabotage", environment, tuple(self.subjects), {"explained": self.explained}, data,
                      predictions=self.predictions, created=machine.utc_now())  # fmt: skip


def part(record: Record, name: str) -> Record:
    """What was explained of one artifact, as `tiffin explain` would have written it."""
    lead = f"{name}: "
    subjects = tuple(replace(s, name=s.name.removeprefix(lead)) for s in record.subjects if s.name.startswith(lead))
    answers = {key.removeprefix(lead): found for key, found in record.predictions.items() if key.startswith(lead)}
    return replace(record, kind="explain", subjects=subjects, options=record.options["explained"][name],
                   predictions=answers)  # fmt: skip


def page(record: Record) -> str:
    """The table and its notes, in Markdown."""
    base, rows, said = record.predictions[REFERENCE], [], []
    for name in record.options["explained"]:
        found, looked = record.predictions[name], part(record, name)
        changed, verdict = flips(found, base), non_inferior(found, base, MARGIN, 1 - ALPHA)
        named = [cause for cause in causes(looked) if cause.named]
        worst = worst_stage(loss_budget(looked))
        rows.append([
            name, f"{top_k(found).value * 100:.2f}", f"{changed.rate.value * 100:.1f} ({changed.lost}/{changed.won})",
            verdict.decision.value, flip_verdict(changed.count, changed.n), worst.name if worst else "",
            named[0].kind if named else "none",
        ])  # fmt: skip
        said += [f"{name}: {line}" for line in cause_lines(looked)[:1]]
    about = f"{len(base)} photos; as it should be: {top_k(base).value * 100:.2f} % top-1"
    head = ("artifact", "top-1 %", "flips % (harmed/healed)", "1.0 point", f"flips ≤ {MOST_FLIPS * 100:.0f} %",
            "stage that lost most", "cause named")  # fmt: skip
    return "\n\n".join([Table(head, rows).markdown(), "\n".join(f"- {line}" for line in (about, *said))])


def flip_verdict(count: int, n: int) -> str:
    """FAIL where more flips than allowed are proven, PASS where fewer are, by exact one-sided binomial tests."""
    if 1 - binomial_cdf(count - 1, n, MOST_FLIPS) <= ALPHA:
        return "FAIL"
    return "PASS" if binomial_cdf(count, n, MOST_FLIPS) <= ALPHA else "INCONCLUSIVE"


def _said(row: str, total: int) -> Callable[[int], None]:
    """Names each row that is answered; how far it is, nobody is told."""
    say(f"  {row}")
    return lambda done: None


def main() -> None:
    """Break, score, explain; or write the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path, help="the dataset's folder; with --table the page")
    words.add_argument("record", type=Path)
    words.add_argument("--table", action="store_true")
    words.add_argument("--work", type=Path, default=Path("out/sabotage"))
    words.add_argument("--photos", type=int, default=400, help="that explain looks at")
    asked = words.parse_args()
    if asked.table:
        fill(asked.data, "sabotage", page(load_record(asked.record)))
        return
    environment, dataset = machine.environment(), find_dataset(asked.data)
    maker, study = Maker(dataset, asked.work), Study(dataset, asked.work, asked.photos)
    study.judge(REFERENCE, maker.fp32)
    for way in WAYS:
        out = asked.work / "artifacts" / re.sub(r"\W+", "-", way.name)
        artifact = once(out, partial(way.make, maker))
        study.judge(way.name, artifact, way.isa)
        study.explain(way, artifact)
        study.record(environment).save(asked.record)
    say(page(load_record(asked.record)))


if __name__ == "__main__":
    main()
