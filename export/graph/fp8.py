"""int8 QDQ graph → the same graph with 8-bit floats (E4M3FN): its places and ranges, weights from the float parent.

Format and use: Micikevicius et al. 2022, arXiv 2209.05433: E4M3 for inference, scaled so that the greatest value meets
the format's, 448; ONNX: QuantizeLinear since opset 19, which saturates. Activations have one scale a tensor, weights
one a channel. ONNX Runtime's own fp8 is not used: its scales follow standard deviations, not the ranges asked for.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

from ...errors import BadInput
from .dialect import QUANTIZERS, axis_of, spread
from .quantizers import opset_of

GREATEST = 448.0  # of E4M3FN
OPSET = 19
_INT8 = 127.0  # the greatest integer of symmetric int8


def to_fp8(parent: onnx.ModelProto, quantized: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a symmetric int8 graph in E4M3FN.

    Args:
        parent: the float graph that `quantized` was made from; nodes have the same names in both.
        quantized: symmetric int8 QDQ, per-tensor activations, float biases (scheme "tensorrt"), not yet corrected.

    Raises:
        BadInput: an opset without 8-bit floats, or another parent.
    """
    found = opset_of(quantized)
    if found < OPSET:
        raise BadInput(f"opset {found} has no 8-bit floats", f"opset {OPSET} or newer", "export it again")
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    before = _float_weights(parent.graph, model.graph)
    nodes = [node for node in model.graph.node if node.op_type in QUANTIZERS]
    for name in {node.input[1] for node in nodes if node.input[0] not in held}:
        _set(held[name], (numpy_helper.to_array(held[name]) * np.float32(_INT8 / GREATEST)).astype(np.float32))
    for node in nodes:
        if node.input[0] in held:
            _quantize_weights(node, held, before[node.output[0]])
    for name in {node.input[2] for node in nodes}:
        _set(held[name], np.zeros(tuple(held[name].dims), ml_dtypes.float8_e4m3fn))
    model.graph.ClearField("value_info")
    return model


def round_to_fp8(weights: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights in E4M3FN, to nearest, ties to even, and their scale: the greatest magnitude meets the greatest value.

    Args:
        weights: float32.
        axis: along which each slice has a scale of its own; None for one scale, `()`.
    """
    others = tuple(place for place in range(weights.ndim) if place != axis)
    peak = np.abs(weights).max(others if axis is not None else None)
    # All zeros: any scale holds them. Below the least normal float32, dividing by it would round or overflow.
    scale = np.where(peak > 0, np.maximum(peak / GREATEST, np.finfo(np.float32).tiny), 1).astype(np.float32)
    shape = spread(scale.size, axis, weights.ndim) if axis is not None and scale.ndim else []
    steps = weights / scale.reshape(shape or scale.shape)
    return np.clip(steps, -GREATEST, GREATEST).astype(ml_dtypes.float8_e4m3fn), scale


def _quantize_weights(node: onnx.NodeProto, held: dict[str, onnx.TensorProto], weights: np.ndarray | None) -> None:
    if weights is None or weights.shape != tuple(held[node.input[0]].dims):
        raise BadInput(
            f"{node.name}: no constant of that shape in the float graph", "the graph that it was quantized from"
        )
    many = bool(held[node.input[1]].dims) and held[node.input[1]].dims[0] > 1
    values, scale = round_to_fp8(weights, axis_of(node) % weights.ndim if many else None)
    _set(held[node.input[0]], values)
    _set(held[node.input[1]], scale.reshape(tuple(held[node.input[1]].dims)))


def _float_weights(parent: onnx.GraphProto, quantized: onnx.GraphProto) -> dict[str, np.ndarray | None]:
    """The parent's constant at the place of each tensor that feeds a node of the same name."""
    held = {tensor.name: tensor for tensor in parent.initializer}
    twins = {node.name: node for node in parent.node}
    found: dict[str, np.ndarray | None] = {name: None for node in quantized.node for name in node.output}
    for node in quantized.node:
        inputs = twins[node.name].input if node.name in twins else ()
        for name, before in zip(node.input, inputs, strict=False):
            if before in held and name in found:
                found[name] = numpy_helper.to_array(held[before])
    return found


def _set(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
