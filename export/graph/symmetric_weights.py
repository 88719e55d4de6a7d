"""uint8 and shifted weights of a layer → symmetric int8, each output channel with a scale of its own."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .dialect import axis_of, spread
from .float_bias import dequantized
from .layers import LAYERS
from .quantizers import FACTORS, QdqGraph, Quantizer, free_name, numbers


def is_weight_of(graph: QdqGraph, restore: Quantizer) -> bool:
    """Whether it is the DequantizeLinear of a stored weight that only layers read, all in the same place."""
    if restore.quantizes or restore.constant is None or not restore.sound:
        return False
    if restore.kind not in (TensorProto.UINT8, TensorProto.INT8) or restore.node.output[0] not in graph.main:
        return False
    readers = graph.readers.get(restore.node.output[0], [])
    axes = {_channel_axis(node, place, len(restore.constant.dims)) for node, place in readers}
    return restore.node.output[0] not in graph.outputs and len(axes) == 1 and None not in axes


def rewrite_weight(raw: onnx.GraphProto, graph: QdqGraph, restore: Quantizer, names: set[str]) -> bool:
    """Give a weight's DequantizeLinear new constants. True if they stand for the very same values."""
    assert restore.constant is not None and restore.scale is not None
    stored = numbers(restore.constant)
    shift = spread(restore.scale.size, axis_of(restore.node), stored.ndim)
    zero = 0 if restore.zero is None else restore.zero.astype(np.int32).reshape(shift)
    moved = stored.astype(np.int32) - zero
    exact = bool(moved.min() >= -128 and moved.max() <= 127) if moved.size else True
    axis = axis_of(restore.node) if restore.scale.size > 1 else None
    values, scale = moved.astype(np.int8), restore.scale
    if not exact:
        reader, place = graph.readers[restore.node.output[0]][0]
        axis = _channel_axis(reader, place, stored.ndim)
        values, scale = _rounded(dequantized(stored, restore), axis)
    _put(raw, restore.node, (values, scale, np.zeros(scale.shape, np.int8)), axis, names)
    return exact


def _channel_axis(node: onnx.NodeProto, place: int, dimensions: int) -> int | None:
    """Along which of a weight's axes the outputs lie; None where it is no weight."""
    if node.op_type not in LAYERS or place not in FACTORS:
        return None
    if node.op_type == "MatMul":
        return dimensions - 1 if place == 1 else max(dimensions - 2, 0)
    if place != 1:
        return None
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if transposed else 1}[node.op_type]


def _rounded(values: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 of ±127 and its scales, over the whole tensor or along `axis`; float64 within."""
    wide = values.astype(np.float64)
    over = None if axis is None else tuple(place for place in range(wide.ndim) if place != axis)
    most = np.abs(wide).max(axis=over)
    # A channel of zeros has no range; any scale holds it.
    scale = np.where(most > 0, most / 127, 1.0).astype(values.dtype)
    spread_out = np.asarray(scale, np.float64).reshape(spread(scale.size, axis or 0, wide.ndim))
    return np.clip(np.rint(wide / spread_out), -127, 127).astype(np.int8), np.asarray(scale)


def _put(
    raw: onnx.GraphProto, node: onnx.NodeProto, arrays: tuple[np.ndarray, ...], axis: int | None, names: set[str]
) -> None:
    stem = node.output[0]
    for place, (word, value) in enumerate(zip(("quantized", "scale", "zero_point"), arrays, strict=True)):
        name = free_name(names, f"{stem}_symmetric_{word}")
        raw.initializer.append(numpy_helper.from_array(value, name))
        if place < len(node.input):
            node.input[place] = name
        else:
            node.input.append(name)
    for attribute in [attribute for attribute in node.attribute if attribute.name == "axis"]:
        node.attribute.remove(attribute)
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
