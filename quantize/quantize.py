"""fp32 ONNX artifact → fp16, bf16, int8 or fp8 ONNX artifact."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..artifact import Artifact, Producer
from ..artifact.scheme import Scheme, scheme_named
from ..errors import BadInput, EngineFailed
from ..export.confidence import HeldOut, save_fitted
from ..export.graph.dialect import check_for_tensorrt, read_dialect
from ..export.graph.fp8 import to_fp8
from ..export.graph.plain_gemm import plain_gemm
from ..export.graph.precision import to_half
from ..export.graph.quantizers import QdqGraph
from ..export.onnx_source import read_onnx, require_valid
from ..machine import versions
from .calibration import Calibration
from .corrections import correct
from .options import FLOATS, PtqOptions, fp8_options
from .ptq_nncf import quantize_nncf
from .ptq_ort import quantize_ort
from .walk import require_no_bodies

Quantizer = Callable[[onnx.ModelProto, Scheme, Calibration, PtqOptions], onnx.ModelProto]
QUANTIZERS: dict[str, Quantizer] = {"nncf": quantize_nncf, "ort": quantize_ort}

# What corrections look at: each costs some 5 MB at the widest layer of a mobile network.
WALKED_PHOTOS = 64


def quantize_half(artifact: Artifact, precision: str, out: Path, held_out: HeldOut | None = None) -> Artifact:
    """Typed fp16 or bf16 ONNX, its temperature fitted anew on `held_out`; without them it is the artifact's.

    Raises:
        BadInput: not an fp32 ONNX artifact.
    """
    source = _source(artifact)
    model = to_half(source, precision)
    about = {"precision": precision}
    return _save(artifact, source, model, out, precision=precision, scheme=None, options=about, held_out=held_out)


def quantize_int8(
    artifact: Artifact,
    options: PtqOptions,
    calibration: Calibration,
    out: Path,
    held_out: HeldOut | None = None,
) -> Artifact:
    """int8 QDQ ONNX in one scheme, its dialect checked before it is saved.

    Args:
        held_out: what its temperature is fitted on with the quantized answers; without them it is the artifact's.

    Raises:
        BadInput: not an fp32 ONNX artifact, a batch fixed at more than one, a calibration set that does not fit, a
            scheme or an option that the quantizer does not offer, a float node that the graph does not have, or a graph
            that branches.
        EngineFailed: the quantizer wrote another dialect than asked.
    """
    options = options.applied()
    scheme, source = scheme_named(options.scheme), _source(artifact)
    _check_nodes(source, options.float_nodes)
    calibration = _usable(calibration, artifact)
    model = _corrected(source, _quantized(source, scheme, calibration, options), calibration, options)
    if options.floats != FLOATS[0]:
        model = to_half(model, options.floats)
    _check_dialect(model, scheme, str(options.quantizer))
    return _save(
        artifact,
        source,
        model,
        out,
        precision="int8",
        scheme=scheme.name,
        options={**options.plain(), "weight_bits": scheme.weight_bits, **_about(calibration)},
        calibration=calibration.hashes,
        held_out=held_out,
    )


def quantize_fp8(
    artifact: Artifact,
    options: PtqOptions,
    calibration: Calibration,
    out: Path,
    held_out: HeldOut | None = None,
) -> Artifact:
    """fp8 (E4M3FN) QDQ ONNX: in the places and ranges of int8 for TensorRT. No int8 dialect, so no scheme.

    Raises:
        BadInput: as `quantize_int8`, or an option that fp8 does not have.
    """
    options = fp8_options(options)
    source = _source(artifact)
    _check_nodes(source, options.float_nodes)
    calibration = _usable(calibration, artifact)
    int8 = _quantized(source, scheme_named(options.scheme), calibration, options)
    model = _corrected(source, to_fp8(source, int8), calibration, options)
    check_for_tensorrt(model, "what was written")
    about = {"format": "e4m3fn", "ranges_of": options.scheme, **options.plain(), **_about(calibration)}
    del about["scheme"]
    return _save(
        artifact,
        source,
        model,
        out,
        precision="fp8",
        scheme=None,
        options=about,
        calibration=calibration.hashes,
        held_out=held_out,
    )


def _usable(calibration: Calibration, artifact: Artifact) -> Calibration:
    require_row_by_row(artifact)
    return calibration.usable(artifact.manifest)


def is_row_by_row(artifact: Artifact) -> bool:
    """Its batch is free, or 1."""
    return artifact.manifest.inputs[0].shape[:1] in ((), (None,), (1,))


def require_row_by_row(artifact: Artifact) -> None:
    """Raises BadInput for a batch fixed at more than one."""
    if not is_row_by_row(artifact):
        raise BadInput(f"{artifact.folder}: its batch is fixed at {artifact.manifest.inputs[0].shape[0]}",
                       "a free one, or one of 1: ranges are found row by row", "export it so")  # fmt: skip


def _about(calibration: Calibration) -> dict[str, Any]:
    """What a manifest says of the photos."""
    return {
        "calibration_photos": len(calibration),
        "photos_taken": calibration.taken,
        "calibration_source": calibration.source,
        "calibration_sha256": calibration.digest(),
    }


def _quantized(
    source: onnx.ModelProto, scheme: Scheme, calibration: Calibration, options: PtqOptions
) -> onnx.ModelProto:
    """What the quantizer writes of a copy: both change what they are given."""
    made = QUANTIZERS[str(options.quantizer)](copy.deepcopy(source), scheme, calibration, options)
    _require_finite_scales(made)
    return made


def _require_finite_scales(model: onnx.ModelProto) -> None:
    """Raises BadInput where an activation's range was infinite or NaN, which no grid holds."""
    wrong = [each.node.name or each.node.output[0] for each in QdqGraph(model).quantizers.values()
             if each.scale is not None and not np.isfinite(each.scale).all()]  # fmt: skip
    if wrong:
        raise BadInput(f"infinite or NaN values where int8 would round: {', '.join(wrong[:5])}", "finite values",
                       "keep what makes them in float: --float-node NAME, may repeat")  # fmt: skip


def _corrected(
    source: onnx.ModelProto, model: onnx.ModelProto, calibration: Calibration, options: PtqOptions
) -> onnx.ModelProto:
    if options.compensate or options.bias_correction == "empirical":
        model = correct(source, model, calibration.some(WALKED_PHOTOS), options.compensate)
    return model


def _check_nodes(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    require_no_bodies(model)
    held = {node.name: node.op_type for node in model.graph.node}
    unknown = [name for name in names if name not in held]
    if unknown:
        layers = [name for name, kind in held.items() if kind in ("Conv", "Gemm", "MatMul")]
        raise BadInput(f"no node {unknown[0]!r} in this graph", f"a node's name, such as {layers[0]} … {layers[-1]}")


def _source(artifact: Artifact) -> onnx.ModelProto:
    if artifact.manifest.format != "onnx" or artifact.manifest.precision != "fp32":
        raise BadInput(
            f"{artifact.folder}: {artifact.manifest.precision} {artifact.manifest.format}",
            "an fp32 ONNX artifact",
            "start from what `tiffin export` wrote",
        )
    return plain_gemm(read_onnx(artifact.model_path))


def _check_dialect(model: onnx.ModelProto, scheme: Scheme, quantizer: str) -> None:
    dialect = read_dialect(model)
    # NNCF keeps signed tensors as int8: where all are, as behind LeakyReLU, none is uint8.
    expected = {scheme.activations, "int8"} if quantizer == "nncf" else {scheme.activations}
    if not expected & set(dialect.zero_points):
        raise EngineFailed(
            f"quantizer {quantizer} wrote {', '.join(dialect.zero_points) or 'no'} zero points", scheme.activations
        )
    if "tensorrt" in scheme.engines:
        check_for_tensorrt(model, f"what {quantizer} wrote")


def _save(
    parent: Artifact,
    source: onnx.ModelProto,
    model: onnx.ModelProto,
    out: Path,
    *,
    precision: str,
    scheme: str | None,
    options: dict[str, Any],
    calibration: tuple[str, ...] = (),
    held_out: HeldOut | None,
) -> Artifact:
    model.producer_name, model.producer_version = "tiffin", ""
    del model.metadata_props[:]
    model.metadata_props.extend(source.metadata_props)
    require_valid(model, f"{precision} of {parent.folder}", "report what it was exported from")
    manifest = dataclasses.replace(
        parent.manifest,
        precision=precision,
        scheme=scheme,
        producer=Producer("quantize", versions(("onnx", "onnxruntime", "nncf")), options),
        parent=parent.digest,
        calibration=tuple(digest[:16] for digest in calibration),
    )
    return save_fitted(out, manifest, {"model.onnx": model.SerializeToString(deterministic=True)}, held_out)
