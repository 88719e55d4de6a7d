"""Which tensors ONNX Runtime's quantizer rounds, told of the float graph: by its rules, without its calibration.

An operator that it quantizes has what it reads and what it makes rounded, and whoever else reads such a tensor reads it
rounded. An activation behind it is merged with it where zero points allow that; operators that move values alone hand
the grid of their input on (onnxruntime.quantization 1.32, `registry.QDQRegistry` and `operators/`).
"""

from __future__ import annotations

from collections import Counter

import onnx

from ..export.graph.dialect import constants_of
from ..export.graph.layers import LAYERS
from .ptq_ort import left_in_float, operators_of

_MERGED = ("Relu", "Clip")
_HANDED_ON = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Resize", "MaxPool", "AveragePool", "Slice",
              "Pad", "Split", "Gather", "GatherElements", "TopK")  # fmt: skip


def rounded_tensors(model: onnx.ModelProto, symmetric: bool) -> dict[str, str]:
    """Computed tensor → the one over whose range its grid lies: itself, or that which handed its grid on.

    Args:
        symmetric: activations have no zero points, as TensorRT takes them: none is merged then, but what it reads has
            the range of what it makes.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = operators_of(model) or {*QDQRegistry, *QLinearOpsRegistry}
    constants, left = constants_of(model.graph), set(left_in_float(model))
    readers = Counter(name for node in model.graph.node for name in node.input)
    readers.update(output.name for output in model.graph.output)
    grids: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in operators or node.name in left:
            continue
        first, made = node.input[0] if node.input else "", [name for name in node.output if name]
        if node.op_type in _MERGED:
            if first in grids:
                if readers[first] == 1 and symmetric:
                    grids[first] = made[0]
                elif readers[first] == 1:
                    del grids[first]
                grids[made[0]] = made[0]
        elif node.op_type in _HANDED_ON:
            if first in grids:
                grids |= {name: grids[first] for name in made}
        else:
            # Of a layer, weights are rounded, too; a bias is kept in 32 bits.
            read = [name for name in node.input[: 2 if node.op_type in LAYERS else None] if name not in constants]
            grids |= {name: grids.get(name, name) for name in (*filter(None, read), *made)}
    return grids
