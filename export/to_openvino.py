"""ONNX artifact → OpenVINO IR (xml + bin), weights in the type that the ONNX model has."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import openvino as ov

from ..artifact import Artifact, Producer
from ..artifact.store import save
from ..errors import BadInput, EngineFailed, first_line
from ..machine import versions
from .onnx_source import require_onnx


def to_openvino(artifact: Artifact, out: Path) -> Artifact:
    """Convert and save. fp16 is decided by the ONNX model's types, never by a flag.

    Raises:
        BadInput: not an ONNX artifact, or no room for the IR.
        EngineFailed: OpenVINO cannot convert it.
    """
    require_onnx(artifact, "openvino")
    try:
        model = ov.Core().read_model(artifact.model_path)
    except Exception as error:
        reason = str(error).strip()[-300:]
        raise EngineFailed(
            f"openvino cannot convert {artifact.model_path}: {reason}", "a model that it supports"
        ) from error
    _name_operations(model)
    manifest = dataclasses.replace(
        artifact.manifest,
        format="openvino",
        producer=Producer("compile", versions(("openvino",)), {"backend": "openvino"}),
        parent=artifact.digest,
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.xml"
        _write(model, path)
        return save(out, manifest, {"model.xml": path, "model.bin": path.with_suffix(".bin")})


def _write(model: ov.Model, path: Path) -> None:
    """OpenVINO has one error for all that may stop a file, and no word of which it was."""
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise BadInput(f"openvino cannot write the IR to {path.parent} ({first_line(error)})",
                       "room for it, and no limit of a file's size (ulimit -f) below it",
                       "name another folder of temporary files by $TMPDIR") from error  # fmt: skip


def _name_operations(model: ov.Model) -> None:
    """By type and position: OpenVINO's own names count on within a process, so a second IR would differ."""
    for position, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() not in ("Parameter", "Result"):
            operation.set_friendly_name(f"{operation.get_type_name()}_{position}")
