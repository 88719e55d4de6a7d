"""Checkpoint → ONNX artifact: uint8 photos in, preprocessing's graph part inside, parity proven before it is kept."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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
from ..train.checkpoint import tensors_of
from .confidence import HeldOut, fitted
from .graph.canonical import canonical
from .graph.logits_output import require_logits
from .onnx_source import require_below_limit
from .parity import Parity, measure_parity, require_parity
from .quiet import quiet
from .trace import Traced, trace

# The newest opset that ONNX Runtime, OpenVINO and TensorRT's parsers of 2025 all read whole.
OPSET = 20
INPUT, OUTPUT = "photos", "logits"
_SUMMARY = "## Exception summary"  # in the exporter's report, a line before the cause


class TrainedClassifier(Protocol):
    """What an export needs to know of a trained classifier, a torch module or a graph."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocess(self) -> Preprocess: ...

    @property
    def sha256(self) -> str: ...


def base_manifest(trained: TrainedClassifier, form: str, producer: Producer, batch: int | None = None) -> Manifest:
    """The manifest of anything exported from a classifier in fp32; files are filled in when saved."""
    host = trained.preprocess
    return Manifest(
        task="classification",
        format=form,
        precision="fp32",
        inputs=(TensorSpec(INPUT, "uint8", (batch, host.height, host.width, 3)),),
        outputs=(TensorSpec(OUTPUT, "float32", (batch, len(trained.labels))),),
        files=(),
        producer=producer,
        labels=trained.labels,
        preprocess=host,
        parent=trained.sha256,
        checkpoint=trained.sha256,
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
    held = tensors_of(checkpoint.module.state_dict())
    require_below_limit(sum(each.nbytes for each in held.values()), checkpoint.architecture)
    traced = trace(checkpoint)
    model = _export(checkpoint, traced)
    about = {"opset": OPSET, "architecture": checkpoint.architecture, **why_fixed(traced)}
    manifest = base_manifest(
        checkpoint, "onnx", Producer("export", versions(("torch", "onnx", "onnxscript")), about), traced.batch
    )
    return save_proven(out, manifest, model, lambda draft: measure_parity(checkpoint, draft, photos), held_out)


def save_proven(
    out: Path,
    manifest: Manifest,
    model: onnx.ModelProto,
    measured: Callable[[Artifact], Parity],
    held_out: HeldOut | None,
    original: str = "torch",
) -> tuple[Artifact, Parity]:
    """Save a model whose draft answers as what it was made from, with its temperature and the proof beside it.

    Args:
        measured: a draft → its parity with the original.
        original: what it was made from, for the error.

    Raises:
        ParityFailed: it answers otherwise; nothing is saved.
        BadInput: `out` cannot be written.
    """
    files: dict[str, bytes | Path] = {"model.onnx": model.SerializeToString(deterministic=True)}
    with tempfile.TemporaryDirectory() as scratch:
        draft = save(Path(scratch) / "draft", manifest, files)
        parity = require_parity(measured(draft), original)
        manifest = fitted(draft, held_out)
    artifact = save(out, manifest, files)
    write_claim(artifact, "parity", parity.to_json())
    return artifact, parity


def why_fixed(traced: Traced) -> dict[str, str]:
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
    try:
        found = onnx_of(traced.program, [INPUT], [OUTPUT])
    except Exception as error:  # of the exporter, which has no error of its own for what ONNX lacks
        raise _no_onnx_form(checkpoint, error) from error
    model = canonical(found, photo_metadata(checkpoint.sha256, checkpoint.labels, checkpoint.preprocess))
    onnx.checker.check_model(model, full_check=True)
    require_logits(model.graph, OUTPUT, checkpoint.architecture)
    return model


def onnx_of(program: torch.export.ExportedProgram, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """The program as torch's exporter writes it, with these names; raises what the exporter raises."""
    # It warns of torchvision's absence and of its own deprecations.
    with quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            program, dynamo=True, input_names=inputs, output_names=outputs, opset_version=OPSET, optimize=True,
            verbose=False,
        )  # fmt: skip
    assert made is not None  # given a program, the exporter always returns one
    return made.model_proto


def _no_onnx_form(checkpoint: Checkpoint, error: Exception) -> BadInput:
    """The exporter's report: which operator it lacks, else the cause that it sums up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    lacking = [line for line in lines if "No ONNX function found" in line or "No decompositions" in line]
    summed = lines[lines.index(_SUMMARY) + 1 :] if _SUMMARY in lines else []
    told = (lacking + summed + lines[-1:])[0]
    return BadInput(
        f"{checkpoint.architecture} has no form in ONNX: {told}",
        "operators of torch that ONNX has too",
        "write that operator with others, or export a torch program: `tiffin export --format pt2`",
    )
