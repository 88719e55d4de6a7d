"""The stages from a checkpoint to an artifact as it runs: what is to be answered, and why some cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...artifact import Artifact, RunConfig
from ...artifact.certificate import Certificate, read_certificates
from ...artifact.cpu_class import SWITCHED_BACKENDS, class_here
from ...errors import BadInput
from ...records import Predictions
from ...records.certification import check_certificate
from ...records.loss_budget import on_photos
from ...runtime import backends
from ..candidate import Candidate
from ..certify import isa_target
from ..simulation import SIMULATED
from ..workers.place import Place
from .lineage import Lineage

FIRST = "checkpoint in torch"
UNOPTIMIZED = "ONNX, unoptimized"
_LOW = ("int8", "fp8")
DEFAULT_CLASS = "avx2"  # where full-range int8 is known to lose; the other classes without VNNI answer like it


@dataclass(frozen=True)
class Planned:
    """One stage.

    Args:
        candidate: what runs, with the name of the stage; or its reason.
        answers: of a certificate, which need not be asked for again.
    """

    candidate: Candidate
    answers: Predictions | None = None


def plan(own: Candidate, lineage: Lineage) -> list[Planned]:
    """From the checkpoint to the artifact as it is run; the last is the artifact's own.

    Raises:
        BadInput: nothing lies between the two: it is the checkpoint itself.
    """
    artifact, run = own.artifact, own.run
    assert artifact is not None and run is not None
    if artifact.manifest.format in ("pt2", "null"):
        raise BadInput(f"{own.name}: format {artifact.manifest.format} has no stages", "an artifact that was exported")
    fp32 = lineage.fp32
    missing = "" if fp32 else "its fp32 ONNX ancestor is in no folder beside it"
    program, reason = lineage.program()
    rows = [_row(FIRST, program, RunConfig("torch", threads=run.threads), reason),
            _row(UNOPTIMIZED, fp32, _plain(run), missing)]  # fmt: skip
    rows += _between(artifact, run, fp32, missing)
    if artifact.manifest.precision in _LOW:
        rows.append(_simulated(artifact, run, lineage))
    return [Planned(row) for row in (*rows, replace(own, name=own_name(artifact, run)))]


def own_name(artifact: Artifact, run: RunConfig) -> str:
    """What the artifact's own stage is called, such as `int8 on openvino`."""
    precision = artifact.manifest.precision
    return f"{run.execution_precision if precision == 'fp32' else precision} on {run.backend}"


def _row(name: str, artifact: Artifact | None, run: RunConfig, reason: str, place: Place | None = None) -> Candidate:
    found = Candidate(name, artifact, run, reason=reason or _obstacle(run))
    return replace(found, place=place) if place else found


def _obstacle(run: RunConfig) -> str:
    probe = backends.probe(run.backend)
    return "" if probe.runs else ": ".join(filter(None, (probe.reason, probe.install)))


def _plain(run: RunConfig) -> RunConfig:
    """ONNX Runtime without graph optimization: each node as ONNX defines it, in float32."""
    return RunConfig("onnxruntime", threads=run.threads, graph_level="none")


def _between(artifact: Artifact, run: RunConfig, fp32: Artifact | None, missing: str) -> list[Candidate]:
    """The fp32 model on the artifact's engine, and in the lower precision that it computes floats in."""
    precision, executed = artifact.manifest.precision, run.execution_precision
    wanted = [] if (precision, executed) == ("fp32", "fp32") else ["fp32"]
    if precision in _LOW and executed != "fp32":
        wanted.append(executed)
    return [_row(f"{word} on {run.backend}", fp32, replace(run, execution_precision=word), missing) for word in wanted]


def _simulated(artifact: Artifact, run: RunConfig, lineage: Lineage) -> Candidate:
    """The quantized graph in float: DequantizeLinear → Conv in float32, no integer kernel, the same on every CPU."""
    graph = lineage.graph
    missing = "" if graph else "the ONNX model that it was compiled from is in no folder beside it"
    if graph is not None and graph.manifest.producer.options.get("floats") == "bf16":
        missing = "onnxruntime has no bf16 convolution for CPUs"
    return _row(f"{artifact.manifest.precision}, in float", graph, _plain(run), missing, SIMULATED)


def classes(own: Candidate, photos: Sequence[str], asked: Sequence[str] | None) -> list[Planned]:
    """The artifact on classes of CPU: by the certificate beside it, else on this CPU limited to the class.

    Args:
        photos: sha256 of the photos that are explained.
        asked: names of classes; None takes the certified ones, or `DEFAULT_CLASS` for int8 that has none.

    Raises:
        BadInput: no such class.
        BadArtifact: a certificate is not what its predictions give.
    """
    artifact, run = own.artifact, own.run
    assert artifact is not None and run is not None
    held = {each.cpu_class: each for each in _certified(artifact, run)}
    names = list(dict.fromkeys(asked)) if asked is not None else list(held) or _usual(artifact, run)
    return [_on_class(own, name, held.get(name), photos) for name in names]


def _certified(artifact: Artifact, run: RunConfig) -> list[Certificate]:
    """Those of this engine and precision; of two about one class the one over more photos stands last."""
    wanted = (run.backend, run.execution_precision)
    held = [each for each in read_certificates(artifact) if (each.backend, each.execution_precision) == wanted]
    return sorted(held, key=lambda each: (each.n, not each.emulator))


def _usual(artifact: Artifact, run: RunConfig) -> list[str]:
    here = class_here(run.backend)
    reachable = not isa_target(DEFAULT_CLASS, run).reason and run.backend in SWITCHED_BACKENDS
    lower = here is not None and here.name != DEFAULT_CLASS
    return [DEFAULT_CLASS] if artifact.manifest.precision == "int8" and reachable and lower else []


def _on_class(own: Candidate, name: str, certificate: Certificate | None, photos: Sequence[str]) -> Planned:
    target, stage = isa_target(name, own.run), f"on {name}"  # type: ignore[arg-type]
    limited = Planned(replace(own, name=stage, place=target.place, reason=target.reason))
    if certificate is None:
        return limited
    answers = _evidence(own.artifact, certificate, photos)  # type: ignore[arg-type]
    if answers is not None and (len(answers) == len(photos) or target.reason):
        where = f"certificate: {certificate.place}, {certificate.basis}"
        return Planned(replace(own, name=stage, place=Place(where)), answers)
    if target.reason:
        reason = f"its certificate is over other photos; {target.reason}"
        return Planned(replace(limited.candidate, reason=reason))
    return limited


def _evidence(artifact: Artifact, certificate: Certificate, photos: Sequence[str]) -> Predictions | None:
    """The certified answers to those of the photos that were answered there; None where none was."""
    found = check_certificate(artifact, certificate).subject()
    if found.photos == tuple(photos):
        return found
    held = set(found.photos)
    shared = tuple(photos[row] for row in unique_rows(photos) if photos[row] in held)
    return on_photos(found, shared) if shared else None


def unique_rows(hashes: Sequence[str]) -> np.ndarray:
    """Rows of the photos whose pixels no other has: a repeated one may bear two labels."""
    _, first, counts = np.unique(np.asarray(hashes), return_index=True, return_counts=True)
    return np.sort(first[counts == 1])
