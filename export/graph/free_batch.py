"""A graph with a fixed batch, freed where its shapes allow: whoever calls this proves that the answers stayed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .dialect import constants_of

BATCH = "batch"


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The only number of rows that its input takes, None if any."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    return axes[0].dim_value if axes and axes[0].dim_value > 0 else None


def freed(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy whose input and outputs take any batch; constants of Reshape that begin with `batch` copy it instead."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    for value in (graph.input[0], *graph.output):
        for axis in value.type.tensor_type.shape.dim[:1]:  # none of a scalar, or where the shape is not told
            axis.dim_param = BATCH
    graph.ClearField("value_info")
    constants = constants_of(graph)
    for place, node in enumerate(graph.node):
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or shape.data_type != TensorProto.INT64:
            continue
        sizes = numpy_helper.to_array(shape).copy()
        if sizes.size and sizes[0] == batch and not any(each.name == "allowzero" and each.i for each in node.attribute):
            sizes[0] = 0  # as in the tensor that is reshaped
            fresh = f"reshape_{place}/any_batch"
            graph.initializer.append(numpy_helper.from_array(np.asarray(sizes, np.int64), fresh))
            node.input[1] = fresh
    return made
