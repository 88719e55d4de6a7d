"""What a graph from elsewhere may not hold: each finding is one error that says what to do."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...errors import BadInput
from .dialect import constants_of, read_dialect
from .layers import LAYERS

_STANDARD = ("", "ai.onnx")
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def require_plain(model: onnx.ModelProto, name: str) -> None:
    """Finite float32 weights, no NaN, no quantizers, nothing resized before the first layer.

    Raises:
        BadInput: the first that is not so, with up to ten nodes or weights.
    """
    if read_dialect(model).quantized or any("Integer" in node.op_type for node in model.graph.node):
        raise BadInput(f"{name}: quantized already", "a float32 graph, from which tiffin makes int8 for each engine",
                       "export the float model: its answers are the measure of every int8")  # fmt: skip
    constants = constants_of(model.graph)
    halves = [key for key, tensor in constants.items() if tensor.data_type in _HALVES]
    if halves:
        raise BadInput(f"{name}: weights in 16 bits ({', '.join(halves[:10])})", "float32 weights",
                       "export the float32 model: `tiffin quantize` makes fp16 of it")  # fmt: skip
    weights = {key for node in model.graph.node if node.op_type in LAYERS for key in node.input}
    floats = {
        key: numpy_helper.to_array(each) for key, each in constants.items() if each.data_type == TensorProto.FLOAT
    }
    # A limit, or what a max pool is padded with, may be infinite.
    wrong = [key for key, held in floats.items() if np.isnan(held).any() or (key in weights and np.isinf(held).any())]
    if wrong:
        raise BadInput(f"{name}: weights hold NaN or infinity: {', '.join(wrong[:10])}", "finite weights",
                       "export again from an earlier checkpoint")  # fmt: skip
    _refuse_resize(model, name)


def require_standard(model: onnx.ModelProto, name: str) -> None:
    """Raises BadInput for operators of one engine or of the user's own; names up to ten."""
    own = {(function.domain, function.name) for function in model.functions}
    odd = [f"{node.name or node.output[0]} ({node.domain}.{node.op_type})" for node in model.graph.node
           if node.domain not in _STANDARD and (node.domain, node.op_type) not in own]  # fmt: skip
    if odd:
        raise BadInput(
            f"{name}: {len(odd)} operators that are no standard ONNX: {', '.join(odd[:10])}",
            "operators of ONNX itself, which every engine reads",
            "export without that operator, or without the optimizer of one engine that put it there",
        )


def _refuse_resize(model: onnx.ModelProto, name: str) -> None:
    """ONNX Runtime, OpenVINO and TensorRT resize otherwise (openvino#35893, TensorRT#3560)."""
    given = {each.name for each in model.graph.initializer}
    reached = {each.name for each in model.graph.input} - given
    for node in model.graph.node:
        if not reached & set(node.input):
            continue
        if node.op_type in LAYERS:
            return
        if node.op_type in ("Resize", "Upsample"):
            raise BadInput(f"{name}: resizes the photo in the graph ({node.name or node.output[0]})",
                           "a network that takes photos of its own size: engines resize otherwise",
                           "export the network without its resize; its size goes into --size")  # fmt: skip
        reached |= set(node.output)
