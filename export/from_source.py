"""Any source → fp32 artifact, parity with what it was proven before it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..artifact import Artifact, Producer, RunConfig
from ..machine import versions
from ..records.divergence import log_softmax
from .confidence import HeldOut
from .loaders import OnnxClassifier, Source
from .logits import engine_logits
from .parity import Parity, compared
from .to_onnx import OPSET, base_manifest, save_proven, to_onnx
from .to_pt2 import to_pt2


def export_source(
    source: Source, out: Path, photos: np.ndarray, held_out: HeldOut | None = None
) -> tuple[Artifact, Parity]:
    """ONNX artifact of a source.

    Args:
        photos: uint8 `(N, H, W, 3)`, prepared as the source says; at least 64 for a verdict worth recording.

    Raises:
        ParityFailed: it answers otherwise than the source; nothing is saved.
        BadInput: it cannot be exported, or `out` cannot be written.
    """
    if isinstance(source.model, OnnxClassifier):
        return from_onnx(source.model, out, photos, held_out)
    return to_onnx(source.model, out, photos, held_out)


def program_of(source: Source, out: Path, held_out: HeldOut | None = None) -> Artifact:
    """Torch program of a source.

    Raises:
        BadInput: it came as a graph, which torch cannot run.
    """
    return to_pt2(source.module("leave --format out: ONNX"), out, held_out)


def from_onnx(
    classifier: OnnxClassifier, out: Path, photos: np.ndarray, held_out: HeldOut | None = None
) -> tuple[Artifact, Parity]:
    """Prove that a foreign graph with our ends answers as the file did on ONNX Runtime unoptimized; then save."""
    about = {"opset": OPSET, "architecture": classifier.architecture}
    about |= {"fixed_batch": "by the graph"} if classifier.batch else {}
    manifest = base_manifest(
        classifier, "onnx", Producer("export", versions(("onnx", "onnxruntime")), about), classifier.batch
    )
    wanted = classifier.original(photos)

    def measured(draft: Artifact) -> Parity:
        found = engine_logits(draft, RunConfig("onnxruntime"), photos)
        answers = np.exp(log_softmax(found)) if classifier.probabilities else found
        return compared(answers, wanted, "onnxruntime")

    return save_proven(out, manifest, classifier.model, measured, held_out, "the file's own")
