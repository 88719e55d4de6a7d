"""fp32 graph → strongly typed fp16 or bf16 graph.

The prologue stays float32 (its cast, scale and shift are exact there) and the logits leave as float32; all between
is computed in the 16-bit type. TensorRT reads such graphs as they are.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .canonical import PROLOGUE

_TYPES = {"fp16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
_BF16_OPSET = 22


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A typed copy of a float32 model.

    Args:
        precision: "fp16" or "bf16".
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    onnx_type, dtype = _TYPES[precision]
    graph = half.graph
    kept = {name for node in graph.node if node.name in PROLOGUE for name in node.input}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    graph.ClearField("value_info")
    _cast_after_prologue(graph, onnx_type)
    _cast_logits(graph)
    if precision == "bf16":  # Conv takes bfloat16 since opset 22; what else is in the graph did not change
        next(entry for entry in half.opset_import if not entry.domain).version = _BF16_OPSET
    return half


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
