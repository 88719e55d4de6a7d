"""Constants of a graph as initializers: those that nodes hold, and those that nodes compute from others.

torch's exporter folds small tensors alone. What is left (NF-Nets and BiT standardize their weights at every call, Swin
transposes its tables) costs time on engines that do not fold, and hides weights from whoever looks for them. Other
exporters write scalars as `Constant` nodes, of which all that changes a graph's types would have to know.
"""

from __future__ import annotations

import onnx

from ...errors import BadInput, first_line

_LIMIT = 2**28  # elements of one tensor, far above any weight


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its constants as initializers, by onnxscript; the same object where they are.

    Those in the bodies of If and Loop alone are left.

    Raises:
        BadInput: a tensor of a kind that onnx_ir does not read, such as a sparse one.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    if not any(constants.issuperset(node.input) for node in model.graph.node):
        return model
    import onnx_ir
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    from onnxscript import optimizer

    try:
        made = onnx_ir.from_proto(model)
    except onnx_ir.serde.SerdeError as error:
        raise BadInput(f"the graph cannot be read: {first_line(error)}", "dense tensors in ONNX's own types") from error
    lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    lift(made)
    optimizer.fold_constants(made, input_size_limit=_LIMIT, output_size_limit=_LIMIT)
    lift(made)
    return onnx_ir.to_proto(made)
