"""Nodes that compute constants from constants are computed once: so a standardized weight is a weight to a quantizer.

torch's exporter folds small tensors alone. What is left (NF-Nets and BiT standardize their weights at every call, Swin
transposes its tables) costs time on engines that do not fold, and hides weights from whoever looks for them.
"""

from __future__ import annotations

import onnx

_LIMIT = 2**28  # elements of one tensor, far above any weight


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants computed, by onnxscript; the same object where there is nothing to compute."""
    constants = {tensor.name for tensor in model.graph.initializer}
    if not any(node.input and constants.issuperset(node.input) for node in model.graph.node):
        return model
    from onnxscript import optimizer

    made = onnx.ModelProto()
    made.CopyFrom(model)
    optimizer.fold_constants(made, input_size_limit=_LIMIT, output_size_limit=_LIMIT)
    return made
