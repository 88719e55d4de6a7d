"""fp32 ONNX artifact → fp16, bf16 or int8 ONNX artifact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ..artifact import Artifact, Producer
from ..artifact.scheme import Scheme, scheme_named
from ..artifact.store import save
from ..errors import BadInput, EngineFailed
from ..export.graph.dialect import check_for_tensorrt, read_dialect
from ..export.graph.precision import to_half
from ..machine import versions
from .calibration import CalibrationSet
from .ptq_nncf import quantize_nncf
from .ptq_ort import quantize_ort

Quantizer = Callable[[onnx.ModelProto, Scheme, CalibrationSet], onnx.ModelProto]
QUANTIZERS: dict[str, Quantizer] = {"nncf": quantize_nncf, "ort": quantize_ort}


def default_quantizer(scheme: Scheme) -> str:
    """NNCF corrects biases and is better where it writes the scheme; ONNX Runtime's quantizer writes all of them."""
    return "ort" if scheme.symmetric_activations else "nncf"


def quantize_half(artifact: Artifact, precision: str, out: Path) -> Artifact:
    """Typed fp16 or bf16 ONNX.

    Raises:
        BadInput: not an fp32 ONNX artifact.
    """
    model = to_half(_source(artifact), precision)
    return _save(artifact, model, out, precision=precision, scheme=None, options={"precision": precision})


def quantize_int8(
    artifact: Artifact, scheme_name: str, calibration: CalibrationSet, out: Path, quantizer: str | None = None
) -> Artifact:
    """int8 QDQ ONNX in one scheme, its dialect checked before it is saved.

    Args:
        quantizer: "nncf" or "ort"; None takes `default_quantizer`.

    Raises:
        BadInput: not an fp32 ONNX artifact, an empty calibration set, or a scheme that the quantizer does not write.
        EngineFailed: the quantizer wrote another dialect than asked.
    """
    scheme = scheme_named(scheme_name)
    quantizer = quantizer or default_quantizer(scheme)
    if quantizer not in QUANTIZERS:
        raise BadInput(f"unknown quantizer {quantizer!r}", f"one of {', '.join(QUANTIZERS)}")
    model = QUANTIZERS[quantizer](_source(artifact), scheme, calibration)
    _check_dialect(model, scheme, quantizer)
    options = {
        "scheme": scheme.name,
        "quantizer": quantizer,
        "weight_bits": scheme.weight_bits,
        "calibration_photos": len(calibration),
        "photos_taken": calibration.taken,
        "calibration_source": calibration.source,
        "calibration_sha256": calibration.digest(),
    }
    return _save(
        artifact, model, out, precision="int8", scheme=scheme.name, options=options, calibration=calibration.hashes
    )


def _source(artifact: Artifact) -> onnx.ModelProto:
    if artifact.manifest.format != "onnx" or artifact.manifest.precision != "fp32":
        raise BadInput(
            f"{artifact.folder}: {artifact.manifest.precision} {artifact.manifest.format}",
            "an fp32 ONNX artifact",
            "start from what `tiffin export` wrote",
        )
    try:
        model = onnx.load(artifact.model_path)
    except Exception as error:  # protobuf's DecodeError
        raise BadInput(f"{artifact.model_path}: no ONNX model ({error})", "a whole ONNX file") from error
    if not model.graph.node:  # an empty file parses
        raise BadInput(f"{artifact.model_path}: no ONNX model (it holds no graph)", "a whole ONNX file")
    return model


def _check_dialect(model: onnx.ModelProto, scheme: Scheme, quantizer: str) -> None:
    dialect = read_dialect(model)
    if scheme.activations not in dialect.zero_points:
        raise EngineFailed(
            f"quantizer {quantizer} wrote {', '.join(dialect.zero_points) or 'no'} zero points", scheme.activations
        )
    if "tensorrt" in scheme.engines:
        check_for_tensorrt(model, f"what {quantizer} wrote")


def _save(
    parent: Artifact,
    model: onnx.ModelProto,
    out: Path,
    *,
    precision: str,
    scheme: str | None,
    options: dict[str, Any],
    calibration: tuple[str, ...] = (),
) -> Artifact:
    model.producer_name, model.producer_version = "tiffin", ""
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(parent.model_path, load_external_data=False).metadata_props)
    onnx.checker.check_model(model)
    manifest = dataclasses.replace(
        parent.manifest,
        precision=precision,
        scheme=scheme,
        producer=Producer("quantize", versions(("onnx", "onnxruntime", "nncf")), options),
        parent=parent.digest,
        calibration=tuple(digest[:16] for digest in calibration),
    )
    return save(out, manifest, {"model.onnx": model.SerializeToString(deterministic=True)})
