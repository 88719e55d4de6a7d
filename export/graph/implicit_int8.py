"""QDQ graph → float graph and a TensorRT 10 calibration cache: the only int8 that a DLA takes.

Jetson's DLA runs int8 of untyped networks alone («Working with DLA», TensorRT 10 developer guide): the scales of our
QuantizeLinear nodes become a calibration cache, so that nothing is calibrated again. The cache's form is a header with
the version and the calibrator, then `tensor: float32 bits in hexadecimal`, one line each.
"""

from __future__ import annotations

import re
import struct

import onnx
from onnx import numpy_helper

from .dialect import QUANTIZERS, axis_of, constants_of, dequantize
from .quantizers import drop_unread


def implicit_int8(model: onnx.ModelProto, version: str) -> tuple[onnx.ModelProto, bytes]:
    """A copy without Q/DQ nodes, and the scales of its activations; no bytes where nothing is quantized.

    Args:
        version: of TensorRT, such as "10.3.0".
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph = plain.graph
    constants = constants_of(graph)
    scales: dict[str, float] = {}
    same: dict[str, str] = {}  # what a Q/DQ node gives → the tensor that it rounds
    for node in [node for node in graph.node if node.op_type in QUANTIZERS]:
        source = same.get(node.input[0], node.input[0])
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            graph.initializer.append(_floats(node, constants))
        else:
            same[node.output[0]] = source
            scales[source] = float(numpy_helper.to_array(constants[node.input[1]]).reshape(-1)[0])
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    renamed = _keep_outputs(graph, same)
    drop_unread(graph)
    graph.ClearField("value_info")
    lines = [f"{renamed.get(name, name)}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    header = f"TRT-{_number(version)}-EntropyCalibration2"
    return plain, "\n".join([header, *lines, ""]).encode() if scales else b""


def _floats(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> onnx.TensorProto:
    integers, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
    return numpy_helper.from_array(dequantize(integers, scale, None, axis_of(node)), node.output[0])


def _keep_outputs(graph: onnx.GraphProto, same: dict[str, str]) -> dict[str, str]:
    """An output that a DequantizeLinear gave is now given by what went into its pair."""
    renamed = {same[output.name]: output.name for output in graph.output if output.name in same}
    for node in graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return renamed


def _number(version: str) -> int:
    """10.3.0 is 100300, as `getInferLibVersion` counts."""
    major, minor, patch = (int(re.sub(r"\D.*", "", part) or 0) for part in (version.split(".") + ["0", "0"])[:3])
    return major * 10_000 + minor * 100 + patch
