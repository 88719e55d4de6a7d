"""Checks of the model as a whole: that ONNX itself takes it, its opset, its axes and operators of unknown size."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .finding import Finding, named
from .quantizers import QdqGraph, graphs_of, opset_of

# The RTX parser says so («TensorRT supports ONNX graphs generated with at least opset 7»).
_OLDEST_OPSET = 7
# Loops, conditions and sizes that depend on the data: «stream capture is not possible for all models, especially when
# using data-dependent dynamic shapes or certain on-device control flows» (release notes of TensorRT-RTX 1.2); outputs
# of unknown size go through an IOutputAllocator (the developer guide, «Dynamically Shaped Output»).
_BY_DATA = ("NonZero", "NonMaxSuppression", "Unique", "Compress")
_BRANCHING = ("Loop", "If", "Scan")
_LARGEST = 2**31 - 1  # bytes of a protobuf message


def invalid(model: onnx.ModelProto) -> Finding | None:
    """Why ONNX's own checker, with shapes, or this onnx refuses the model; None where it is sound."""
    newest = onnx.defs.onnx_opset_version()
    if not model.graph.node:
        return Finding("not-onnx", "error", "the file", "it holds no graph", "a whole ONNX file")
    if (opset := opset_of(model)) > newest:
        what = f"opset {opset}, and onnx {onnx.__version__} knows up to {newest}: nothing in it was checked"
        return Finding("opset", "error", "the model", what, "export with an older opset, or upgrade onnx")
    if sum(len(tensor.raw_data) for graph in graphs_of(model.graph) for tensor in graph.initializer) > _LARGEST:
        return Finding(
            "too-large",
            "error",
            "the model",
            "weights over 2 GB",
            "fp16: `tiffin quantize FP32_ARTIFACT --precision fp16`",
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, and what their C++ lets through
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return Finding("invalid-onnx", "error", "the model", line, "export it again")
    return None


def model_findings(model: onnx.ModelProto, graph: QdqGraph) -> Iterator[Finding]:
    """What is said of opset, axes and operators."""
    if (opset := opset_of(model)) < _OLDEST_OPSET:
        what = f"opset {opset}, and TensorRT's parser promises {_OLDEST_OPSET} and newer"
        yield Finding("opset", "warning", "the model", what, f"export with opset {_OLDEST_OPSET} or newer")
    yield from _axes(model.graph)
    for node in graph.nodes:
        yield from _operator(graph, node)


def _axes(graph: onnx.GraphProto) -> Iterator[Finding]:
    """The optimization profile that compiling writes covers axis 0, the batch, and must be that of a fixed one."""
    constants = {tensor.name for tensor in graph.initializer}
    for entry in graph.input:
        if entry.name in constants:
            continue
        for place, axis in enumerate(entry.type.tensor_type.shape.dim):
            if not place and (size := axis.dim_value):
                what, fix = f"its batch is always {size}", f"compile it with --batch {size}:{size}:{size}"
                yield Finding("fixed-batch", "info", f"input {entry.name}", what, fix)
            if place and not axis.HasField("dim_value"):
                called = f" ({axis.dim_param})" if axis.dim_param else ""
                what = f"axis {place}{called} has no fixed size, and the profile covers axis 0 only"
                fix = "give it a size: `onnx.tools.update_model_dims`, or export with one"
                yield Finding("dynamic-axis", "error", f"input {entry.name}", what, fix)


def _operator(graph: QdqGraph, node: onnx.NodeProto) -> Iterator[Finding]:
    if node.op_type in _BY_DATA:
        what = "its output's size depends on the data: allocated at each run, and no CUDA graph"
    elif node.op_type in _BRANCHING:
        what = "control flow on the GPU: a CUDA graph may not be captured"
    elif node.op_type == "Resize" and any(name and name not in graph.held for name in node.input[1:]):
        what = "its output's size is computed in the graph: no CUDA graph where it depends on the data"
    else:
        return
    yield Finding("slow-operator", "warning", named(node), what, "fixed sizes, or run this part outside of the engine")
