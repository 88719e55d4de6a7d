"""fp32 graph → strongly typed fp16 or bf16 graph.

The prologue stays float32 (its cast, scale and shift are exact there) and the logits leave as float32; all between
is computed in the 16-bit type. TensorRT reads such graphs as they are. In an int8 QDQ graph what is not quantized
becomes 16-bit, scales too; weights are rounded again where their scale changed by that.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .canonical import PROLOGUE
from .dialect import QUANTIZERS, axis_of, spread

_TYPES = {"fp16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
_BF16_OPSET = 22


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A typed copy of a float32 model.

    Args:
        model: float, or symmetric int8 QDQ with float biases (scheme "tensorrt").
        precision: "fp16" or "bf16".
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    onnx_type, dtype = _TYPES[precision]
    graph = half.graph
    kept = {name for node in graph.node if node.name in PROLOGUE for name in node.input}
    kept |= _round_scales(graph, dtype)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    graph.ClearField("value_info")
    _cast_after_prologue(graph, onnx_type)
    _cast_logits(graph)
    if precision == "bf16":  # Conv takes bfloat16 since opset 22; what else is in the graph did not change
        next(entry for entry in half.opset_import if not entry.domain).version = _BF16_OPSET
    return half


def _round_scales(graph: onnx.GraphProto, dtype: type) -> set[str]:
    """Scales of QDQ in the 16-bit type, never 0, which TensorRT refuses; their names."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    done: set[str] = set()
    for node in graph.node:
        if node.op_type not in QUANTIZERS or node.input[1] in done:
            continue
        scale = numpy_helper.to_array(held[node.input[1]])
        rounded = np.clip(scale, _least(dtype), float(ml_dtypes.finfo(dtype).max)).astype(dtype)
        if node.input[0] in held:
            whole = held[node.input[0]]
            values, rounded = regrid(numpy_helper.to_array(whole), scale, rounded, axis_of(node))
            whole.CopyFrom(numpy_helper.from_array(values, whole.name))
        held[node.input[1]].CopyFrom(numpy_helper.from_array(rounded, node.input[1]))
        done.add(node.input[1])
    return done


def regrid(whole: np.ndarray, scale: np.ndarray, rounded: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers on the grid of another scale, within half its step of what they stood for.

    Args:
        whole: int8, symmetric.
        scale: float32, of the whole tensor or of each channel along `axis`.
        rounded: the scale wanted, of a 16-bit type.

    Returns:
        The integers, and the scale: `rounded`, or the next greater value where the outermost integer did not fit.
    """
    shape, limits = spread(scale.size, axis, whole.ndim), np.iinfo(whole.dtype)
    meant = whole * scale.astype(np.float64).reshape(shape or scale.shape)

    def levels(step: np.ndarray) -> np.ndarray:
        return np.rint(meant / step.astype(np.float64).reshape(shape or step.shape))

    found = levels(rounded)
    outside = (found < limits.min) | (found > limits.max)
    others = tuple(place for place in range(whole.ndim) if place != axis % whole.ndim)
    over = outside.any(others) if shape else np.broadcast_to(outside.any(), rounded.shape)
    chosen = np.where(over, np.nextafter(rounded, np.array(np.inf, rounded.dtype)), rounded).astype(rounded.dtype)
    return levels(chosen).astype(whole.dtype), chosen


def _least(dtype: type) -> float:
    """The smallest positive value."""
    return float(ml_dtypes.finfo(dtype).smallest_subnormal)


def _cast_after_prologue(graph: onnx.GraphProto, onnx_type: int) -> None:
    index, last = next((i, node) for i, node in enumerate(graph.node) if node.name == PROLOGUE[-1])
    source, target = last.output[0], f"{last.output[0]}_half"
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == source:
                node.input[position] = target
    graph.node.insert(index + 1, helper.make_node("Cast", [source], [target], "preprocess/half", to=onnx_type))


def _cast_logits(graph: onnx.GraphProto) -> None:
    name = graph.output[0].name
    inner = f"{name}_half"
    for node in graph.node:
        for position, output in enumerate(node.output):
            if output == name:
                node.output[position] = inner
    graph.node.append(helper.make_node("Cast", [inner], [name], "postprocess/float", to=TensorProto.FLOAT))
