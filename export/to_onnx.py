"""Checkpoint → ONNX artifact: uint8 photos in, preprocessing's graph part inside, parity proven before it is kept."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ..artifact import Artifact, Preprocess, Producer, TensorSpec
from ..artifact.claims import write_claim
from ..artifact.manifest import Manifest
from ..artifact.store import save
from ..machine import versions
from ..train import Checkpoint
from .confidence import HeldOut, fitted
from .graph.canonical import canonical
from .parity import Parity, measure_parity, require_parity
from .quiet import quiet

# The newest opset that ONNX Runtime, OpenVINO and TensorRT's parsers of 2025 all read whole.
OPSET = 20
INPUT, OUTPUT = "photos", "logits"


class PhotoInput(nn.Module):
    """A classifier that takes photos as they are: uint8 `(N, H, W, 3)`, RGB → float32 logits."""

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.network = network
        self.register_buffer("scale", 1 / std)
        self.register_buffer("shift", -mean / std)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Cast, normalize, NHWC → NCHW, classify."""
        images = photos.float() * self.scale + self.shift
        return self.network(images.permute(0, 3, 1, 2))


def trace(checkpoint: Checkpoint) -> torch.export.ExportedProgram:
    """The classifier as a program with a dynamic batch."""
    host = checkpoint.preprocess
    example = torch.zeros(2, host.height, host.width, 3, dtype=torch.uint8)
    model = PhotoInput(checkpoint.module, host).eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        return torch.export.export(model, (example,), dynamic_shapes=({0: batch},))


def base_manifest(checkpoint: Checkpoint, form: str, producer: Producer) -> Manifest:
    """The manifest of anything exported from a checkpoint in fp32; files are filled in when saved."""
    host = checkpoint.preprocess
    return Manifest(
        task="classification",
        format=form,
        precision="fp32",
        inputs=(TensorSpec(INPUT, "uint8", (None, host.height, host.width, 3)),),
        outputs=(TensorSpec(OUTPUT, "float32", (None, len(checkpoint.labels))),),
        files=(),
        producer=producer,
        labels=checkpoint.labels,
        preprocess=host,
        parent=checkpoint.sha256,
        checkpoint=checkpoint.sha256,
    )


def to_onnx(
    checkpoint: Checkpoint, out: Path, photos: np.ndarray, held_out: HeldOut | None = None
) -> tuple[Artifact, Parity]:
    """Export, check, prove parity against torch fp32, and only then save.

    Args:
        photos: uint8 `(N, H, W, 3)`, prepared; at least 64 for a verdict worth recording.
        held_out: what the temperature is fitted on; without them it is 1.

    Raises:
        ParityFailed: logits differ by more than the tolerance; nothing is saved.
        BadInput: `out` cannot be written.
    """
    model = _export(checkpoint)
    packages = ("torch", "onnx", "onnxscript")
    producer = Producer("export", versions(packages), {"opset": OPSET, "architecture": checkpoint.architecture})
    manifest = base_manifest(checkpoint, "onnx", producer)
    files: dict[str, bytes | Path] = {"model.onnx": model.SerializeToString(deterministic=True)}
    with tempfile.TemporaryDirectory() as scratch:
        draft = save(Path(scratch) / "draft", manifest, files)
        parity = require_parity(measure_parity(checkpoint, draft, photos))
        manifest = fitted(draft, held_out)
    artifact = save(out, manifest, files)
    write_claim(artifact, "parity", parity.to_json())
    return artifact, parity


def _export(checkpoint: Checkpoint) -> onnx.ModelProto:
    # It warns of torchvision's absence and of its own deprecations.
    with quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            trace(checkpoint),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    host = checkpoint.preprocess
    metadata = {
        "tiffin.checkpoint": checkpoint.sha256,
        "tiffin.labels": json.dumps(checkpoint.labels, ensure_ascii=False),
        "tiffin.preprocess": json.dumps({**vars(host), "golden": dict(host.golden)}, sort_keys=True),
    }
    assert program is not None  # given a program, the exporter always returns one
    model = canonical(program.model_proto, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
