"""TensorRT's graphs without its GPU: the same graph, computed in float by ONNX Runtime, for accuracy only.

With its graph optimization off, ONNX Runtime runs QDQ unfused: DequantizeLinear → Conv in float32, the same on every
CPU. Each rounding of the graph takes place where the engine has it. What differs: TensorRT adds the products of int8
up exactly in int32, a float32 sum rounds; it may take scales into its kernels in another order; fp16 layers are
computed in float32 and rounded at each node. Answers may so differ where a value lies at a rounding's edge.
"""

from __future__ import annotations

from ..artifact import Artifact, RunConfig
from ..artifact.engine_stamp import LIBRARIES
from ..artifact.lineage import source_of
from ..artifact.scheme import scheme_named
from ..errors import BadInput
from ..records import Subject
from .candidate import Candidate
from .workers.place import Place

WORD = "simulated"
SIMULATED = Place("same graph, simulated in float by ONNX Runtime")


def simulated(name: str, artifact: Artifact, threads: int | None = None, precision: str | None = None) -> Candidate:
    """A candidate to be scored, never timed.

    Args:
        artifact: an ONNX artifact that TensorRT reads, or an engine of it, whose `source.onnx` is scored.
        precision: of float layers as asked for; ONNX Runtime refuses all but fp32.

    Raises:
        BadInput: another format or int8 dialect.
        BadArtifact: an engine without its source.
    """
    source = source_of(artifact) if artifact.manifest.format in LIBRARIES else artifact
    _check(source)
    run = RunConfig("onnxruntime", threads=threads, graph_level="none", execution_precision=precision or "fp32")
    reason = "onnxruntime has no bf16 convolution for CPUs" if source.manifest.precision == "bf16" else ""
    return Candidate(name, source, run, SIMULATED, reason)


def is_simulated(subject: Subject) -> bool:
    """True if a record's row is no answer of an engine."""
    return subject.place == SIMULATED.name


def require_scoring(name: str, only_scored: bool) -> None:
    """Raises BadInput where a simulated candidate would be timed or certified: its time and its CPU mean nothing."""
    if not only_scored:
        raise BadInput(
            f"{name}: what is simulated has an accuracy, no speed and no CPU class",
            "an engine that runs here",
            "score it: `tiffin score FOLDER@simulated`",
        )


def _check(source: Artifact) -> None:
    manifest = source.manifest
    if manifest.format != "onnx":
        raise BadInput(
            f"{source.folder}: {manifest.format} cannot be simulated", "an ONNX artifact, or an engine of TensorRT"
        )
    if manifest.scheme and not set(LIBRARIES) & set(scheme_named(manifest.scheme).engines):
        raise BadInput(
            f"{source.folder}: int8 scheme {manifest.scheme!r} is not simulated: the engines that read it run on CPUs",
            "scheme tensorrt",
            "score it on one of them, without @simulated",
        )
