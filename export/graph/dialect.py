"""Which int8 dialect a QDQ graph is written in, and whether an engine reads it exactly.

What TensorRT does with the dialects of others is in `qdq_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ...artifact.store import is_artifact
from ...errors import BadDialect, command

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Dialect:
    """What a QDQ graph holds.

    `zero_points` are the ONNX types of quantized tensors ("uint8", "int8", "int32").
    """

    zero_points: tuple[str, ...]
    quantized_bias: bool

    @property
    def quantized(self) -> bool:
        """True if the graph holds any QuantizeLinear or DequantizeLinear."""
        return bool(self.zero_points) or self.quantized_bias


def read_dialect(model: onnx.ModelProto) -> Dialect:
    """Read the zero points of every QuantizeLinear and DequantizeLinear."""
    constants = constants_of(model.graph)
    types: set[str] = set()
    bias = False
    for node in model.graph.node:
        if node.op_type not in QUANTIZERS:
            continue
        quantized = constants.get(node.input[0])
        if quantized is not None and quantized.data_type == TensorProto.INT32:
            bias = True
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        kind = quantized_type(node, zero, quantized)
        types |= {TensorProto.DataType.Name(kind).lower()} if kind else set()
    return Dialect(tuple(sorted(types)), bias)


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers and the tensors of Constant nodes, by name."""
    nodes = (node for node in graph.node if node.op_type == "Constant")
    held = {node.output[0]: attribute.t for node in nodes for attribute in node.attribute if attribute.name == "value"}
    return held | {tensor.name: tensor for tensor in graph.initializer}


def quantized_type(
    node: onnx.NodeProto, zero: onnx.TensorProto | None, quantized: onnx.TensorProto | None
) -> int | None:
    """ONNX type of the quantized side, None where another node's says it: a zero point may be left out."""
    if zero is not None:
        return zero.data_type
    if node.op_type == "DequantizeLinear":
        return quantized.data_type if quantized is not None else None
    asked = next((attribute.i for attribute in node.attribute if attribute.name == "output_dtype"), 0)
    return asked or TensorProto.UINT8


def check_for_tensorrt(model: onnx.ModelProto, name: str) -> Dialect:
    """Refuse a graph that TensorRT would read wrongly: `preflight`'s errors about quantizers, as one error.

    Args:
        name: the artifact's folder, or what the graph is.

    Raises:
        BadDialect: uint8 or shifted quantizers, int32 biases, bad scales, stray quantized constants.
    """
    from .preflight import dialect_errors, summary  # which reads dialects with this file

    errors = dialect_errors(model)
    if errors:
        doctor = command("doctor", name if is_artifact(name) else "ARTIFACT", backend="tensorrt_rtx", fix=True)
        raise BadDialect(
            f"{name}: this int8 graph has {' and '.join(summary(errors))}",
            "symmetric int8 activations, float biases, finite scales above 0",
            f"rewrite it: `{doctor}`; better, quantize the fp32 artifact "
            "for TensorRT: `tiffin quantize FP32_ARTIFACT --precision int8 --scheme tensorrt`",
        )
    return read_dialect(model)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Those that are given, by name, as ONNX has them: words are bytes."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def axis_of(node: onnx.NodeProto) -> int:
    """Along which a QuantizeLinear or DequantizeLinear with several scales has them; 1 is ONNX's default."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def dequantize(values: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int) -> np.ndarray:
    """`(q − zero point) · scale` in float32, then in the scale's type, as ONNX Runtime computes it.

    Args:
        zero: None for 0.
        axis: along which several scales lie.
    """
    shape = spread(scale.size, axis, values.ndim)
    steps = values.astype(np.int32)
    if zero is not None:
        steps = steps - zero.astype(np.int32).reshape(shape)
    return np.asarray(steps.astype(np.float32) * scale.astype(np.float32).reshape(shape), scale.dtype)


def spread(count: int, axis: int, dimensions: int) -> list[int]:
    """Shape in which `count` scales lie along `axis`; `[]` for a single one."""
    return [-1 if place == axis % dimensions else 1 for place in range(dimensions)] if count > 1 else []
