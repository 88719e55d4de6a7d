"""What the search builds: each model in 16 bits and in int8 by several recipes, compiled for each engine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import machine
from ..artifact import Artifact
from ..artifact.engine_stamp import LIBRARIES
from ..artifact.scheme import SCHEMES
from ..data.prepared import PreparedPhotos
from ..errors import BadInput, EngineMissing
from ..export.confidence import HeldOut
from ..runtime import backends
from .stages import Make, Say, Stages


@dataclass(frozen=True)
class Model:
    """A network offered to the search: the given one, a student with a smaller input, one that is quantized already.

    Args:
        name: a short word, unique.
        calibration: photos of the calibrate role, prepared for this model's input.
        held_out: what temperatures are fitted on.
    """

    name: str
    artifact: Artifact
    calibration: PreparedPhotos
    held_out: HeldOut


@dataclass(frozen=True)
class Variant:
    """One artifact that was built, or why not.

    Args:
        backend: the engine that it is for; execution_precision: what that computes float layers in.
        structure: equal for graphs that differ in constants alone and so take the same time.
    """

    name: str
    backend: str
    artifact: Artifact | None
    execution_precision: str = "fp32"
    structure: str = ""
    reason: str = ""


# Recipes of int8 by name; what each is good for, and what did not help, is in docs/int8.md.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "cpu-ort": {"scheme": "cpu", "quantizer": "ort"},
    "cpu-nncf": {"scheme": "cpu", "quantizer": "nncf"},
    "cpu-u8-ort": {"scheme": "cpu-u8", "quantizer": "ort"},
    "cpu-vnni-ort": {"scheme": "cpu-vnni", "quantizer": "ort"},
    "cpu-vnni-nncf": {"scheme": "cpu-vnni", "quantizer": "nncf"},
    "tensorrt-ort": {"scheme": "tensorrt", "quantizer": "ort"},
}
CPU_BACKENDS = ("onnxruntime", "openvino")
TENSORRT_BACKENDS = LIBRARIES


def usable_backends(wanted: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Engines that run here and that the search knows how to feed.

    Raises:
        BadInput: an unknown one was asked for.
        EngineMissing: none runs here.
    """
    known = (*CPU_BACKENDS, *TENSORRT_BACKENDS)
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise BadInput(f"the search does not know backend {unknown[0]!r}", f"some of {', '.join(known)}")
    probes = {name: backends.probe(name) for name in wanted or known}
    running = tuple(name for name, probe in probes.items() if probe.runs)
    if not running:
        why = "; ".join(f"{name}: {probe.reason}" for name, probe in probes.items())
        raise EngineMissing(f"no engine runs here ({why})", f"one of {', '.join(known)}", "see `tiffin backends`")
    return running


def recipes(engines: tuple[str, ...], portable: bool) -> list[str]:
    """Names of the recipes worth building for these engines on this machine."""
    found = []
    if set(engines) & set(CPU_BACKENDS):
        found += ["cpu-ort", "cpu-nncf", "cpu-u8-ort"]
        if not portable and machine.has_vnni():
            found += ["cpu-vnni-ort", "cpu-vnni-nncf"]
    return found + (["tensorrt-ort"] if set(engines) & set(TENSORRT_BACKENDS) else [])


class Workshop:
    """Builds variants in a folder; what was built before of the same things is found again.

    Args:
        deadline: `time.monotonic()` after which nothing more is begun.
    """

    def __init__(self, folder: Path, engines: tuple[str, ...], portable: bool, deadline: float, say: Say) -> None:
        self._stages, self._engines, self._deadline = Stages(folder, say), engines, deadline
        self._recipes = recipes(engines, portable)
        self._held_out: dict[str, HeldOut] = {}

    def variants(self, model: Model) -> list[Variant]:
        """Everything of one model that can be built here in time; the model's own precision first."""
        self._stages.artifacts[model.name] = model.artifact
        self._held_out[model.name] = model.held_out
        if model.artifact.manifest.precision == "int8":
            return self._for_engines(model.name, model.artifact.manifest.scheme)
        found = self._for_engines(model.name, None)
        for name in self._recipes:
            stage = f"{model.name}-int8-{name}"
            self._then(stage, model.name, {"recipe": dict(RECIPES[name]), **_photos(model)},
                       self._quantize(model, RECIPES[name]))  # fmt: skip
            found += self._for_engines(stage, RECIPES[name]["scheme"])
        return found

    def mixed(self, model: Model, recipe: str, nodes: tuple[str, ...]) -> list[Variant]:
        """A recipe with some layers in float."""
        chosen = {**RECIPES[recipe], "float_nodes": nodes}
        stage = f"{model.name}-int8-{recipe}-{len(nodes)}-float"
        about = {"recipe": {**chosen, "float_nodes": list(nodes)}, **_photos(model)}
        self._then(stage, model.name, about, self._quantize(model, chosen))
        return self._for_engines(stage, RECIPES[recipe]["scheme"])

    def built(self, stage: str) -> Artifact:
        """The ONNX artifact of a stage; KeyError where it was not built."""
        return self._stages.artifacts[stage]

    def _then(self, stage: str, source: str, options: dict[str, Any], make: Make) -> None:
        if time.monotonic() > self._deadline:
            self._stages.reasons[stage] = "left out: the time budget allows no more building"
            return
        self._stages.then(stage, source, options, make)

    def _for_engines(self, stage: str, scheme: str | None) -> list[Variant]:
        """One variant for each engine that reads the scheme, and for each precision that it computes floats in."""
        artifact = self._stages.artifacts.get(stage)
        structure = structure_of(artifact) if artifact else stage
        engines = [name for name in self._engines if scheme is None or name in SCHEMES[scheme].engines]
        return [
            self._compiled(stage, engine, precision, structure)
            for engine in engines
            for precision in (("fp32",) if scheme else _precisions(engine))
        ]

    def _compiled(self, stage: str, backend: str, precision: str, structure: str) -> Variant:
        name = f"{stage}@{backend}" + ("" if precision == "fp32" else f" {precision}")
        source, built, make = self._way(stage, backend, precision)
        if make:
            self._then(built, source, {}, make)
        artifact = self._stages.artifacts.get(built)
        reason = "" if artifact else self._stages.reasons.get(built, "not built")
        hint = "fp32" if backend in TENSORRT_BACKENDS else precision
        return Variant(name, backend, artifact, hint, f"{backend} {precision} {structure}", reason)

    def _way(self, stage: str, backend: str, precision: str) -> tuple[str, str, Make | None]:
        """(what it is made of, the stage's name, how), or no way where the engine opens the ONNX itself."""
        if backend == "openvino":
            from ..export.to_openvino import to_openvino

            return stage, f"{stage}-openvino", lambda out: to_openvino(self._stages.artifacts[stage], out=out)
        if backend in TENSORRT_BACKENDS:
            from ..export.to_tensorrt import to_tensorrt

            typed = self._typed(stage, precision)
            return typed, f"{typed}-{backend}", lambda out: to_tensorrt(self._stages.artifacts[typed], out, backend)
        return stage, stage, None

    def _typed(self, stage: str, precision: str) -> str:
        """TensorRT's networks are strongly typed: half precision is another graph."""
        if precision == "fp32":
            return stage
        from ..quantize.quantize import quantize_half

        name = f"{stage}-{precision}"
        if name not in self._stages.artifacts:
            held = self._held_out[stage]
            self._then(name, stage, {"precision": precision, "held_out": held.digest()},
                       lambda out: quantize_half(self._stages.artifacts[stage], precision, out, held))  # fmt: skip
        return name

    def _quantize(self, model: Model, chosen: Mapping[str, Any]) -> Callable[[Path], Artifact]:
        def run(out: Path) -> Artifact:
            from ..quantize.calibration import CalibrationSet
            from ..quantize.options import PtqOptions
            from ..quantize.quantize import quantize_int8

            photos = CalibrationSet.of(model.calibration, "calibrate")
            return quantize_int8(model.artifact, PtqOptions(**chosen), photos, out, model.held_out)

        return run


def _photos(model: Model) -> dict[str, str]:
    """What a stage's options say of the photos."""
    return {"photos": model.calibration.digest(), "held_out": model.held_out.digest()}


def _precisions(backend: str) -> tuple[str, ...]:
    """What an engine computes a float32 graph in, or gets another graph for."""
    if backend in TENSORRT_BACKENDS:
        return ("fp32", "fp16")
    if backend == "onnxruntime":  # a typed fp16 graph runs through casts on CPUs, and is slower everywhere it was seen
        return ("fp32",)
    return tuple(word for word in backends.probe(backend).precisions if word != "int8")


def structure_of(artifact: Artifact) -> str:
    """A hash of an ONNX graph without names and values: equal graphs take equal time whatever their constants are."""
    if artifact.manifest.format != "onnx":
        return artifact.digest[:16]
    import onnx

    graph = onnx.load(artifact.model_path).graph
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers)) if name else -1

    shapes = {value.name: (value.data_type, *value.dims) for value in graph.initializer}
    parts = [
        (
            node.op_type,
            [(number(name), shapes.get(name)) for name in node.input],
            [number(name) for name in node.output],
            sorted(
                attribute.SerializeToString(deterministic=True)
                for attribute in node.attribute
                if not _tensor(attribute)
            ),
        )
        for node in graph.node
    ]
    sizes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input]
    return hashlib.sha256(repr([sizes, parts]).encode()).hexdigest()[:16]


def _tensor(attribute: Any) -> bool:
    """A constant's value, which time does not depend on."""
    return bool(attribute.HasField("t"))
