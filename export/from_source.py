"""Any source → fp32 artifact, parity with what it was proven before it is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..artifact import Artifact, Producer, RunConfig, TensorSpec
from ..artifact.claims import write_claim
from ..artifact.manifest import Manifest
from ..artifact.store import save
from ..errors import BadInput
from ..machine import versions
from .confidence import HeldOut, fitted
from .loaders import OnnxClassifier, Source
from .logits import engine_logits
from .parity import Parity, compared, require_parity
from .to_onnx import INPUT, OPSET, OUTPUT, to_onnx
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
    if isinstance(source.model, OnnxClassifier):
        raise BadInput(f"{source.text}: {source.kind} has no torch program", "a source with torch code",
                       "leave --format out: ONNX")  # fmt: skip
    return to_pt2(source.model, out, held_out)


def from_onnx(
    classifier: OnnxClassifier, out: Path, photos: np.ndarray, held_out: HeldOut | None = None
) -> tuple[Artifact, Parity]:
    """Prove that a foreign graph with our ends answers as the file did on ONNX Runtime unoptimized; then save."""
    about = {"opset": OPSET, "architecture": classifier.architecture}
    about |= {"fixed_batch": "by the graph"} if classifier.batch else {}
    manifest = _manifest(classifier, Producer("export", versions(("onnx", "onnxruntime")), about))
    files: dict[str, bytes | Path] = {"model.onnx": classifier.model.SerializeToString(deterministic=True)}
    wanted = classifier.original(photos)
    with tempfile.TemporaryDirectory() as scratch:
        draft = save(Path(scratch) / "draft", manifest, files)
        run = RunConfig("onnxruntime")
        found = engine_logits(draft, run, photos)
        seen = _softmax(found) if classifier.probabilities else found
        parity = require_parity(compared(seen, wanted, run.backend), "the file's own")
        manifest = fitted(draft, held_out)
    artifact = save(out, manifest, files)
    write_claim(artifact, "parity", parity.to_json())
    return artifact, parity


def _manifest(classifier: OnnxClassifier, producer: Producer) -> Manifest:
    host, batch = classifier.preprocess, classifier.batch
    return Manifest(
        task="classification",
        format="onnx",
        precision="fp32",
        inputs=(TensorSpec(INPUT, "uint8", (batch, host.height, host.width, 3)),),
        outputs=(TensorSpec(OUTPUT, "float32", (batch, len(classifier.labels))),),
        files=(),
        producer=producer,
        labels=classifier.labels,
        preprocess=host,
        parent=classifier.sha256,
        checkpoint=classifier.sha256,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
