"""fp32 graph → strongly typed fp16 or bf16 graph.

The prologue stays float32 (its cast, scale and shift are exact there); float inputs come and outputs leave as float32;
all between is computed in the 16-bit type. TensorRT reads such graphs as they are. In an int8 QDQ graph what is not
quantized becomes 16-bit, scales too; weights are rounded again where their scale changed by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import BadInput
from .canonical import PROLOGUE
from .dialect import QUANTIZERS, axis_of, spread
from .hard_swish import spell_out

_TYPES = {"fp16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
_BF16_OPSET = 22


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A typed copy of a float32 model.

    Args:
        model: float, or symmetric int8 QDQ with float biases (scheme "tensorrt").
        precision: "fp16" or "bf16".

    Raises:
        BadInput: a constant is too large for it.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    onnx_type, dtype = _TYPES[precision]
    graph = half.graph
    kept = {name for node in graph.node if node.name in PROLOGUE for name in node.input}
    kept |= {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}  # float32 by ONNX
    kept |= _round_scales(graph, dtype)
    _halve(graph, kept, precision)
    graph.ClearField("value_info")
    _retarget_casts(graph, onnx_type)
    if not _cast_after_prologue(graph, onnx_type):
        _cast_inputs(graph, onnx_type)
    _cast_outputs(graph)
    if precision == "bf16":
        spell_out(graph, onnx_type)
        # Conv takes bfloat16 since opset 22; what else is in the graph did not change
        next(entry for entry in half.opset_import if not entry.domain).version = _BF16_OPSET
    return half


def _halve(graph: onnx.GraphProto, kept: set[str], precision: str) -> None:
    limits, large = {name for node in graph.node if node.op_type == "Clip" for name in node.input[1:]}, []
    for name, tensor in _constants(graph):
        if tensor.data_type != TensorProto.FLOAT or name in kept:
            continue
        values = numpy_helper.to_array(tensor)
        halved = _halved(values, _TYPES[precision][1], name in limits)
        if np.any(np.isfinite(values) & ~np.isfinite(halved)):
            large.append(name)
        tensor.CopyFrom(numpy_helper.from_array(halved, tensor.name))
    if large:
        raise BadInput(f"constants too large for {precision}: {', '.join(large[:5])}",
                       f"at most {float(ml_dtypes.finfo(_TYPES[precision][1]).max):.6g}",
                       "make it bf16, which holds what fp32 does, or leave it fp32")  # fmt: skip


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers, and tensors that nodes such as ConstantOfShape hold, by the name of what they give."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    yield from ((node.output[0], attribute.t) for node in graph.node for attribute in node.attribute)


def _halved(values: np.ndarray, dtype: type, limit: bool) -> np.ndarray:
    """In a 16-bit type. Its greatest value is as far as a Clip limits, and stands for float32's greatest in masks."""
    most = float(ml_dtypes.finfo(dtype).max)
    endless = np.isfinite(values) & (limit | (np.abs(values) == np.finfo(np.float32).max))
    with np.errstate(over="ignore"):  # whoever calls it looks
        return np.where(endless, np.clip(values, -most, most), values).astype(dtype)


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


def _retarget_casts(graph: onnx.GraphProto, onnx_type: int) -> None:
    """What the network itself casts to float32, masks and numbers of places, is of its type too."""
    for node in graph.node:
        if node.op_type == "Cast" and node.name not in PROLOGUE:
            to = next(attribute for attribute in node.attribute if attribute.name == "to")
            to.i = onnx_type if to.i == TensorProto.FLOAT else to.i


def _cast_after_prologue(graph: onnx.GraphProto, onnx_type: int) -> bool:
    """False where there is no prologue; one that stays NHWC lacks its last node."""
    places = [place for place, node in enumerate(graph.node) if node.name in PROLOGUE]
    if not places:
        return False
    source = graph.node[places[-1]].output[0]
    target = f"{source}_half"
    _read_instead(graph, source, target)
    graph.node.insert(places[-1] + 1, helper.make_node("Cast", [source], [target], "preprocess/half", to=onnx_type))
    return True


def _cast_inputs(graph: onnx.GraphProto, onnx_type: int) -> None:
    for place, name in enumerate(_floats(graph.input)):
        _read_instead(graph, name, f"{name}_half")
        graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}_half"], f"input/half_{place}", to=onnx_type))


def _cast_outputs(graph: onnx.GraphProto) -> None:
    for place, name in enumerate(_floats(graph.output)):
        inner, suffix = f"{name}_half", f"_{place}" if place else ""
        _read_instead(graph, name, inner)
        for node in graph.node:
            node.output[:] = [inner if output == name else output for output in node.output]
        cast = helper.make_node("Cast", [inner], [name], f"postprocess/float{suffix}", to=TensorProto.FLOAT)
        graph.node.append(cast)


def _read_instead(graph: onnx.GraphProto, name: str, instead: str) -> None:
    """All readers of a tensor read another one."""
    for node in graph.node:
        node.input[:] = [instead if each == name else each for each in node.input]


def _floats(values: Iterable[onnx.ValueInfoProto]) -> list[str]:
    return [value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT]
