"""Layer norms as files below opset 17 have them, in nine nodes → LayerNormalization, by onnxscript.

Engines have a kernel for it, and quantizers have to know it to leave it in float: its variance fits no 8-bit grid.
"""

from __future__ import annotations

import onnx
from onnx import helper, shape_inference

from .constants import folded


def fuse_layer_norms(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The graph with those over the last axis fused, and how many; the same answers but for float rounding.

    Args:
        model: at opset 17 or above.
    """
    if not any(node.op_type == "ReduceMean" for node in model.graph.node):
        return model, 0
    import onnx_ir
    from onnxscript.rewriter.rules.fusion._layer_norm import fuse_layer_normalization

    written = onnx.ModelProto()
    written.CopyFrom(model)
    for node in written.graph.node:  # the rule knows no defaults
        if node.op_type == "ReduceMean" and all(each.name != "keepdims" for each in node.attribute):
            node.attribute.append(helper.make_attribute("keepdims", 1))
    made = onnx_ir.from_proto(shape_inference.infer_shapes(folded(written)))
    if not fuse_layer_normalization(made):
        return model, 0
    fused = onnx_ir.to_proto(made)
    return fused, _count(fused) - _count(model)


def _count(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "LayerNormalization" for node in model.graph.node)
