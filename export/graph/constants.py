"""Constants of a graph as initializers: those that nodes hold, and those that nodes compute from others.

torch's exporter folds small tensors alone. What is left (NF-Nets and BiT standardize their weights at every call, Swin
transposes its tables) costs time on engines that do not fold, and hides weights from whoever looks for them. Other
exporters write scalars as `Constant` nodes, of which all that changes a graph's types would have to know.
"""

from __future__ import annotations

import onnx

_LIMIT = 2**28  # elements of one tensor, far above any weight


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with all constants as initializers, by onnxscript; the same object where they are."""
    constants = {tensor.name for tensor in model.graph.initializer}
    if not any(constants.issuperset(node.input) for node in model.graph.node):
        return model
    import onnx_ir
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    from onnxscript import optimizer

    made, lift = onnx_ir.from_proto(model), LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    lift(made)
    optimizer.fold_constants(made, input_size_limit=_LIMIT, output_size_limit=_LIMIT)
    lift(made)
    return onnx_ir.to_proto(made)
