"""The ONNX model that a stage starts from: is it one, and can it be read?"""

from __future__ import annotations

from pathlib import Path

import onnx

from ..artifact import Artifact
from ..errors import BadInput, first_line

_LIMIT_BYTES = 2**31  # protobuf's, for one message


def require_onnx(artifact: Artifact, backend: str) -> None:
    """Raises BadInput if the artifact is no ONNX model."""
    if artifact.manifest.format != "onnx":
        raise BadInput(
            f"{artifact.folder}: format {artifact.manifest.format}",
            f"an ONNX artifact to compile for {backend}",
            "start from what `tiffin export` or `tiffin quantize` wrote",
        )


def require_below_limit(size_bytes: int, what: object) -> None:
    """Raises BadInput if a model is too large for one ONNX file; artifacts keep no weights beside it."""
    if size_bytes >= _LIMIT_BYTES:
        raise BadInput(
            f"{what}: {size_bytes / 1e9:.1f} GB",
            "less than 2 GB, the limit of an ONNX file",
            "use a smaller network, or make an artifact smaller: `tiffin quantize ARTIFACT --precision fp16`",
        )


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a model, with what lies beside it.

    Raises:
        BadInput: 2 GB or more, cut off, no ONNX, or an empty graph.
    """
    require_below_limit(path.stat().st_size, path)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError, onnx's own about external data
        raise BadInput(f"{path}: no ONNX model ({error})", "a whole ONNX file", "copy or export it again") from error
    graph = model.graph
    if not (graph.node and graph.input and graph.output):  # an empty file parses
        raise BadInput(f"{path}: no ONNX model (it holds no graph)", "a whole ONNX file", "copy or export it again")
    return model


def require_valid(model: onnx.ModelProto, what: str, fix: str) -> None:
    """Raises BadInput if onnx's checker, which infers shapes and types too, refuses a model."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx's own, and of shape inference
        raise BadInput(f"{what}: no valid ONNX ({first_line(error)})", "a graph that onnx's checker accepts",
                       fix) from error  # fmt: skip
