"""HardSwish and HardSigmoid → Mul, Add, Clip, Mul: TensorRT-RTX 1.7 parses neither of the two in bfloat16.

hardsigmoid(x) = max(0, min(1, αx + β)) and hardswish(x) = x · max(0, min(1, x/6 + 1/2)): Howard et al. 2019, arXiv
1905.02244, section 5.2.
"""

from __future__ import annotations

import onnx
from onnx import helper

_SLOPE, _MIDDLE = 1 / 6, 0.5  # HardSwish's; HardSigmoid's come as attributes, 1/5 and 1/2 where they are left out


def spell_out(graph: onnx.GraphProto, onnx_type: int) -> tuple[str, ...]:
    """Replace both in place; the names of the nodes that were replaced, which their last node keeps.

    Args:
        onnx_type: of the activations, and so of the constants.
    """
    nodes: list[onnx.NodeProto] = []
    replaced = []
    for node in graph.node:
        if node.op_type not in ("HardSwish", "HardSigmoid"):
            nodes.append(node)
            continue
        replaced.append(node.name)
        nodes += _spelled(graph, node, onnx_type)
    graph.ClearField("node")
    graph.node.extend(nodes)
    return tuple(replaced)


def _spelled(graph: onnx.GraphProto, node: onnx.NodeProto, onnx_type: int) -> list[onnx.NodeProto]:
    name, source, output = node.name, node.input[0], node.output[0]
    given = {each.name: each.f for each in node.attribute}
    swish = node.op_type == "HardSwish"
    slope, middle = (_SLOPE, _MIDDLE) if swish else (given.get("alpha", 0.2), given.get("beta", 0.5))
    values = {"slope": slope, "middle": middle, "zero": 0.0, "one": 1.0}
    for word, value in values.items():
        graph.initializer.append(helper.make_tensor(f"{name}/{word}", onnx_type, [], [value]))
    line, shifted, clipped = (f"{output}/{word}" for word in ("line", "shifted", "clipped"))
    last = clipped if swish else output
    made = [
        helper.make_node("Mul", [source, f"{name}/slope"], [line], f"{name}/line"),
        helper.make_node("Add", [line, f"{name}/middle"], [shifted], f"{name}/shifted"),
        helper.make_node("Clip", [shifted, f"{name}/zero", f"{name}/one"], [last], f"{name}/clip" if swish else name),
    ]
    return [*made, helper.make_node("Mul", [source, clipped], [output], name)] if swish else made
