"""Checkpoint → ONNX artifact: uint8 photos in, preprocessing's graph part inside, parity proven before it is kept."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from ..artifact import Artifact, Preprocess, Producer, TensorSpec
from ..artifact.claims import write_claim
from ..artifact.manifest import Manifest
from ..artifact.store import save
from ..errors import BadInput
from ..machine import versions
from ..train import Checkpoint
from .confidence import HeldOut, fitted
from .graph.canonical import canonical
from .onnx_source import require_below_limit
from .parity import Parity, measure_parity, require_parity
from .quiet import quiet
from .trace import PhotoInput, Traced, trace

__all__ = ["INPUT", "OPSET", "OUTPUT", "PhotoInput", "base_manifest", "to_onnx", "trace"]

# The newest opset that ONNX Runtime, OpenVINO and TensorRT's parsers of 2025 all read whole.
OPSET = 20
INPUT, OUTPUT = "photos", "logits"


def base_manifest(checkpoint: Checkpoint, form: str, producer: Producer, batch: int | None = None) -> Manifest:
    """The manifest of anything exported from a checkpoint in fp32; files are filled in when saved."""
    host = checkpoint.preprocess
    return Manifest(
        task="classification",
        format=form,
        precision="fp32",
        inputs=(TensorSpec(INPUT, "uint8", (batch, host.height, host.width, 3)),),
        outputs=(TensorSpec(OUTPUT, "float32", (batch, len(checkpoint.labels))),),
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
        BadInput: the network cannot be traced, has no ONNX form or is too large for a file, or `out` cannot be written.
    """
    require_below_limit(sum(each.nbytes for each in checkpoint.module.state_dict().values()), checkpoint.architecture)
    traced = trace(checkpoint)
    model = _export(checkpoint, traced)
    about = {"opset": OPSET, "architecture": checkpoint.architecture, **fixed_batch(traced)}
    manifest = base_manifest(
        checkpoint, "onnx", Producer("export", versions(("torch", "onnx", "onnxscript")), about), traced.batch
    )
    files: dict[str, bytes | Path] = {"model.onnx": model.SerializeToString(deterministic=True)}
    with tempfile.TemporaryDirectory() as scratch:
        draft = save(Path(scratch) / "draft", manifest, files)
        parity = require_parity(measure_parity(checkpoint, draft, photos))
        manifest = fitted(draft, held_out)
    artifact = save(out, manifest, files)
    write_claim(artifact, "parity", parity.to_json())
    return artifact, parity


def fixed_batch(traced: Traced) -> dict[str, str]:
    """For a producer's options: why the batch is fixed, nothing where it is free."""
    return {"fixed_batch": traced.reason} if traced.batch else {}


def photo_metadata(digest: str, labels: tuple[str, ...], host: Preprocess) -> dict[str, str]:
    """What an ONNX file says of itself, for those who read it without its manifest."""
    return {
        "tiffin.checkpoint": digest,
        "tiffin.labels": json.dumps(labels, ensure_ascii=False),
        "tiffin.preprocess": json.dumps({**host.plain(), "golden": dict(host.golden)}, sort_keys=True),
    }


def _export(checkpoint: Checkpoint, traced: Traced) -> onnx.ModelProto:
    # It warns of torchvision's absence and of its own deprecations.
    with quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                traced.program,
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                optimize=True,
                verbose=False,
            )
        except Exception as error:  # of the exporter, which has no error of its own for what ONNX lacks
            raise _no_onnx_form(checkpoint, error) from error
    assert program is not None  # given a program, the exporter always returns one
    metadata = photo_metadata(checkpoint.sha256, checkpoint.labels, checkpoint.preprocess)
    model = canonical(program.model_proto, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def _no_onnx_form(checkpoint: Checkpoint, error: Exception) -> BadInput:
    """The exporter's report: which operator it lacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "No ONNX function found" in line or "No decompositions" in line), lines[-1])
    return BadInput(
        f"{checkpoint.architecture} has no form in ONNX: {told}",
        "operators of torch that ONNX has too",
        "write that operator with others, or export a torch program: `tiffin export --format pt2`",
    )
