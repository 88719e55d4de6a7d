"""ONNX artifact → OpenVINO IR (xml + bin), weights in the type that the ONNX model has."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import openvino as ov

from ..artifact import Artifact, Producer
from ..artifact.store import save
from ..errors import BadInput, EngineFailed
from ..machine import versions


def to_openvino(artifact: Artifact, out: Path) -> Artifact:
    """Convert and save. fp16 is decided by the ONNX model's types, never by a flag.

    Raises:
        BadInput: not an ONNX artifact.
        EngineFailed: OpenVINO cannot convert it.
    """
    require_onnx(artifact, "openvino")
    try:
        model = ov.convert_model(artifact.model_path)
    except Exception as error:
        raise EngineFailed(f"openvino cannot convert {artifact.model_path}: {str(error).strip()[-300:]}") from error
    manifest = dataclasses.replace(
        artifact.manifest,
        format="openvino",
        producer=Producer("compile", versions(("openvino",)), {"backend": "openvino"}),
        parent=artifact.digest,
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        return save(out, manifest, {"model.xml": path, "model.bin": path.with_suffix(".bin")})


def require_onnx(artifact: Artifact, backend: str) -> None:
    """Raises BadInput if the artifact is no ONNX model."""
    if artifact.manifest.format != "onnx":
        raise BadInput(
            f"{artifact.folder}: format {artifact.manifest.format}",
            f"an ONNX artifact to compile for {backend}",
            "start from what `tiffin export` or `tiffin quantize` wrote",
        )
