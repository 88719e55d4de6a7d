"""The logits of a foreign graph as its only output, `(N, classes)`, before a softmax; and no node that nobody reads."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from ...errors import BadInput
from .quantizers import drop_unread

_KEEPING = ("Identity", "Flatten", "Reshape", "Squeeze")


def made_by(graph: onnx.GraphProto, output: str) -> onnx.NodeProto | None:
    """The node that computes an output; what only changes its shape is looked through."""
    made = {word: node for node in graph.node for word in node.output}
    node = made.get(output)
    while node is not None and node.op_type in _KEEPING:
        node = made.get(node.input[0])
    return node


def require_logits(graph: onnx.GraphProto, output: str, text: str) -> None:
    """Raises BadInput where an output is made by a sigmoid: each class for itself, several or none of a photo."""
    last = made_by(graph, output)
    if last is not None and last.op_type == "Sigmoid":
        raise BadInput(f"{text} answers with a sigmoid for each class: a photo may be of several, or of none",
                       "logits, of which the largest is the class",
                       "where each photo is of one class, leave the sigmoid out: the order stays")  # fmt: skip


def keep_logits(model: onnx.ModelProto, output: str, rank: int, classes: int, batch: int | None, name: str) -> bool:
    """Make `output` the only one, called `name`, without its softmax; in place. True if there was one.

    Args:
        rank: of the output; what is not `(N, classes)` is flattened to it.
    """
    graph = model.graph
    last = made_by(graph, output)
    softmax = last if last is not None and last.op_type == "Softmax" else None
    if softmax is not None:
        for node in graph.node:
            node.input[:] = [softmax.input[0] if word == softmax.output[0] else word for word in node.input]
        output = softmax.input[0] if output == softmax.output[0] else output
        graph.node.remove(softmax)
    graph.node.append(helper.make_node("Identity" if rank == 2 else "Flatten", [output], [name]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch or "batch", classes]))
    drop_unread(graph)
    if rank == 2:
        _rename(graph, output, name)
    return softmax is not None


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Without the Identity where one node alone makes the output."""
    if not any(old in node.output for node in graph.node):
        return
    graph.node.remove(next(node for node in graph.node if node.op_type == "Identity" and node.output[0] == new))
    for node in graph.node:
        node.input[:] = [new if word == old else word for word in node.input]
        node.output[:] = [new if word == old else word for word in node.output]
